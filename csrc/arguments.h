// Arguments of an operation: from PyTorch's stack to the structs of problem.h. x arrives as a
// handle and leaves as a pointer. Only what memory safety needs is checked here; the messages that
// a user sees are in csta_fast/checks.py.
#pragma once

#include <cmath>
#include <cstring>
#include <optional>

#include "tensor.h"

namespace csta {

// Takes the arguments off an operator's stack in order; tensors own them. All are taken before
// anything can fail: what a failed call leaves on the stack is never freed.
class Arguments {
 public:
  // `one_place`: every tensor must be on the device of the first.
  explicit Arguments(StackValue* stack, bool one_place = false)
      : next_(stack), one_place_(one_place) {}

  Tensor tensor() { return checked(Tensor(reinterpret_cast<TensorHandle>(*next_++))); }
  Tensor optional_tensor() {
    StackValue* inner = reinterpret_cast<StackValue*>(*next_++);
    if (inner == nullptr) return Tensor();
    return checked(Tensor(reinterpret_cast<TensorHandle>(take(inner))));
  }
  // Device of all tensors, which must be the same.
  Place place() const {
    require(place_ && !mixed_, "wanted all tensors on one device");
    return *place_;
  }
  int64_t integer() { return static_cast<int64_t>(*next_++); }
  bool boolean() { return (*next_++ & 0xff) != 0; }
  std::optional<double> optional_number() {
    StackValue* inner = reinterpret_cast<StackValue*>(*next_++);
    if (inner == nullptr) return std::nullopt;
    const StackValue bits = take(inner);
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

 private:
  static StackValue take(StackValue* inner) {
    const StackValue value = *inner;
    delete inner;
    return value;
  }

  Tensor checked(Tensor tensor) {
    if (!one_place_ || tensor.dim() < 0) return tensor;
    const Place place = tensor.place();
    if (!place_) place_ = place;
    mixed_ = mixed_ || place.type != place_->type || place.index != place_->index;
    return tensor;
  }

  StackValue* next_;
  bool one_place_, mixed_ = false;
  std::optional<Place> place_;
};

inline StackValue result(Tensor& tensor) { return reinterpret_cast<StackValue>(tensor.release()); }

struct Masks {
  Tensor lengths, frame_mask, joint_mask;

  explicit Masks(Arguments& arguments)
      : lengths(arguments.optional_tensor()),
        frame_mask(arguments.optional_tensor()),
        joint_mask(arguments.optional_tensor()) {}

  // Lengths are range-checked on the CPU only: on a GPU that would wait for the device.
  void apply(Problem& problem, bool on_cpu = true) {
    for (Tensor* mask : {&lengths, &frame_mask, &joint_mask}) {
      if (*mask) *mask = std::move(*mask).in_layout(false);
    }
    if (lengths) {
      require(lengths.dim() == 1 && lengths.size(0) == problem.samples &&
                  lengths.torch_dtype() == aoti_torch_dtype_int64(),
              "lengths: wanted int64 of shape (N,)");
      problem.lengths = static_cast<const int64_t*>(lengths.data());
      for (int64_t sample = 0; on_cpu && sample < problem.samples; ++sample) {
        const int64_t length = problem.lengths[sample];
        if (length < 0 || length > problem.frames) {
          throw std::runtime_error("lengths: wanted 0 to T = " + std::to_string(problem.frames) +
                                   ", got " + std::to_string(length) + " for sample " +
                                   std::to_string(sample));
        }
      }
    }
    if (frame_mask) {
      require(frame_mask.dim() == 2 && frame_mask.size(0) == problem.samples &&
                  frame_mask.size(1) == problem.frames &&
                  frame_mask.torch_dtype() == aoti_torch_dtype_bool(),
              "frame_mask: wanted bool of shape (N, T)");
      problem.frame_mask = static_cast<const uint8_t*>(frame_mask.data());
    }
    if (joint_mask) {
      const bool per_sample = joint_mask.dim() == 2 && joint_mask.size(0) == problem.samples;
      require((per_sample || joint_mask.dim() == 1) &&
                  joint_mask.size(joint_mask.dim() - 1) == problem.joints &&
                  joint_mask.torch_dtype() == aoti_torch_dtype_bool(),
              "joint_mask: wanted bool of shape (N, V) or (V,)");
      problem.joint_mask = static_cast<const uint8_t*>(joint_mask.data());
      problem.joint_mask_stride = per_sample ? problem.joints : 0;
    }
  }
};

struct Choices {
  int64_t gate;
  std::optional<double> scale;
  bool residual;

  explicit Choices(Arguments& arguments)
      : gate(arguments.integer()),
        scale(arguments.optional_number()),
        residual(arguments.boolean()) {}

  void apply(Problem& problem) const {
    require(gate == 0 || gate == 1, "gate: wanted 0 (softmax) or 1 (sigmoid)");
    require(!scale || std::isfinite(*scale), "scale: wanted a finite number or none");
    problem.gate = gate == 0 ? Gate::softmax : Gate::sigmoid;
    problem.scale_by_mean = !scale.has_value();
    problem.scale = scale.value_or(1.0);
    problem.residual = residual;
  }
};

inline Problem problem_of(const Tensor& x, int64_t groups) {
  require(x.dim() == 4, "x: wanted (N, C, T, V)");
  Problem problem{};
  problem.samples = x.size(0);
  problem.channels = x.size(1);
  problem.frames = x.size(2);
  problem.joints = x.size(3);
  problem.groups = groups;
  require(groups > 0 && problem.channels % groups == 0, "groups: wanted a divisor of C");
  problem.dtype = x.dtype();
  problem.channels_last = x.is_channels_last();
  return problem;
}

inline int32_t arithmetic_dtype(Dtype dtype) {
  return dtype == Dtype::float64 ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32();
}

struct HeadTensors {
  Tensor w1, b1, w2, b2;

