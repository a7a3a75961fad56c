// CPU operators: x comes from PyTorch's stack, goes to the kernels of cpu/dispatch.cpp as a
// pointer, and y or the gradient of x returns on the stack.

#include <atomic>
#include <exception>

#include "arguments.h"
#include "cpu/kernels.h"
#include "cpu/scratch.h"

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
  Tensor x = arguments.tensor();
  HeadTensors frame_head(arguments), joint_head(arguments);
  Masks masks(arguments);
  const Choices choices(arguments);

  Problem problem = problem_of(x, frame_head.groups());
  masks.apply(problem);
  choices.apply(problem);
  const Head frames = frame_head.view(problem), joints = joint_head.view(problem);
  x = std::move(x).in_layout(problem.channels_last);
  Tensor y = like(x, problem);
  AttentionTensors attention(problem);
  kernels_of(problem).forward(problem, {&frames, &joints, {}, {}}, x.data(), y.mutable_data(),
                              {attention.frames.mutable_data(), attention.joints.mutable_data()});
  stack[0] = result(y);
  stack[1] = result(attention.frames);
  stack[2] = result(attention.joints);
}

void csta_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  Upstream upstream(arguments);
  Tensor x = arguments.tensor();
  HeadTensors frame_head(arguments), joint_head(arguments);
  Tensor frame_attention = arguments.tensor(), joint_attention = arguments.tensor();
  Masks masks(arguments);
  const Choices choices(arguments);
  const bool input_gradient = arguments.boolean();

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
  stack[0] = result(grad_x);
  int index = 1;
  for (HeadGradientTensors* head : {&frame_gradients, &joint_gradients}) {
    for (Tensor* gradient : {&head->w1, &head->b1, &head->w2, &head->b2}) {
      stack[index++] = result(*gradient);
    }
  }
}

void couple(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  Tensor x = arguments.tensor();
  Tensor frame_logits = arguments.tensor(), joint_logits = arguments.tensor();
  Masks masks(arguments);
  const Choices choices(arguments);

  require(frame_logits.dim() == 3, "frame_logits: wanted (N, G, T)");
  Problem problem = problem_of(x, frame_logits.size(1));
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
  stack[0] = result(y);
  stack[1] = result(attention.frames);
  stack[2] = result(attention.joints);
}

void couple_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  Upstream upstream(arguments);
  Tensor x = arguments.tensor();
  Tensor frame_attention = arguments.tensor(), joint_attention = arguments.tensor();
  // The logits are inputs for the second derivative only; backward needs nothing but their softmax.
  const Tensor frame_logits = arguments.tensor(), joint_logits = arguments.tensor();
  Masks masks(arguments);
  const Choices choices(arguments);
  const bool input_gradient = arguments.boolean();

  require(frame_attention.dim() == 3, "frame attention: wanted (N, G, T)");
  Problem problem = problem_of(x, frame_attention.size(1));
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
  stack[0] = result(grad_x);
  stack[1] = result(gradients.frames);
  stack[2] = result(gradients.joints);
}

void pool(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  Tensor x = arguments.tensor();
  Masks masks(arguments);

  Problem problem = problem_of(x, 1);
  masks.apply(problem);
  x = std::move(x).in_layout(problem.channels_last);
  const int64_t frame_sizes[] = {problem.samples, problem.channels, problem.frames};
  const int64_t joint_sizes[] = {problem.samples, problem.channels, problem.joints};
  Tensor frame_means = Tensor::empty(3, frame_sizes, x.torch_dtype());
  Tensor joint_means = Tensor::empty(3, joint_sizes, x.torch_dtype());
  kernels_of(problem).pool(problem, x.data(), frame_means.mutable_data(),
                           joint_means.mutable_data());
  stack[0] = result(frame_means);
  stack[1] = result(joint_means);
}

void pool_backward(StackValue* stack, uint64_t, uint64_t) {
  Arguments arguments(stack);
  Tensor frames = arguments.tensor(), joints = arguments.tensor();
  Masks masks(arguments);
  const bool channels_last = arguments.boolean();

  require(frames.dim() == 3 && joints.dim() == 3 && frames.size(0) == joints.size(0) &&
              frames.size(1) == joints.size(1) && frames.dtype() == joints.dtype(),
          "gradients: wanted (N, C, T) and (N, C, V) of one dtype");
  const int64_t sizes[] = {frames.size(0), frames.size(1), frames.size(2), joints.size(2)};
  frames = std::move(frames).in_layout(false);
  joints = std::move(joints).in_layout(false);
  Tensor grad_x = Tensor::empty(4, sizes, frames.torch_dtype(), channels_last);
  Problem problem = problem_of(grad_x, 1);
  masks.apply(problem);
  kernels_of(problem).pool_backward(problem, frames.data(), joints.data(), grad_x.mutable_data());
  stack[0] = result(grad_x);
}

void instruction_set_code(StackValue* stack, uint64_t, uint64_t) {
  stack[0] = static_cast<StackValue>(instruction_set());
}

struct Operation {
  const char* name;
  BoxedKernel kernel;
};

// Their schemas are in csta_fast/operators/signature.py.
constexpr Operation kOperations[] = {
    {"csta", in_memory<csta>},     {"csta_backward", in_memory<csta_backward>},
    {"pool", in_memory<pool>},     {"pool_backward", in_memory<pool_backward>},
    {"couple", in_memory<couple>}, {"couple_backward", in_memory<couple_backward>},
};

const bool kRegistered = [] {
  LibraryHandle schemas = nullptr, cpu = nullptr, any = nullptr;
  CSTA_ABI(aoti_torch_library_init_def("csta_fast", __FILE__, __LINE__, &schemas));
  CSTA_ABI(aoti_torch_library_init_impl("csta_fast", "CPU", __FILE__, __LINE__, &cpu));
  CSTA_ABI(aoti_torch_library_init_impl("csta_fast", "CompositeExplicitAutograd", __FILE__,
                                        __LINE__, &any));
  for (const Operation& operation : kOperations) {
    CSTA_ABI(torch_library_impl(cpu, operation.name, operation.kernel, kAbiVersion));
  }
  CSTA_ABI(aoti_torch_library_def(schemas, "instruction_set() -> int"));
  CSTA_ABI(torch_library_impl(any, "instruction_set", instruction_set_code, kAbiVersion));
  return true;
}();

}  // namespace
}  // namespace csta
