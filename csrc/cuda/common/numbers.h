// Element types, their compute dtype, vectors of N numbers, and sums with small rounding error.
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
    return {narrow_bfloat16(value)};
  } else {
    return value;
  }
}

CSTA_DEVICE int min(int a, int b) { return a < b ? a : b; }
CSTA_DEVICE int max(int a, int b) { return a > b ? a : b; }

// Vector of N contiguous numbers, loaded and stored as one where aligned: to its size, at most 16
// bytes.
template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Vec {
  static constexpr int kCount = N;

  T values[N];

  static CSTA_DEVICE bool is_aligned(const T* address) {
    return reinterpret_cast<uintptr_t>(address) % alignof(Vec) == 0;
  }
  static CSTA_DEVICE Vec load(const T* address) { return *reinterpret_cast<const Vec*>(address); }
  static CSTA_DEVICE Vec load_unaligned(const T* address) {
    Vec vec;
#pragma unroll
    for (int k = 0; k < N; ++k) vec.values[k] = address[k];
    return vec;
  }
  CSTA_DEVICE void store(T* address) const { *reinterpret_cast<Vec*>(address) = *this; }
  // Number of elements in front of the first aligned one.
  static CSTA_DEVICE int prefix(const T* address) {
    const int misplaced = static_cast<int>(reinterpret_cast<uintptr_t>(address) % alignof(Vec));
    return (static_cast<int>(alignof(Vec)) - misplaced) % static_cast<int>(alignof(Vec)) /
           static_cast<int>(sizeof(T));
  }
};

// 16 bytes: the widest load and store.
template <class T>
using Vec16 = Vec<T, 16 / static_cast<int>(sizeof(T))>;

// Sum of term(0) to term(count - 1) with small rounding error: a pairwise tree over 8 terms, then
// up to 8 such blocks, then those. The terms of a block are independent.
template <class Scalar, class Term>
CSTA_DEVICE Scalar sum_of(int count, const Term& term) {
  Scalar total = 0;
  int i = 0;
#pragma unroll 1
  while (i + 8 <= count) {
    Scalar partial = 0;
    const int end = min(count, i + 64);
#pragma unroll 1
    for (; i + 8 <= end; i += 8) {
      Scalar terms[8];
#pragma unroll
      for (int k = 0; k < 8; ++k) terms[k] = term(i + k);
#pragma unroll
      for (int apart = 1; apart < 8; apart *= 2) {
#pragma unroll
        for (int k = 0; k < 8; k += 2 * apart) terms[k] += terms[k + apart];
      }
      partial += terms[0];
    }
    total += partial;
  }
  Scalar tail = 0;
#pragma unroll 1
  for (; i < count; ++i) tail += term(i);
  return total + tail;
}

// The same, starting at term `first` and wrapping around.
template <class Scalar, class Term>
CSTA_DEVICE Scalar sum_from(int first, int count, const Term& term) {
  const Scalar sum = sum_of<Scalar>(count - first, [&](int i) { return term(first + i); });
  return first == 0 ? sum : sum + sum_of<Scalar>(first, term);
}

}  // namespace csta::cuda
