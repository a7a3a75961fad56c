// Dispatch from a call's dtype to the kernel compiled for it.
#pragma once

#include "common/numbers.h"
#include "kernels.h"

namespace csta::cuda {

// Launches kernel_for(element) for elements of this dtype; kDoubles: float64 is one of them.
template <bool kDoubles = true, class KernelFor>
int launch_for(Dtype dtype, const CallParams& call, void* stream, const KernelFor& kernel_for) {
  const auto launch_with = [&](auto element) {
    return launch(kernel_for(element), shape_of(call), call, stream);
  };
  switch (dtype) {
    case Dtype::float32: return launch_with(float{});
    case Dtype::float64:
      if constexpr (kDoubles) return launch_with(double{});
      break;
    case Dtype::float16: return launch_with(Half{});
    case Dtype::bfloat16: return launch_with(BFloat16{});
  }
  return 1;
}

}  // namespace csta::cuda
