// The CUDA kernels behind the operations.

#include "here.h"

// The emulated build of the tests has names of its own.
#ifndef CSTA_NAMESPACE
#define CSTA_NAMESPACE "csta_fast_cuda"
#define CSTA_DISPATCH_KEY "CUDA"
#endif

namespace csta::cuda {
namespace {

void csta(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Tensor x = arguments.tensor();
  HeadTensors frame_tensors(arguments), joint_tensors(arguments);
  const Masks masks(arguments);
  const Choices choices(arguments);

  const Here here(arguments);
  Problem problem = problem_of(x, frame_tensors.groups());
  masks.apply(problem, here.on_cpu());
  choices.apply(problem);
  const WideHead frame_head(std::move(frame_tensors), problem);
  const WideHead joint_head(std::move(joint_tensors), problem);
  const Head frames = typed(frame_head), joints = typed(joint_head);
  x = std::move(x).in_layout(problem.channels_last);
  Tensor y = here.like(x, problem);
  AttentionTensors attention(problem, here.place());
  Job job = here.job(Task::forward, problem, &frames, &joints);
  here.run(job, {x.data(),
                 nullptr,
                 y.mutable_data(),
                 {attention.frames.mutable_data(), attention.joints.mutable_data()},
                 {},
                 {},
                 {},
                 {}});
  stack[0] = result(y);
  stack[1] = result(attention.frames);
  stack[2] = result(attention.joints);
}

void csta_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Upstream upstream(arguments);
  Tensor x = arguments.tensor();
  HeadTensors frame_tensors(arguments), joint_tensors(arguments);
  const Tensor frame_attention = arguments.tensor().in_layout(false);
  const Tensor joint_attention = arguments.tensor().in_layout(false);
  const Masks masks(arguments);
  const Choices choices(arguments);
  const bool input_gradient = arguments.boolean();

  const Here here(arguments);
  Problem problem = problem_of(x, frame_tensors.groups());
  masks.apply(problem, here.on_cpu());
  choices.apply(problem);
  HeadGradientTensors frame_gradients(frame_tensors), joint_gradients(joint_tensors);
  const WideHead frame_head(std::move(frame_tensors), problem);
  const WideHead joint_head(std::move(joint_tensors), problem);
  const Head frames = typed(frame_head), joints = typed(joint_head);
  x = std::move(x).in_layout(problem.channels_last);
  upstream.match(problem);
  Tensor grad_x = here.gradient_of(x, problem, input_gradient);
  const AttentionIn attention = upstream.attention(problem, frame_attention, joint_attention);
  Job job = here.job(Task::backward, problem, &frames, &joints);
  here.run(job, {x.data(),
                 upstream.grad_y.data(),
                 input_gradient ? grad_x.mutable_data() : nullptr,
                 {writable(attention.frames), writable(attention.joints)},
                 {attention.grad_frames, attention.grad_joints},
                 {},
                 {},
                 {frame_gradients.view(), joint_gradients.view()}});
  stack[0] = result(grad_x);
  int index = 1;
  for (HeadGradientTensors* head : {&frame_gradients, &joint_gradients}) {
    for (Tensor* gradient : {&head->w1, &head->b1, &head->w2, &head->b2}) {
      stack[index++] = result(*gradient);
    }
  }
}

void couple(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Tensor x = arguments.tensor();
  Tensor frame_logits = arguments.tensor(), joint_logits = arguments.tensor();
  const Masks masks(arguments);
  const Choices choices(arguments);

  const Here here(arguments);
  require(frame_logits.dim() == 3, "frame_logits: wanted (N, G, T)");
  Problem problem = problem_of(x, frame_logits.size(1));
  check_logits(problem, frame_logits, joint_logits);
  masks.apply(problem, here.on_cpu());
  choices.apply(problem);
  const int32_t dtype = arithmetic_dtype(problem.dtype);
  const Tensor frames = std::move(frame_logits).in_dtype(dtype);
  const Tensor joints = std::move(joint_logits).in_dtype(dtype);
  x = std::move(x).in_layout(problem.channels_last);
  Tensor y = here.like(x, problem);
  AttentionTensors attention(problem, here.place());
  Job job = here.job(Task::forward, problem, nullptr, nullptr);
  job.set_logits(frames.data(), joints.data());
  here.run(job, {x.data(),
                 nullptr,
                 y.mutable_data(),
                 {attention.frames.mutable_data(), attention.joints.mutable_data()},
                 {},
                 {},
                 {},
                 {}});
  stack[0] = result(y);
  stack[1] = result(attention.frames);
  stack[2] = result(attention.joints);
}

void couple_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Upstream upstream(arguments);
  Tensor x = arguments.tensor();
  const Tensor frame_attention = arguments.tensor().in_layout(false);
  const Tensor joint_attention = arguments.tensor().in_layout(false);
  // The logits only serve the gradient of this gradient; their softmax is all that counts here.
  const Tensor frame_logits = arguments.tensor(), joint_logits = arguments.tensor();
  const Masks masks(arguments);
  const Choices choices(arguments);
  const bool input_gradient = arguments.boolean();

