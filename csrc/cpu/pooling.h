// Operator pool: one pass reads x and writes the means; its backward writes grad_x from the means'
// gradients.
#pragma once

#include "split.h"

namespace csta::CSTA_ISA {

// Stores the means of one axis of sample n to [N, C, length].
template <class Element, class Scalar = Arithmetic<Element>>
CSTA_NOINLINE void write_means(const AxisState<Scalar>& state, int64_t channels, int64_t n,
                               Element* to) {
  const int64_t length = state.axis.length;
  for (int64_t channel = 0; channel < channels; ++channel) {
    Element* row = to + (n * channels + channel) * length;
    for (int64_t i = 0; i < length; i += kLanes<Scalar>) {
      store_some(row + i, load(state.means + channel * state.axis.stride + i),
                 min(kLanes<Scalar>, length - i));
    }
  }
}

// Loads the means' gradients, divided by the number of valid positions of the other axis.
template <class Element, class Scalar = Arithmetic<Element>>
CSTA_NOINLINE void load_grad_means(const Element* from, int64_t channels, int64_t n,
                                   const Axis& other, AxisState<Scalar>& state) {
  const int64_t length = state.axis.length;
  const Scalar inverse_count = Scalar{1} / static_cast<Scalar>(max(other.valid_count, 1));
  for (int64_t channel = 0; channel < channels; ++channel) {
    const Element* row = from + (n * channels + channel) * length;
    for (int64_t i = 0; i < length; i += kLanes<Scalar>) {
      store(state.grad_means + channel * state.axis.stride + i,
            load_some(row + i, min(kLanes<Scalar>, length - i)) * inverse_count);
    }
  }
}

template <class Passes>
void pool(const Problem& problem, const void* x_data, void* frame_means, void* joint_means) {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;
  const Sizes sizes = sizes_of<Scalar>(problem, {}, true);
  const int64_t elements = sample_elements(problem);
  const auto* x = static_cast<const Element*>(x_data);
  const Element* limit = x + problem.samples * elements;
  const auto write = [&](const Sample<Scalar>& sample, int64_t n) {
    write_means(sample.frames, problem.channels, n, static_cast<Element*>(frame_means));
    write_means(sample.joints, problem.channels, n, static_cast<Element*>(joint_means));
  };
  if constexpr (Passes::kSplits) {
    if (wants_split(problem)) {
      SplitCall<Passes> call(problem, sizes, false);
      call.for_channels(limit, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
        passes.pool(x + n * elements, call.sample(n), begin, end);
      });
      for (int64_t n = 0; n < problem.samples; ++n) write(call.sample(n), n);
      return;
    }
  }
  for_each_sample<Passes>(problem, sizes, false, [&](Stage<Passes>& stage) {
    stage.passes.begin(stage.sample, limit);
    stage.passes.pool(x + stage.n * elements, stage.sample, 0, Passes::units(problem));
    write(stage.sample, stage.n);
  });
}

template <class Passes>
void pool_backward(const Problem& problem, const void* grad_frame_means,
                   const void* grad_joint_means, void* grad_x_data) {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;
  if (is_empty(problem)) return;
  const Sizes sizes = sizes_of<Scalar>(problem, {}, true);
  const int64_t channels = problem.channels, elements = sample_elements(problem);
  auto* grad_x = static_cast<Element*>(grad_x_data);
  const auto* of_frames = static_cast<const Element*>(grad_frame_means);
  const auto* of_joints = static_cast<const Element*>(grad_joint_means);
  for_each_sample<Passes>(problem, sizes, true, [&](Stage<Passes>& stage) {
    Sample<Scalar>& sample = stage.sample;
    stage.passes.begin(sample, nullptr);
    load_grad_means(of_frames, channels, stage.n, sample.joints.axis, sample.frames);
    load_grad_means(of_joints, channels, stage.n, sample.frames.axis, sample.joints);
    stage.passes.pool_backward(sample, 0, Passes::units(problem), grad_x + stage.n * elements);
  });
}

}  // namespace csta::CSTA_ISA
