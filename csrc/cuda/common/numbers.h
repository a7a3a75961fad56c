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
    return {narrow_bfloat16(value)};
  } else {
    return value;
  }
}

CSTA_DEVICE int min(int a, int b) { return a < b ? a : b; }
CSTA_DEVICE int max(int a, int b) { return a > b ? a : b; }

// What lies in 16 bytes.
template <class Element>
struct alignas(16) Pack {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(Element));

  Element elements[kCount];

  static CSTA_DEVICE Pack at(const Element* address) {
    return *reinterpret_cast<const Pack*>(address);
  }
  // Elements from an address to the next pack.
  static CSTA_DEVICE int before(const Element* address) {
    const int misplaced = static_cast<int>(reinterpret_cast<uintptr_t>(address) % 16);
    return (16 - misplaced) % 16 / static_cast<int>(sizeof(Element));
  }
};

// Numbers that are read or written at once.
template <class Number, int kCount>
struct alignas(kCount * sizeof(Number) < 16 ? kCount * sizeof(Number) : 16) Several {
  Number of[kCount];
};

// Four numbers that follow each other; a rest of fewer than four is not read by them.
template <class Number>
struct Four {
  Number numbers[4];

  static CSTA_DEVICE bool is_aligned(const Number* address) {
    return reinterpret_cast<uintptr_t>(address) % sizeof(Aligned) == 0;
  }
  static CSTA_DEVICE Four at(const Number* address, bool aligned) {
    Four four;
    if (aligned) {
      constexpr int kParts = sizeof(Four) / sizeof(Aligned);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const Aligned some = reinterpret_cast<const Aligned*>(address)[part];
#pragma unroll
        for (int k = 0; k < 4 / kParts; ++k)
          four.numbers[part * (4 / kParts) + k] = some.numbers[k];
      }
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) four.numbers[k] = address[k];
    }
    return four;
  }

 private:
  static constexpr int kBytes = sizeof(Number) < 4 ? 8 : 16;  // of one load
  struct alignas(kBytes) Aligned {
    Number numbers[kBytes / sizeof(Number)];
  };
};

// A sum of term(0) to term(count - 1), which keeps its rounding error small: pairs, pairs of pairs
// and so on in pieces of 8 terms, then eight pieces, then those. No term of a piece waits for
// another one.
template <class Scalar, class Term>
CSTA_DEVICE Scalar sum_of(int count, const Term& term) {
  Scalar total = 0;
  int i = 0;
#pragma unroll 1
  while (i + 8 <= count) {
    Scalar part = 0;
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
      part += terms[0];
    }
    total += part;
  }
  Scalar rest = 0;
#pragma unroll 1
  for (; i < count; ++i) rest += term(i);
  return total + rest;
}

// The same, from term `first` round to the one before it.
template <class Scalar, class Term>
CSTA_DEVICE Scalar sum_from(int first, int count, const Term& term) {
  const Scalar sum = sum_of<Scalar>(count - first, [&](int i) { return term(first + i); });
  return first == 0 ? sum : sum + sum_of<Scalar>(first, term);
}

}  // namespace csta::cuda
