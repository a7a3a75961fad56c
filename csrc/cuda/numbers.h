// Types of elements and the arithmetic they are computed in; sums and divisions.
#pragma once

#include <cstdint>
#include <type_traits>

#include "primitives.h"

namespace csta::cuda {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <class Element>
using Arithmetic = std::conditional_t<std::is_same_v<Element, double>, double, float>;

CSTA_DEVICE float widen(float value) { return value; }
CSTA_DEVICE double widen(double value) { return value; }
CSTA_DEVICE float widen(Half value) { return widen_half(value.bits); }
CSTA_DEVICE float widen(BFloat16 value) {
  union {
    uint32_t bits;
    float number;
  } wide{uint32_t{value.bits} << 16};
  return wide.number;
}

template <class Element>
CSTA_DEVICE Element narrow(Arithmetic<Element> value) {
  if constexpr (std::is_same_v<Element, Half>) {
    return {narrow_half(value)};
  } else if constexpr (std::is_same_v<Element, BFloat16>) {
    // To the nearest, ties to even. A NaN stays one: rounding could carry it to infinity.
    union {
      float number;
      uint32_t bits;
    } wide{value};
    if (value != value) return {static_cast<uint16_t>(wide.bits >> 16 | 0x40)};
    return {static_cast<uint16_t>((wide.bits + 0x7fff + (wide.bits >> 16 & 1)) >> 16)};
  } else {
    return value;
  }
}

CSTA_DEVICE int smaller(int a, int b) { return a < b ? a : b; }
CSTA_DEVICE int larger(int a, int b) { return a > b ? a : b; }

// A long sum in pieces of 16 terms, which keeps its rounding error small.
template <class Scalar>
class Sum {
 public:
  CSTA_DEVICE void add(Scalar term) {
    part_ += term;
    if (++terms_ % 16 != 0) return;
    total_ += part_;
    part_ = 0;
  }
  CSTA_DEVICE Scalar value() const { return total_ + part_; }

 private:
  Scalar total_ = 0, part_ = 0;
  int terms_ = 0;
};

}  // namespace csta::cuda
