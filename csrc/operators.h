// The operators' inputs, as PyTorch passes them, and their names: the one place of both native
// libraries that knows the order of the arguments. The schemas are made by
// csta_fast/operators/signature.py; members are initialised in the order of their declaration.
#pragma once

#include <initializer_list>
#include <utility>

#include "arguments.h"

namespace csta {

struct CstaInputs {
  Tensor x;
  HeadTensors frame_head, joint_head;
  Masks masks;
  Choices choices;

  explicit CstaInputs(Arguments& arguments)
      : x(arguments.tensor()),
        frame_head(arguments),
        joint_head(arguments),
        masks(arguments),
        choices(arguments) {}
};

struct CstaBackwardInputs {
  Upstream upstream;
  Tensor x;
  HeadTensors frame_head, joint_head;
  Tensor frame_attention, joint_attention;
  Masks masks;
  Choices choices;
  bool input_gradient;

  explicit CstaBackwardInputs(Arguments& arguments)
      : upstream(arguments),
        x(arguments.tensor()),
        frame_head(arguments),
        joint_head(arguments),
        frame_attention(arguments.tensor()),
        joint_attention(arguments.tensor()),
        masks(arguments),
        choices(arguments),
        input_gradient(arguments.boolean()) {}
};

struct CoupleInputs {
  Tensor x, frame_logits, joint_logits;
  Masks masks;
  Choices choices;

  explicit CoupleInputs(Arguments& arguments)
      : x(arguments.tensor()),
        frame_logits(arguments.tensor()),
        joint_logits(arguments.tensor()),
        masks(arguments),
        choices(arguments) {}
  int64_t groups() const {
    require(frame_logits.dim() == 3, "frame_logits: wanted (N, G, T)");
    return frame_logits.size(1);
  }
};

// The logits are inputs for the second derivative only; backward needs nothing but their softmax.
struct CoupleBackwardInputs {
  Upstream upstream;
  Tensor x, frame_attention, joint_attention, frame_logits, joint_logits;
  Masks masks;
  Choices choices;
  bool input_gradient;

  explicit CoupleBackwardInputs(Arguments& arguments)
      : upstream(arguments),
        x(arguments.tensor()),
        frame_attention(arguments.tensor()),
        joint_attention(arguments.tensor()),
        frame_logits(arguments.tensor()),
        joint_logits(arguments.tensor()),
        masks(arguments),
        choices(arguments),
        input_gradient(arguments.boolean()) {}
  int64_t groups() const {
    require(frame_attention.dim() == 3, "frame attention: wanted (N, G, T)");
    return frame_attention.size(1);
  }
};

struct PoolInputs {
  Tensor x;
  Masks masks;

  explicit PoolInputs(Arguments& arguments) : x(arguments.tensor()), masks(arguments) {}
};

struct PoolBackwardInputs {
  Tensor frames, joints;
  Masks masks;
  bool channels_last;

  explicit PoolBackwardInputs(Arguments& arguments)
      : frames(arguments.tensor()),
        joints(arguments.tensor()),
        masks(arguments),
        channels_last(arguments.boolean()) {}
  // Checks the gradients, and brings them into contiguous memory.
  void prepare() {
    require(frames.dim() == 3 && joints.dim() == 3 && frames.size(0) == joints.size(0) &&
                frames.size(1) == joints.size(1) && frames.dtype() == joints.dtype(),
            "gradients: wanted (N, C, T) and (N, C, V) of one dtype");
    frames = std::move(frames).in_layout(false);
    joints = std::move(joints).in_layout(false);
  }
};

// Results of an operator, in order, onto the stack.
inline void return_results(StackValue* stack, std::initializer_list<Tensor*> results) {
  for (Tensor* each : results) *stack++ = result(*each);
}

inline void return_gradients(StackValue* stack, Tensor& grad_x, HeadGradientTensors& frame_head,
                             HeadGradientTensors& joint_head) {
  return_results(stack, {&grad_x, &frame_head.w1, &frame_head.b1, &frame_head.w2, &frame_head.b2,
                         &joint_head.w1, &joint_head.b1, &joint_head.w2, &joint_head.b2});
}

struct OperatorKernels {
  BoxedKernel csta, csta_backward, pool, pool_backward, couple, couple_backward;
};

inline void register_kernels(LibraryHandle library, const OperatorKernels& kernels) {
  const std::pair<const char*, BoxedKernel> named[] = {
      {"csta", kernels.csta},     {"csta_backward", kernels.csta_backward},
      {"pool", kernels.pool},     {"pool_backward", kernels.pool_backward},
      {"couple", kernels.couple}, {"couple_backward", kernels.couple_backward},
  };
  for (const auto& [name, kernel] : named) {
    CSTA_ABI(torch_library_impl(library, name, kernel, kAbiVersion));
  }
}

}  // namespace csta