  const Here here(arguments);
  require(frame_attention.dim() == 3, "frame attention: wanted (N, G, T)");
  Problem problem = problem_of(x, frame_attention.size(1));
  masks.apply(problem, here.on_cpu());
  choices.apply(problem);
  x = std::move(x).in_layout(problem.channels_last);
  upstream.match(problem);
  Tensor grad_x = here.gradient_of(x, problem, input_gradient);
  AttentionTensors gradients(problem, here.place());
  const AttentionIn attention = upstream.attention(problem, frame_attention, joint_attention);
  Job job = here.job(Task::backward, problem, nullptr, nullptr);
  here.run(job, {x.data(),
                 upstream.grad_y.data(),
                 input_gradient ? grad_x.mutable_data() : nullptr,
                 {writable(attention.frames), writable(attention.joints)},
                 {attention.grad_frames, attention.grad_joints},
                 {gradients.frames.mutable_data(), gradients.joints.mutable_data()},
                 {},
                 {}});
  stack[0] = result(grad_x);
  stack[1] = result(gradients.frames);
  stack[2] = result(gradients.joints);
}

void pool(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  Tensor x = arguments.tensor();
  const Masks masks(arguments);

  const Here here(arguments);
  Problem problem = problem_of(x, 1);
  masks.apply(problem, here.on_cpu());
  x = std::move(x).in_layout(problem.channels_last);
  const int64_t frame_sizes[] = {problem.samples, problem.channels, problem.frames};
  const int64_t joint_sizes[] = {problem.samples, problem.channels, problem.joints};
  Tensor frame_means = here.empty(3, frame_sizes, x.torch_dtype());
  Tensor joint_means = here.empty(3, joint_sizes, x.torch_dtype());
  Job job = here.job(Task::pool, problem, nullptr, nullptr);
  here.run(job, {x.data(),
                 nullptr,
                 nullptr,
                 {},
                 {},
                 {},
                 {frame_means.mutable_data(), joint_means.mutable_data()},
                 {}});
  stack[0] = result(frame_means);
  stack[1] = result(joint_means);
}

void pool_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack, true);
  const Tensor frames = arguments.tensor().in_layout(false);
  const Tensor joints = arguments.tensor().in_layout(false);
  const Masks masks(arguments);
  const bool channels_last = arguments.boolean();

  const Here here(arguments);
  require(frames.dim() == 3 && joints.dim() == 3 && frames.size(0) == joints.size(0) &&
              frames.size(1) == joints.size(1) && frames.dtype() == joints.dtype(),
          "gradients: wanted (N, C, T) and (N, C, V) of one dtype");
  const int64_t sizes[] = {frames.size(0), frames.size(1), frames.size(2), joints.size(2)};
  Tensor grad_x = here.empty(4, sizes, frames.torch_dtype(), channels_last);
  Problem problem = problem_of(grad_x, 1);
  masks.apply(problem, here.on_cpu());
  Job job = here.job(Task::pool_backward, problem, nullptr, nullptr);
  here.run(job, {nullptr,
                 nullptr,
                 grad_x.mutable_data(),
                 {},
                 {},
                 {},
                 {writable(frames.data()), writable(joints.data())},
                 {}});
  stack[0] = result(grad_x);
}

struct Operation {
  const char* name;
  BoxedKernel kernel;
};

// Their schemas are in csta_fast/ops.py.
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
