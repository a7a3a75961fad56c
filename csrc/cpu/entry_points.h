// The table of entry points of one instruction set, by element type and memory layout.
#pragma once

#include "backward.h"
#include "few_channels_passes.h"
#include "forward.h"
#include "interleaved_passes.h"
#include "interleaved_vector_passes.h"
#include "planar_passes.h"
#include "pooling.h"

namespace csta::CSTA_ISA {

template <class Passes>
struct Identity {
  using type = Passes;
};

// Calls function with the passes that fit a problem.
template <class Function>
void with_passes(const Problem& problem, const Function& function) {
  const auto by_layout = [&](auto element) {
    using Element = decltype(element);
    if (!problem.channels_last) {
      function(Identity<PlanarPasses<Element>>{});
    } else if (InterleavedVectorPasses<Element>::fit(problem)) {
      function(Identity<InterleavedVectorPasses<Element>>{});
    } else if (FewChannelsPasses<Element>::fit(problem)) {
      function(Identity<FewChannelsPasses<Element>>{});
    } else {
      function(Identity<InterleavedPasses<Element>>{});
    }
  };
  switch (problem.dtype) {
    case Dtype::float32: return by_layout(float{});
    case Dtype::float64: return by_layout(double{});
    case Dtype::float16: return by_layout(Half{});
    case Dtype::bfloat16: return by_layout(BFloat16{});
  }
}

inline void forward_entry(const Problem& problem, const Scores& scores, const void* x, void* y,
                          AttentionOut attention) {
  with_passes(problem, [&](auto passes) {
    Forward<typename decltype(passes)::type>(problem, scores, x, y, attention).run();
  });
}

inline void backward_entry(const Problem& problem, const Scores& scores, const void* x,
                           const void* grad_y, AttentionIn attention, void* grad_x,
                           const ScoreGradients& gradients) {
  with_passes(problem, [&](auto passes) {
    Backward<typename decltype(passes)::type>(problem, scores, x, grad_y, attention, grad_x,
                                              gradients)
        .run();
  });
}

inline void pool_entry(const Problem& problem, const void* x, void* frame_means,
                       void* joint_means) {
  with_passes(problem, [&](auto passes) {
    pool<typename decltype(passes)::type>(problem, x, frame_means, joint_means);
  });
}

inline void pool_backward_entry(const Problem& problem, const void* grad_frame_means,
                                const void* grad_joint_means, void* grad_x) {
  with_passes(problem, [&](auto passes) {
    pool_backward<typename decltype(passes)::type>(problem, grad_frame_means, grad_joint_means,
                                                   grad_x);
  });
}

inline constexpr Kernels kEntryPoints = {forward_entry, backward_entry, pool_entry,
                                         pool_backward_entry};

}  // namespace csta::CSTA_ISA
