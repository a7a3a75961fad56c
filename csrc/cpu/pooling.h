// Step 1 by itself, and its gradient.
#pragma once

#include "worker.h"

namespace csta::CSTA_ISA {

template <class Passes>
void pool(const Problem& problem, const void* x_data, void* frame_means, void* joint_means) {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;
  const Sizes sizes = sizes_of<Scalar>(problem, {}, true);
  const int64_t elements = sample_elements(problem);
  const auto* x = static_cast<const Element*>(x_data);
  const auto put = [&](const AxisState<Scalar>& state, int64_t n, void* to) {
    const int64_t length = state.axis.length;
    for (int64_t channel = 0; channel < problem.channels; ++channel) {
      Element* row = static_cast<Element*>(to) + (n * problem.channels + channel) * length;
      for (int64_t i = 0; i < length; i += kLanes<Scalar>) {
        store_some(row + i, load(state.means + channel * state.axis.stride + i),
                   smaller(kLanes<Scalar>, length - i));
      }
    }
  };
  for_each(problem, problem.samples, elements, [&](int64_t first, int64_t last) {
    Worker<Passes> worker(problem, sizes, false);
    Sample<Scalar>& sample = worker.sample;
    for (int64_t n = first; n < last; ++n) {
      sample.describe(problem, n);
      worker.passes.begin(sample, x + problem.samples * elements);
      worker.passes.pool(x + n * elements, sample, 0, problem.channels);
      put(sample.frames, n, frame_means);
      put(sample.joints, n, joint_means);
    }
  });
}

template <class Passes>
void pool_backward(const Problem& problem, const void* grad_frame_means,
                   const void* grad_joint_means, void* grad_x_data) {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;
  if (is_empty(problem)) return;
  const Sizes sizes = sizes_of<Scalar>(problem, {}, true);
  const int64_t elements = sample_elements(problem);
  auto* grad_x = static_cast<Element*>(grad_x_data);
  const auto get = [&](const AxisState<Scalar>& state, const Axis& other, int64_t n,
                       const void* from) {
    const int64_t length = state.axis.length;
    const Scalar share = Scalar{1} / static_cast<Scalar>(larger(other.real_count, 1));
    for (int64_t channel = 0; channel < problem.channels; ++channel) {
      const Element* row =
          static_cast<const Element*>(from) + (n * problem.channels + channel) * length;
      for (int64_t i = 0; i < length; i += kLanes<Scalar>) {
        store(state.mean_gradients + channel * state.axis.stride + i,
              load_some(row + i, smaller(kLanes<Scalar>, length - i)) * share);
      }
    }
  };
  for_each(problem, problem.samples, elements, [&](int64_t first, int64_t last) {
    Worker<Passes> worker(problem, sizes, true);
    Sample<Scalar>& sample = worker.sample;
    for (int64_t n = first; n < last; ++n) {
      sample.describe(problem, n);
      worker.passes.begin(sample, nullptr);
      get(sample.frames, sample.joints.axis, n, grad_frame_means);
      get(sample.joints, sample.frames.axis, n, grad_joint_means);
      worker.passes.spread_means(sample, grad_x + n * elements);
    }
  });
}

}  // namespace csta::CSTA_ISA
