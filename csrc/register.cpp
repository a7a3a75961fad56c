// CPU operators: x comes from PyTorch's stack, goes to the kernels of cpu/dispatch.cpp as a
// pointer, and y or the gradient of x returns on the stack.

#include <atomic>
#include <exception>

#include "cpu/kernels.h"
#include "cpu/scratch.h"
#include "operators.h"

namespace csta {
namespace {

Tensor like(const Tensor& x, const Problem& problem) {
  return Tensor::empty(4, x.sizes(), x.torch_dtype(), problem.channels_last);
}

Tensor gradient_of_x(const Tensor& x, const Problem& problem, bool wanted) {
  const int64_t nothing[] = {0};
  return wanted ? like(x, problem) : Tensor::empty(1, nothing, x.torch_dtype());
}

// Body of a parallel loop: an exception on one of PyTorch's threads, which would become a code, is
// rethrown on the calling thread.
class Shared {
 public:
  Shared(RangeFunction function, void* context) : function_(function), context_(context) {}

  void run(int64_t end, int64_t grain) {
    CSTA_ABI(torch_parallel_for(0, end, grain, run_piece, this));
    if (error_) std::rethrow_exception(error_);
  }

 private:
  static void run_piece(int64_t begin, int64_t end, void* context) {
    auto* self = static_cast<Shared*>(context);
    try {
      self->function_(begin, end, self->context_);
    } catch (...) {
      if (!self->failed_.test_and_set()) self->error_ = std::current_exception();
    }
  }

  RangeFunction function_;
  void* context_;
  std::atomic_flag failed_ = ATOMIC_FLAG_INIT;
  std::exception_ptr error_;
};

Parallel torch_parallel() {
  uint32_t threads = 1;
  CSTA_ABI(torch_get_num_threads(&threads));
  return {static_cast<int>(threads),
          [](int64_t end, int64_t grain, RangeFunction function, void* context) {
            Shared(function, context).run(end, grain);
          }};
}

// Runs the operator; failure to allocate scratch is raised as PyTorch raises it for tensors.
template <BoxedKernel kernel>
void in_memory(StackValue* stack, uint64_t inputs, uint64_t outputs) {
  try {
    kernel(stack, inputs, outputs);
  } catch (const OutOfMemory& error) {
    const int64_t sizes[] = {error.bytes};
    Tensor::empty(1, sizes, aoti_torch_dtype_bool());  // of a byte each
    refuse_memory(Place::cpu(), std::to_string(error.bytes) + " bytes");
  }
}

const Kernels& kernels_of(Problem& problem) {
  problem.parallel = torch_parallel();
  return kernels(problem);
}

void csta(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  auto [x, frame_head, joint_head, masks, choices] = CstaInputs(arguments);

  Problem problem = problem_of(x, frame_head.groups());
  masks.apply(problem);
  choices.apply(problem);
  const Head frames = frame_head.view(problem), joints = joint_head.view(problem);
  x = std::move(x).in_layout(problem.channels_last);
  Tensor y = like(x, problem);
  AttentionTensors attention(problem);
  kernels_of(problem).forward(problem, {&frames, &joints, {}, {}}, x.data(), y.mutable_data(),
                              {attention.frames.mutable_data(), attention.joints.mutable_data()});
  return_results(stack, {&y, &attention.frames, &attention.joints});
}

void csta_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  auto [upstream, x, frame_head, joint_head, frame_attention, joint_attention, masks, choices,
        input_gradient] = CstaBackwardInputs(arguments);

