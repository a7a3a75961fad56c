// Integer division that rounds up, on the host and on the device.
#pragma once

#ifdef __CUDACC__
#define CSTA_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define CSTA_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace csta {

template <class Value, class Divisor>
CSTA_HOST_DEVICE constexpr auto ceil_div(Value value, Divisor divisor) {
  return (value + divisor - 1) / divisor;
}
template <class Value, class Multiple>
CSTA_HOST_DEVICE constexpr auto round_up(Value value, Multiple multiple) {
  return ceil_div(value, multiple) * multiple;
}

}  // namespace csta
