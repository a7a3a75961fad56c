// Step 1 by itself, and its gradient.
#pragma once

#include "split.h"

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
  const Element* limit = x + problem.samples * elements;
  if constexpr (Passes::kSplits) {
    if (wants_split(problem)) {
      SplitCall<Passes> call(problem, sizes, false);
      call.for_channels(limit, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
        passes.pool(x + n * elements, call.sample(n), begin, end);
      });
      for (int64_t n = 0; n < problem.samples; ++n) {
        put(call.sample(n).frames, n, frame_means);
        put(call.sample(n).joints, n, joint_means);
      }
      return;
    }
  }
  for_each(problem, problem.samples, elements, [&](int64_t first, int64_t last) {
    Pipeline<Passes>(problem, sizes, false)
        .run(
            first, last,
            [&](Stage<Passes>& stage) {
              stage.sample.describe(problem, stage.n);
              stage.passes.begin(stage.sample, limit);
            },
            [&](Stage<Passes>& stage, int64_t begin, int64_t end) {
              stage.passes.pool(x + stage.n * elements, stage.sample, begin, end);
            },
            [&](Stage<Passes>& stage, bool) {
              put(stage.sample.frames, stage.n, frame_means);
              put(stage.sample.joints, stage.n, joint_means);
            },
            [](Stage<Passes>&, int64_t, int64_t) {});
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
    Pipeline<Passes>(problem, sizes, true)
        .run(
            first, last,
            [&](Stage<Passes>& stage) {
              stage.sample.describe(problem, stage.n);
              stage.passes.begin(stage.sample, nullptr);
            },
            [](Stage<Passes>&, int64_t, int64_t) {},
            [&](Stage<Passes>& stage, bool) {
              const Sample<Scalar>& sample = stage.sample;
              get(sample.frames, sample.joints.axis, stage.n, grad_frame_means);
              get(sample.joints, sample.frames.axis, stage.n, grad_joint_means);
            },
            [&](Stage<Passes>& stage, int64_t begin, int64_t end) {
              stage.passes.spread_means(stage.sample, begin, end, grad_x + stage.n * elements);
            });
  });
}

}  // namespace csta::CSTA_ISA
