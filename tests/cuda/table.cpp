// Table of the CUDA kernels on the emulator for tests/native/driver.cpp, which checks them without
// PyTorch, so that sanitizers see all of the memory. The driver's three ways to make a call are
// three plans and orders of threads here.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "cpu/kernels.h"
#include "cuda/common/numbers.h"
#include "cuda/invocation.h"
#include "emulator.h"
#include "native/environment.h"

bool stream_results = false;
const bool any_alignment = false;  // vectors of 16 bytes have an order of sums of their own

csta::Parallel split_over(int threads) { return {threads, nullptr}; }

namespace csta {
namespace {

// A small device, so that small samples need clusters, and are read again in part.
constexpr cuda::Device kDevice{2, 8, 24576, 49152};

void choose(const Problem& problem) {
  const int variant = problem.parallel.threads;  // 1, 2 or 5
  emulator::Settings& settings = emulator::settings();
  settings.order = variant == 1   ? emulator::Order::forward
                   : variant == 2 ? emulator::Order::reverse
                                  : emulator::Order::random;
  settings.landing = variant == 1   ? emulator::Landing::late
                     : variant == 2 ? emulator::Landing::at_once
                                    : emulator::Landing::random;
  // Every other case of a dense sample uses the dense kernels, which copy in bulk. The general ones
  // round alike with and without bulk copies.
  cuda::tuning().dense = problem.samples % 2 == 1;
  settings.bulk_copies = cuda::tuning().dense || variant != 2;
  settings.most_shared = static_cast<size_t>(kDevice.shared_of_block);
  cuda::tuning().threads = 64;
  cuda::tuning().chunk_bytes = 1024;
  cuda::tuning().whole_bytes = 4096;
}

// Workspace of exactly its size, full of NaN.
std::unique_ptr<char, decltype(&std::free)> allocate(int64_t bytes) {
  char* memory = static_cast<char*>(std::malloc(static_cast<size_t>(bytes)));
  if (bytes > 0) std::memset(memory, 0xff, static_cast<size_t>(bytes));
  return {memory, &std::free};
}

// Logits in the compute dtype, as the kernels take them.
class Widened {
 public:
  explicit Widened(Dtype dtype) : dtype_(dtype == Dtype::float64 ? dtype : Dtype::float32) {}

  Weight weight(Weight from, int64_t count) {
    if (from.dtype == dtype_) return from;
    const int64_t size = dtype_ == Dtype::float64 ? 8 : 4;
    kept_.push_back(allocate(count * size));
    char* to = kept_.back().get();
    for (int64_t i = 0; i < count; ++i) {
      const double value = read(from, i);
      const auto single = static_cast<float>(value);
      std::memcpy(to + i * size,
                  dtype_ == Dtype::float64 ? static_cast<const void*>(&value) : &single,
                  static_cast<size_t>(size));
    }
    return {to, dtype_};
  }

 private:
  static double read(Weight from, int64_t i) {
    switch (from.dtype) {
      case Dtype::float32: return static_cast<const float*>(from.data)[i];
      case Dtype::float64: return static_cast<const double*>(from.data)[i];
      case Dtype::float16: return cuda::widen(static_cast<const cuda::Half*>(from.data)[i]);
      case Dtype::bfloat16: return cuda::widen(static_cast<const cuda::BFloat16*>(from.data)[i]);
    }
    return 0;
  }

  Dtype dtype_;
  std::vector<std::unique_ptr<char, decltype(&std::free)>> kept_;
};

void* writable(const void* data) { return const_cast<void*>(data); }

void run(cuda::Op op, const Problem& problem, const LogitSource& logits,
         const cuda::Tensors& tensors) {
  choose(problem);
  Widened widened(problem.dtype);
  const bool has_heads = logits.frame_head != nullptr;
  Head heads[2];
  if (has_heads) {
    heads[0] = *logits.frame_head;
    heads[1] = *logits.joint_head;
  }
  std::optional<cuda::Invocation> invocation = cuda::Invocation::make(
      op, problem, has_heads ? heads : nullptr, has_heads ? heads + 1 : nullptr, kDevice);
  if (!invocation) throw std::runtime_error("the call is too large for the kernels");
  if (logits.frame_logits.data != nullptr) {
    const int64_t rows = problem.samples * problem.groups;
    invocation->set_logits(widened.weight(logits.frame_logits, rows * problem.frames).data,
                           widened.weight(logits.joint_logits, rows * problem.joints).data);
  }
  invocation->set_tensors(tensors);
  invocation->run(allocate(invocation->workspace_bytes()).get(), nullptr);
}

void forward(const Problem& problem, const LogitSource& logits, const void* x, void* y,
             AttentionOut attention) {
  run(cuda::Op::forward, problem, logits,
      {x, nullptr, y, {attention.frames, attention.joints}, {}, {}, {}, {}});
}

void backward(const Problem& problem, const LogitSource& logits, const void* x, const void* grad_y,
              AttentionIn attention, void* grad_x, const LogitGradients& gradients) {
  run(cuda::Op::backward, problem, logits,
      {x,
       grad_y,
       grad_x,
       {writable(attention.frames), writable(attention.joints)},
       {attention.grad_frames, attention.grad_joints},
       {gradients.frame_logits, gradients.joint_logits},
       {},
       {gradients.frame_head, gradients.joint_head}});
}

void pool(const Problem& problem, const void* x, void* frame_means, void* joint_means) {
  run(cuda::Op::pool, problem, {},
      {x, nullptr, nullptr, {}, {}, {}, {frame_means, joint_means}, {}});
}

void pool_backward(const Problem& problem, const void* frames, const void* joints, void* grad_x) {
  run(cuda::Op::pool_backward, problem, {},
      {nullptr, nullptr, grad_x, {}, {}, {}, {writable(frames), writable(joints)}, {}});
}

constexpr Kernels kTable{forward, backward, pool, pool_backward};

}  // namespace

const Kernels& kernels(const Problem&) { return kTable; }

}  // namespace csta
