// From a call's dtype to the kernel that is compiled for it.
#pragma once

#include "kernels.h"
#include "numbers.h"

namespace csta::cuda {

// Launches the kernel that `kernel_for` has for elements of this dtype.
template <class KernelFor>
int launch_for(Dtype dtype, const Call& call, void* stream, const KernelFor& kernel_for) {
  const auto launch_with = [&](auto element) {
    return launch(kernel_for(element), shape_of(call), call, stream);
  };
  switch (dtype) {
    case Dtype::float32: return launch_with(float{});
    case Dtype::float64: return launch_with(double{});
    case Dtype::float16: return launch_with(Half{});
    case Dtype::bfloat16: return launch_with(BFloat16{});
  }
  return 1;
}

// The same for common samples, which are not of float64.
template <class KernelFor>
int launch_for_planes(Dtype dtype, const Call& call, void* stream, const KernelFor& kernel_for) {
  const auto launch_with = [&](auto element) {
    return launch(kernel_for(element), shape_of(call), call, stream);
  };
  switch (dtype) {
    case Dtype::float16: return launch_with(Half{});
    case Dtype::bfloat16: return launch_with(BFloat16{});
    default: return launch_with(float{});
  }
}

}  // namespace csta::cuda