  explicit HeadTensors(Arguments& arguments)
      : w1(arguments.tensor()),
        b1(arguments.tensor()),
        w2(arguments.tensor()),
        b2(arguments.tensor()) {}

  int64_t groups() const {
    require(w2.dim() == 2, "w2: wanted (G, H)");
    return w2.size(0);
  }

  Head view(const Problem& problem) {
    for (Tensor* weight : {&w1, &b1, &w2, &b2}) *weight = std::move(*weight).in_layout(false);
    require(w1.dim() == 2 && w1.size(1) == problem.channels, "w1: wanted (H, C)");
    const int64_t hidden = w1.size(0);
    for (const Tensor* weight : {&w1, &b1, &w2, &b2}) {
      require(weight->dtype() == problem.dtype ||
                  weight->torch_dtype() == arithmetic_dtype(problem.dtype),
              "weights: wanted x's dtype or its arithmetic's");
    }
    require(hidden > 0, "w1: wanted H of at least 1");
    require(b1.dim() == 1 && b1.size(0) == hidden, "b1: wanted (H,)");
    require(groups() == problem.groups && w2.size(1) == hidden, "w2: wanted (G, H)");
    require(b2.dim() == 1 && b2.size(0) == problem.groups, "b2: wanted (G,)");
    return {hidden,
            {w1.data(), w1.dtype()},
            {b1.data(), b1.dtype()},
            {w2.data(), w2.dtype()},
            {b2.data(), b2.dtype()}};
  }
};

struct HeadGradientTensors {
  Tensor w1, b1, w2, b2;

  explicit HeadGradientTensors(const HeadTensors& head)
      : w1(like(head.w1)), b1(like(head.b1)), w2(like(head.w2)), b2(like(head.b2)) {}

  HeadGradients view() {
    return {w1.mutable_data(), b1.mutable_data(), w2.mutable_data(), b2.mutable_data()};
  }

 private:
  static Tensor like(const Tensor& weight) {
    return Tensor::empty(weight.dim(), weight.sizes(), weight.torch_dtype(), false, weight.place());
  }
};

struct AttentionTensors {
  Tensor frames, joints;

  explicit AttentionTensors(const Problem& problem, Place place = Place::cpu()) {
    const int64_t frame_sizes[] = {problem.samples, problem.groups, problem.frames};
    const int64_t joint_sizes[] = {problem.samples, problem.groups, problem.joints};
    frames = Tensor::empty(3, frame_sizes, arithmetic_dtype(problem.dtype), false, place);
    joints = Tensor::empty(3, joint_sizes, arithmetic_dtype(problem.dtype), false, place);
  }
};

inline void check_logits(const Problem& problem, const Tensor& frames, const Tensor& joints) {
  frames.dtype();  // refuses what is none of ours
  joints.dtype();
  require(frames.dim() == 3 && frames.size(0) == problem.samples &&
              frames.size(1) == problem.groups && frames.size(2) == problem.frames,
          "frame_logits: wanted (N, G, T)");
  require(joints.dim() == 3 && joints.size(0) == problem.samples &&
              joints.size(1) == problem.groups && joints.size(2) == problem.joints,
          "joint_logits: wanted (N, G, V)");
}

// Inputs of a backward: the upstream gradients, and the attention that forward returned.
struct Upstream {
  Tensor grad_y, grad_frames, grad_joints;

  explicit Upstream(Arguments& arguments)
      : grad_y(arguments.optional_tensor()),
        grad_frames(arguments.optional_tensor()),
        grad_joints(arguments.optional_tensor()) {}

  // Converts the attention and its gradients to contiguous memory.
  AttentionIn attention(const Problem& problem, Tensor& frames, Tensor& joints) {
    const int32_t dtype = arithmetic_dtype(problem.dtype);
    for (const Tensor* given : {&frames, &grad_frames}) {
      require(!*given || is_attention(*given, problem, problem.frames, dtype),
              "frame attention: wanted (N, G, T)");
    }
    for (const Tensor* given : {&joints, &grad_joints}) {
      require(!*given || is_attention(*given, problem, problem.joints, dtype),
              "joint attention: wanted (N, G, V)");
    }
    for (Tensor* given : {&frames, &joints, &grad_frames, &grad_joints}) {
      if (*given) *given = std::move(*given).in_layout(false);
    }
    return {frames.data(), joints.data(), grad_frames ? grad_frames.data() : nullptr,
            grad_joints ? grad_joints.data() : nullptr};
  }

  const void* of_y() const { return grad_y ? grad_y.data() : nullptr; }

  void match(const Problem& problem) {
    if (!grad_y) return;
    require(grad_y.dim() == 4 && grad_y.dtype() == problem.dtype &&
                grad_y.size(0) == problem.samples && grad_y.size(1) == problem.channels &&
                grad_y.size(2) == problem.frames && grad_y.size(3) == problem.joints,
            "grad_y: wanted x's shape and dtype");
    grad_y = std::move(grad_y).in_layout(problem.channels_last);
  }

 private:
  static bool is_attention(const Tensor& given, const Problem& problem, int64_t length,
                           int32_t dtype) {
    return given.dim() == 3 && given.size(0) == problem.samples &&
           given.size(1) == problem.groups && given.size(2) == length &&
           given.torch_dtype() == dtype;
  }
};

}  // namespace csta
