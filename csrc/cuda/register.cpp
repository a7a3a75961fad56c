// CUDA operators: x comes from PyTorch's stack, goes to an Invocation as a pointer, and y or the
// gradient of x returns on the stack.

#include "../operators.h"
#include "op_context.h"

// The tests' emulated build registers under other names.
#ifndef CSTA_NAMESPACE
#define CSTA_NAMESPACE "csta_fast_cuda"
#define CSTA_DISPATCH_KEY "CUDA"
#endif

namespace csta::cuda {
namespace {

// Runs csta or couple, and returns y and the attention.
void forward(StackValue* stack, const OpContext& context, const Problem& problem, Tensor&& given,
             Invocation invocation) {
  const Tensor x = std::move(given).in_layout(problem.channels_last);
  Tensor y = context.like(x, problem);
  AttentionTensors attention(problem, context.place());
  Tensors tensors{};
  tensors.x = x.data();
  tensors.out = y.mutable_data();
  tensors.attention[kFrames] = attention.frames.mutable_data();
  tensors.attention[kJoints] = attention.joints.mutable_data();
  context.run(invocation, tensors);
  return_results(stack, {&y, &attention.frames, &attention.joints});
}

void csta(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  auto [x, frame_tensors, joint_tensors, masks, choices] = CstaInputs(arguments);

  const OpContext context(arguments);
  Problem problem = context.problem(x, frame_tensors.groups(), masks);
  choices.apply(problem);
  const Head frames = frame_tensors.view(problem), joints = joint_tensors.view(problem);
  forward(stack, context, problem, std::move(x),
          context.invocation(Op::forward, problem, &frames, &joints));
}

void couple(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  CoupleInputs inputs(arguments);
  auto& [x, frame_logits, joint_logits, masks, choices] = inputs;

  const OpContext context(arguments);
  Problem problem = context.problem(x, inputs.groups(), masks);
  choices.apply(problem);
  check_logits(problem, frame_logits, joint_logits);
  const int32_t dtype = arithmetic_dtype(problem.dtype);
  const Tensor frames = std::move(frame_logits).in_dtype(dtype);
  const Tensor joints = std::move(joint_logits).in_dtype(dtype);
  Invocation invocation = context.invocation(Op::forward, problem, nullptr, nullptr);
  invocation.set_logits(frames.data(), joints.data());
  forward(stack, context, problem, std::move(x), invocation);
}

// Runs csta_backward or couple_backward; `tensors` has the outputs for gradients of weights or
// logits. Returns the gradient of x, which is empty if not wanted.
template <class Inputs>
Tensor backward(Inputs& inputs, const OpContext& context, const Problem& problem,
                Invocation invocation, Tensors tensors) {
  const Tensor x = std::move(inputs.x).in_layout(problem.channels_last);
  inputs.upstream.match(problem);
  Tensor grad_x = context.gradient_of(x, problem, inputs.input_gradient);
  const AttentionIn in =
      inputs.upstream.attention(problem, inputs.frame_attention, inputs.joint_attention);
  tensors.x = x.data();
  tensors.grad_y = inputs.upstream.of_y();
  tensors.out = inputs.input_gradient ? grad_x.mutable_data() : nullptr;
  tensors.attention[kFrames] = writable(in.frames);
  tensors.attention[kJoints] = writable(in.joints);
  tensors.upstream[kFrames] = in.grad_frames;
  tensors.upstream[kJoints] = in.grad_joints;
  context.run(invocation, tensors);
  return grad_x;
}

void csta_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  CstaBackwardInputs inputs(arguments);

  const OpContext context(arguments);
  Problem problem = context.problem(inputs.x, inputs.frame_head.groups(), inputs.masks);
  inputs.choices.apply(problem);
  HeadGradientTensors frame_gradients(inputs.frame_head), joint_gradients(inputs.joint_head);
  const Head frames = inputs.frame_head.view(problem), joints = inputs.joint_head.view(problem);
  Tensors tensors{};
  tensors.weights[kFrames] = frame_gradients.view();
  tensors.weights[kJoints] = joint_gradients.view();
  Tensor grad_x = backward(inputs, context, problem,
                           context.invocation(Op::backward, problem, &frames, &joints), tensors);
  return_gradients(stack, grad_x, frame_gradients, joint_gradients);
}

void couple_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  CoupleBackwardInputs inputs(arguments);

  const OpContext context(arguments);
  Problem problem = context.problem(inputs.x, inputs.groups(), inputs.masks);
  check_logits(problem, inputs.frame_logits, inputs.joint_logits);
  inputs.choices.apply(problem);
  AttentionTensors gradients(problem, context.place());
  Tensors tensors{};
  tensors.grad_logits[kFrames] = gradients.frames.mutable_data();
  tensors.grad_logits[kJoints] = gradients.joints.mutable_data();
  Tensor grad_x = backward(inputs, context, problem,
                           context.invocation(Op::backward, problem, nullptr, nullptr), tensors);
  return_results(stack, {&grad_x, &gradients.frames, &gradients.joints});
}

void pool(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  auto [x, masks] = PoolInputs(arguments);

  const OpContext context(arguments);
  const Problem problem = context.problem(x, 1, masks);
  x = std::move(x).in_layout(problem.channels_last);
  const int64_t frame_sizes[] = {problem.samples, problem.channels, problem.frames};
  const int64_t joint_sizes[] = {problem.samples, problem.channels, problem.joints};
  Tensor frame_means = context.empty(3, frame_sizes, x.torch_dtype());
  Tensor joint_means = context.empty(3, joint_sizes, x.torch_dtype());
  Tensors tensors{};
  tensors.x = x.data();
  tensors.pooled[kFrames] = frame_means.mutable_data();
  tensors.pooled[kJoints] = joint_means.mutable_data();
  context.run(context.invocation(Op::pool, problem, nullptr, nullptr), tensors);
  return_results(stack, {&frame_means, &joint_means});
}

void pool_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  PoolBackwardInputs inputs(arguments);

  const OpContext context(arguments);
  inputs.prepare();
  auto& [frames, joints, masks, channels_last] = inputs;
  const int64_t sizes[] = {frames.size(0), frames.size(1), frames.size(2), joints.size(2)};
  Tensor grad_x = context.empty(4, sizes, frames.torch_dtype(), channels_last);
  const Problem problem = context.problem(grad_x, 1, masks);
  Tensors tensors{};
  tensors.out = grad_x.mutable_data();
  tensors.pooled[kFrames] = writable(frames.data());
  tensors.pooled[kJoints] = writable(joints.data());
  context.run(context.invocation(Op::pool_backward, problem, nullptr, nullptr), tensors);
  return_results(stack, {&grad_x});
}

const bool kRegistered = [] {
  LibraryHandle library = nullptr;
  CSTA_ABI(aoti_torch_library_init_impl(CSTA_NAMESPACE, CSTA_DISPATCH_KEY, __FILE__, __LINE__,
                                        &library));
  register_kernels(library, {csta, csta_backward, pool, pool_backward, couple, couple_backward});
  return true;
}();

}  // namespace
}  // namespace csta::cuda