  Problem problem = problem_of(x, frame_head.groups());
  masks.apply(problem);
  choices.apply(problem);
  const Head frames = frame_head.view(problem), joints = joint_head.view(problem);
  x = std::move(x).in_layout(problem.channels_last);
  upstream.match(problem);
  Tensor grad_x = gradient_of_x(x, problem, input_gradient);
  HeadGradientTensors frame_gradients(frame_head), joint_gradients(joint_head);
  kernels_of(problem).backward(problem, {&frames, &joints, {}, {}}, x.data(), upstream.of_y(),
                               upstream.attention(problem, frame_attention, joint_attention),
                               input_gradient ? grad_x.mutable_data() : nullptr,
                               {frame_gradients.view(), joint_gradients.view(), nullptr, nullptr});
  return_gradients(stack, grad_x, frame_gradients, joint_gradients);
}

void couple(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  CoupleInputs inputs(arguments);
  auto& [x, frame_logits, joint_logits, masks, choices] = inputs;

  Problem problem = problem_of(x, inputs.groups());
  check_logits(problem, frame_logits, joint_logits);
  frame_logits = std::move(frame_logits).in_layout(false);
  joint_logits = std::move(joint_logits).in_layout(false);
  masks.apply(problem);
  choices.apply(problem);
  x = std::move(x).in_layout(problem.channels_last);
  Tensor y = like(x, problem);
  AttentionTensors attention(problem);
  const LogitSource source{nullptr,
                           nullptr,
                           {frame_logits.data(), frame_logits.dtype()},
                           {joint_logits.data(), joint_logits.dtype()}};
  kernels_of(problem).forward(problem, source, x.data(), y.mutable_data(),
                              {attention.frames.mutable_data(), attention.joints.mutable_data()});
  return_results(stack, {&y, &attention.frames, &attention.joints});
}

void couple_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  CoupleBackwardInputs inputs(arguments);
  auto& [upstream, x, frame_attention, joint_attention, frame_logits, joint_logits, masks, choices,
         input_gradient] = inputs;

  Problem problem = problem_of(x, inputs.groups());
  check_logits(problem, frame_logits, joint_logits);
  masks.apply(problem);
  choices.apply(problem);
  x = std::move(x).in_layout(problem.channels_last);
  upstream.match(problem);
  Tensor grad_x = gradient_of_x(x, problem, input_gradient);
  AttentionTensors gradients(problem);
  LogitGradients outputs{};
  outputs.frame_logits = gradients.frames.mutable_data();
  outputs.joint_logits = gradients.joints.mutable_data();
  kernels_of(problem).backward(problem, {}, x.data(), upstream.of_y(),
                               upstream.attention(problem, frame_attention, joint_attention),
                               input_gradient ? grad_x.mutable_data() : nullptr, outputs);
  return_results(stack, {&grad_x, &gradients.frames, &gradients.joints});
}

void pool(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  auto [x, masks] = PoolInputs(arguments);

  Problem problem = problem_of(x, 1);
  masks.apply(problem);
  x = std::move(x).in_layout(problem.channels_last);
  const int64_t frame_sizes[] = {problem.samples, problem.channels, problem.frames};
  const int64_t joint_sizes[] = {problem.samples, problem.channels, problem.joints};
  Tensor frame_means = Tensor::empty(3, frame_sizes, x.torch_dtype());
  Tensor joint_means = Tensor::empty(3, joint_sizes, x.torch_dtype());
  kernels_of(problem).pool(problem, x.data(), frame_means.mutable_data(),
                           joint_means.mutable_data());
  return_results(stack, {&frame_means, &joint_means});
}

void pool_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  PoolBackwardInputs inputs(arguments);
  inputs.prepare();
  auto& [frames, joints, masks, channels_last] = inputs;

  const int64_t sizes[] = {frames.size(0), frames.size(1), frames.size(2), joints.size(2)};
  Tensor grad_x = Tensor::empty(4, sizes, frames.torch_dtype(), channels_last);
  Problem problem = problem_of(grad_x, 1);
  masks.apply(problem);
  kernels_of(problem).pool_backward(problem, frames.data(), joints.data(), grad_x.mutable_data());
  return_results(stack, {&grad_x});
}

void instruction_set_code(StackValue* stack, uint64_t, uint64_t) {
  stack[0] = static_cast<StackValue>(instruction_set());
}

const bool kRegistered = [] {
  LibraryHandle schemas = nullptr, cpu = nullptr, any = nullptr;
  CSTA_ABI(aoti_torch_library_init_def("csta_fast", __FILE__, __LINE__, &schemas));
  CSTA_ABI(aoti_torch_library_init_impl("csta_fast", "CPU", __FILE__, __LINE__, &cpu));
  CSTA_ABI(aoti_torch_library_init_impl("csta_fast", "CompositeExplicitAutograd", __FILE__,
                                        __LINE__, &any));
  register_kernels(cpu, {in_memory<csta>, in_memory<csta_backward>, in_memory<pool>,
                         in_memory<pool_backward>, in_memory<couple>, in_memory<couple_backward>});
  CSTA_ABI(aoti_torch_library_def(schemas, "instruction_set() -> int"));
  CSTA_ABI(torch_library_impl(any, "instruction_set", instruction_set_code, kAbiVersion));
  return true;
}();

}  // namespace
}  // namespace csta
