// Context of an operator on a GPU: makes x's device current, allocates tensors there, and runs an
// invocation on the current stream.
#pragma once

#include "../arguments.h"
#include "device.h"
#include "invocation.h"
#include "shim.h"

namespace csta::cuda {

// Device guard: makes a device current for its lifetime.
class OnDevice {
 public:
  explicit OnDevice(Place place) : index_(place.index) {
    CSTA_ABI(aoti_torch_create_device_guard(index_, &guard_));
  }
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() { aoti_torch_delete_device_guard(guard_); }

  void* stream() const {
    void* stream = nullptr;
    CSTA_ABI(aoti_torch_get_current_cuda_stream(index_, &stream));
    return stream;
  }

 private:
  int32_t index_;
  GuardHandle guard_ = nullptr;
};

// Device of the operator, and allocation there.
class OpContext {
 public:
  explicit OpContext(const Arguments& arguments) : place_(arguments.place()), on_device_(place_) {
    make_current(place_.index);
  }

  Place place() const { return place_; }
  Tensor empty(int64_t dim, const int64_t* sizes, int32_t dtype, bool channels_last = false) const {
    return Tensor::empty(dim, sizes, dtype, channels_last, place_);
  }
  Problem problem(const Tensor& x, int64_t groups, Masks& masks) const {
    Problem problem = problem_of(x, groups);
    masks.apply(problem, host_sees_values());
    return problem;
  }
  Tensor like(const Tensor& x, const Problem& problem) const {
    return empty(4, x.sizes(), x.torch_dtype(), problem.channels_last);
  }
  Tensor gradient_of(const Tensor& x, const Problem& problem, bool wanted) const {
    const int64_t nothing[] = {0};
    return wanted ? like(x, problem) : empty(1, nothing, x.torch_dtype());
  }

  Invocation invocation(Op op, const Problem& problem, const Head* frame_head,
                        const Head* joint_head) const {
    std::optional<Invocation> invocation =
        Invocation::make(op, problem, frame_head, joint_head, describe_device(place_.index));
    if (!invocation) refuse(problem);
    return *invocation;
  }
  void run(Invocation invocation, const Tensors& tensors) const {
    invocation.set_tensors(tensors);
    const int64_t sizes[] = {invocation.workspace_bytes() / 4};
    Tensor memory = empty(1, sizes, aoti_torch_dtype_float32());
    const int error = invocation.run(memory.mutable_data(), on_device_.stream());
    if (error != 0) throw std::runtime_error(std::string("csta_fast: CUDA: ") + error_text(error));
  }

 private:
  // Python refuses too large calls before this, except in an exported program.
  [[noreturn]] static void refuse(const Problem& problem) {
    std::string sizes;
    for (int64_t size : {problem.samples, problem.channels, problem.frames, problem.joints}) {
      sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
    }
    throw std::runtime_error(
        "csta_fast: x: wanted T V and C (T + V), also with G or H for C, of at most 2^30, and "
        "channels that fit in shared memory, got (N, C, T, V) = (" +
        sizes +
        "); "
        "backend='reference' takes every size, in an exported program if it was exported with it");
  }

  Place place_;
  OnDevice on_device_;
};

inline void* writable(const void* data) { return const_cast<void*>(data); }

}  // namespace csta::cuda
