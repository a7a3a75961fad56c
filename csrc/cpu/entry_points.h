// Entry points of one instruction set: x passes from a void pointer to the Passes class of its
// element type and memory layout. One table per compute dtype, so that two files compile in
// parallel.
#pragma once

#include "backward.h"
#include "forward.h"
#include "layouts/channels_last_any_passes.h"
#include "layouts/channels_last_vectors_passes.h"
#include "layouts/contiguous_passes.h"
#include "layouts/few_channels_passes.h"
#include "pooling.h"

namespace csta::CSTA_ISA {

template <class Passes>
struct Identity {
  using type = Passes;
};

// Calls function with the Passes class that fits the problem.
template <class Scalar, class Function>
void with_passes(const Problem& problem, const Function& function) {
  const auto by_layout = [&](auto element) {
    using Element = decltype(element);
    if (!problem.channels_last) {
      function(Identity<ContiguousPasses<Element>>{});
    } else if (ChannelsLastVectorsPasses<Element>::fit(problem)) {
      function(Identity<ChannelsLastVectorsPasses<Element>>{});
    } else if (FewChannelsPasses<Element>::fit(problem)) {
      function(Identity<FewChannelsPasses<Element>>{});
    } else {
      function(Identity<ChannelsLastAnyPasses<Element>>{});
    }
  };
  if constexpr (std::is_same_v<Scalar, double>) {
    by_layout(double{});
  } else {
    switch (problem.dtype) {
      case Dtype::float32: return by_layout(float{});
      case Dtype::float16: return by_layout(Half{});
      case Dtype::bfloat16: return by_layout(BFloat16{});
      case Dtype::float64: return;  // has a table of its own
    }
  }
}

template <class Scalar>
void forward_entry(const Problem& problem, const LogitSource& source, const void* x, void* y,
                   AttentionOut attention) {
  with_passes<Scalar>(problem, [&](auto passes) {
    Forward<typename decltype(passes)::type>(problem, source, x, y, attention).run();
  });
}

template <class Scalar>
void backward_entry(const Problem& problem, const LogitSource& source, const void* x,
                    const void* grad_y, AttentionIn attention, void* grad_x,
                    const LogitGradients& gradients) {
  with_passes<Scalar>(problem, [&](auto passes) {
    Backward<typename decltype(passes)::type>(problem, source, x, grad_y, attention, grad_x,
                                              gradients)
        .run();
  });
}

template <class Scalar>
void pool_entry(const Problem& problem, const void* x, void* frame_means, void* joint_means) {
  with_passes<Scalar>(problem, [&](auto passes) {
    pool<typename decltype(passes)::type>(problem, x, frame_means, joint_means);
  });
}

template <class Scalar>
void pool_backward_entry(const Problem& problem, const void* grad_frame_means,
                         const void* grad_joint_means, void* grad_x) {
  with_passes<Scalar>(problem, [&](auto passes) {
    pool_backward<typename decltype(passes)::type>(problem, grad_frame_means, grad_joint_means,
                                                   grad_x);
  });
}

template <class Scalar>
inline constexpr Kernels kEntryPoints = {forward_entry<Scalar>, backward_entry<Scalar>,
                                         pool_entry<Scalar>, pool_backward_entry<Scalar>};

}  // namespace csta::CSTA_ISA
