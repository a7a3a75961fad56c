// Reductions over the 32 threads of a warp.
#pragma once

#include "primitives.h"

namespace csta::cuda {

template <class Scalar>
CSTA_DEVICE Scalar sum_over_warp(Scalar value) {
  for (int step = 16; step > 0; step /= 2) value += shuffle_xor(value, step);
  return value;
}
template <class Scalar>
CSTA_DEVICE Scalar largest_of_warp(Scalar value) {
  for (int step = 16; step > 0; step /= 2) {
    const Scalar other = shuffle_xor(value, step);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace csta::cuda
