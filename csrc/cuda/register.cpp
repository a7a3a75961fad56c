// CUDA operators: x comes from PyTorch's stack, goes to an Invocation as a pointer, and y or the
// gradient of x returns on the stack.

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
  stack[0] = result(y);
  stack[1] = result(attention.frames);
  stack[2] = result(attention.joints);
}

void csta(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Tensor x = arguments.tensor();
  HeadTensors frame_tensors(arguments), joint_tensors(arguments);
  Masks masks(arguments);
  const Choices choices(arguments);

  const OpContext context(arguments);
  Problem problem = context.problem(x, frame_tensors.groups(), masks);
  choices.apply(problem);
  const Head frames = frame_tensors.view(problem), joints = joint_tensors.view(problem);
  forward(stack, context, problem, std::move(x),
          context.invocation(Op::forward, problem, &frames, &joints));
}

void couple(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Tensor x = arguments.tensor();
  Tensor frame_logits = arguments.tensor(), joint_logits = arguments.tensor();
  Masks masks(arguments);
  const Choices choices(arguments);

  const OpContext context(arguments);
  require(frame_logits.dim() == 3, "frame_logits: wanted (N, G, T)");
  Problem problem = context.problem(x, frame_logits.size(1), masks);
  choices.apply(problem);
  check_logits(problem, frame_logits, joint_logits);
  const int32_t dtype = arithmetic_dtype(problem.dtype);
  const Tensor frames = std::move(frame_logits).in_dtype(dtype);
  const Tensor joints = std::move(joint_logits).in_dtype(dtype);
  Invocation invocation = context.invocation(Op::forward, problem, nullptr, nullptr);
  invocation.set_logits(frames.data(), joints.data());
  forward(stack, context, problem, std::move(x), invocation);
}

// Inputs of a backward, and grad_x, which is empty if not wanted.
struct Backward {
  Upstream upstream;
  Tensor x, frame_attention, joint_attention, grad_x;

  // `tensors` has the outputs for gradients of weights or logits.
  void run(const OpContext& context, const Problem& problem, Invocation invocation, Tensors tensors,
           bool wanted) {
    x = std::move(x).in_layout(problem.channels_last);
    upstream.match(problem);
    grad_x = context.gradient_of(x, problem, wanted);
    const AttentionIn in = upstream.attention(problem, frame_attention, joint_attention);
    tensors.x = x.data();
    tensors.grad_y = upstream.of_y();
    tensors.out = wanted ? grad_x.mutable_data() : nullptr;
    tensors.attention[kFrames] = writable(in.frames);
    tensors.attention[kJoints] = writable(in.joints);
    tensors.upstream[kFrames] = in.grad_frames;
    tensors.upstream[kJoints] = in.grad_joints;
    context.run(invocation, tensors);
  }
};

void csta_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Backward backward{Upstream(arguments), arguments.tensor(), {}, {}, {}};
  HeadTensors frame_tensors(arguments), joint_tensors(arguments);
  backward.frame_attention = arguments.tensor();
  backward.joint_attention = arguments.tensor();
  Masks masks(arguments);
  const Choices choices(arguments);
  const bool input_gradient = arguments.boolean();

  const OpContext context(arguments);
  Problem problem = context.problem(backward.x, frame_tensors.groups(), masks);
  choices.apply(problem);
  HeadGradientTensors frame_gradients(frame_tensors), joint_gradients(joint_tensors);
  const Head frames = frame_tensors.view(problem), joints = joint_tensors.view(problem);
  Tensors tensors{};
  tensors.weights[kFrames] = frame_gradients.view();
  tensors.weights[kJoints] = joint_gradients.view();
  backward.run(context, problem, context.invocation(Op::backward, problem, &frames, &joints),
               tensors, input_gradient);
  stack[0] = result(backward.grad_x);
  int index = 1;
  for (HeadGradientTensors* head : {&frame_gradients, &joint_gradients}) {
    for (Tensor* gradient : {&head->w1, &head->b1, &head->w2, &head->b2}) {
      stack[index++] = result(*gradient);
    }
  }
}

void couple_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Backward backward{Upstream(arguments), arguments.tensor(), {}, {}, {}};
  backward.frame_attention = arguments.tensor();
  backward.joint_attention = arguments.tensor();
  // The logits are inputs for the second derivative only; backward needs nothing but their softmax.
  const Tensor frame_logits = arguments.tensor(), joint_logits = arguments.tensor();
  Masks masks(arguments);
  const Choices choices(arguments);
  const bool input_gradient = arguments.boolean();

  const OpContext context(arguments);
  require(backward.frame_attention.dim() == 3, "frame attention: wanted (N, G, T)");
  Problem problem = context.problem(backward.x, backward.frame_attention.size(1), masks);
  check_logits(problem, frame_logits, joint_logits);
  choices.apply(problem);
  AttentionTensors gradients(problem, context.place());
  Tensors tensors{};
  tensors.grad_logits[kFrames] = gradients.frames.mutable_data();
  tensors.grad_logits[kJoints] = gradients.joints.mutable_data();
  backward.run(context, problem, context.invocation(Op::backward, problem, nullptr, nullptr),
               tensors, input_gradient);
  stack[0] = result(backward.grad_x);
  stack[1] = result(gradients.frames);
  stack[2] = result(gradients.joints);
}

void pool(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Tensor x = arguments.tensor();
  Masks masks(arguments);

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
  stack[0] = result(frame_means);
  stack[1] = result(joint_means);
}

void pool_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Tensor frames = arguments.tensor(), joints = arguments.tensor();
  Masks masks(arguments);
  const bool channels_last = arguments.boolean();

  const OpContext context(arguments);
  require(frames.dim() == 3 && joints.dim() == 3 && frames.size(0) == joints.size(0) &&
              frames.size(1) == joints.size(1) && frames.dtype() == joints.dtype(),
          "gradients: wanted (N, C, T) and (N, C, V) of one dtype");
  const int64_t sizes[] = {frames.size(0), frames.size(1), frames.size(2), joints.size(2)};
  frames = std::move(frames).in_layout(false);
  joints = std::move(joints).in_layout(false);
  Tensor grad_x = context.empty(4, sizes, frames.torch_dtype(), channels_last);
  const Problem problem = context.problem(grad_x, 1, masks);
  Tensors tensors{};
  tensors.out = grad_x.mutable_data();
  tensors.pooled[kFrames] = writable(frames.data());
  tensors.pooled[kJoints] = writable(joints.data());
  context.run(context.invocation(Op::pool_backward, problem, nullptr, nullptr), tensors);
  stack[0] = result(grad_x);
}

struct Operation {
  const char* name;
  BoxedKernel kernel;
};

// Their schemas are in csta_fast/operators/signature.py.
constexpr Operation kOperations[] = {
    {"csta", csta},     {"csta_backward", csta_backward},
    {"pool", pool},     {"pool_backward", pool_backward},
    {"couple", couple}, {"couple_backward", couple_backward},
};

const bool kRegistered = [] {
  LibraryHandle library = nullptr;
  CSTA_ABI(aoti_torch_library_init_impl(CSTA_NAMESPACE, CSTA_DISPATCH_KEY, __FILE__, __LINE__,
                                        &library));
  for (const Operation& operation : kOperations) {
    CSTA_ABI(torch_library_impl(library, operation.name, operation.kernel, kAbiVersion));
  }
  return true;
}();

}  // namespace
}  // namespace csta::cuda
