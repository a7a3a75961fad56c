// The CUDA kernels behind the operations.

#include "../arguments.h"
#include "device.h"
#include "job.h"
#include "shim.h"

// The emulated build of the tests has names of its own.
#ifndef CSTA_NAMESPACE
#define CSTA_NAMESPACE "csta_fast_cuda"
#define CSTA_DISPATCH_KEY "CUDA"
#endif

namespace csta::cuda {
namespace {

// Makes a device the current one for as long as it lives.
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

// The operation's device and its tensors there.
class Here {
 public:
  explicit Here(const Arguments& arguments) : place_(arguments.place()), on_device_(place_) {}

  Place place() const { return place_; }
  bool on_cpu() const { return place_.type == aoti_torch_device_type_cpu(); }  // emulated
  Tensor empty(int64_t dim, const int64_t* sizes, int32_t dtype, bool channels_last = false) const {
    return Tensor::empty(dim, sizes, dtype, channels_last, place_);
  }
  Tensor like(const Tensor& x, const Problem& problem) const {
    return empty(4, x.sizes(), x.torch_dtype(), problem.channels_last);
  }
  Tensor gradient_of(const Tensor& x, const Problem& problem, bool wanted) const {
    const int64_t nothing[] = {0};
    return wanted ? like(x, problem) : empty(1, nothing, x.torch_dtype());
  }

  Job job(Task task, const Problem& problem, const Head* frame_head, const Head* joint_head) const {
    std::optional<Job> job =
        Job::make(task, problem, frame_head, joint_head, describe_device(place_.index));
    require(job.has_value(),
            "x: wanted planes and rows that fit the CUDA kernels' 32-bit positions "
            "and shared memory; backend 'triton' or 'reference' takes others");
    return *job;
  }
  void run(Job& job, const Tensors& tensors) const {
    job.set_tensors(tensors);
    const int64_t sizes[] = {job.working_bytes() / 4};
    Tensor memory = empty(1, sizes, aoti_torch_dtype_float32());
    const int error = job.run(memory.mutable_data(), on_device_.stream());
    if (error != 0) throw std::runtime_error(std::string("csta_fast: CUDA: ") + error_text(error));
  }

 private:
  Place place_;
  OnDevice on_device_;
};

// A head's weights, and the same in the arithmetic type.
struct WideHead {
  HeadTensors given;
  Tensor w1, b1, w2, b2;
  Head original, wide;

  WideHead(HeadTensors&& head, const Problem& problem)
      : given(std::move(head)), original(given.view(problem)) {
    const int32_t dtype = arithmetic_dtype(problem.dtype);
    const Dtype arithmetic = problem.dtype == Dtype::float64 ? Dtype::float64 : Dtype::float32;
    const auto widen = [&](Tensor& from, Tensor& copy) -> Weight {
      if (from.torch_dtype() == dtype) return {from.data(), arithmetic};
      copy = Tensor::empty(from.dim(), from.sizes(), dtype, false, from.place());
      copy.copy_from(from);
      return {copy.data(), arithmetic};
    };
    wide = {original.hidden, widen(given.w1, w1), widen(given.b1, b1), widen(given.w2, w2),
            widen(given.b2, b2)};
  }
};

// What the kernels read, with the types of the gradients that they write.
Head typed(const WideHead& head) {
  Head typed = head.wide;
  typed.w1.dtype = head.original.w1.dtype;
  typed.b1.dtype = head.original.b1.dtype;
  typed.w2.dtype = head.original.w2.dtype;
  typed.b2.dtype = head.original.b2.dtype;
  return typed;
}

void* writable(const void* data) { return const_cast<void*>(data); }

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
