// Loads and stores of vectors for each element type: x in memory to the compute dtype in registers,
// and back.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "half.h"

namespace csta::CSTA_ISA {

constexpr int64_t kCacheLine = 64;  // bytes of a cache line

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Compute dtype of an element.
template <class Element>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class Element>
using Arithmetic = typename ArithmeticOf<Element>::type;

CSTA_INLINE Vector<float> load(const float* from) {
  Vector<float> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
CSTA_INLINE Vector<double> load(const double* from) {
  Vector<double> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
CSTA_INLINE Vector<float> load(const BFloat16* from) {
  Halves value;
  std::memcpy(&value, from, sizeof value);
  return widen_bfloat16(value);
}
CSTA_INLINE Vector<float> load(const Half* from) {
  Halves value;
  std::memcpy(&value, from, sizeof value);
  return widen_half(value);
}

// Converts a vector to its format in memory.
template <class Element>
CSTA_INLINE auto packed(Vector<Arithmetic<Element>> value) {
  if constexpr (sizeof(Element) == sizeof(Arithmetic<Element>)) {
    return value;
  } else if constexpr (std::is_same_v<Element, BFloat16>) {
    return narrow_bfloat16(value);
  } else {
    return narrow_half(value);
  }
}

template <class Element>
CSTA_INLINE void store(Element* to, Vector<Arithmetic<Element>> value) {
  const auto bits = packed<Element>(value);
  std::memcpy(to, &bits, sizeof bits);
}

// Partial load and store: the first `count` elements; the other lanes load zeros.
template <class Element>
CSTA_INLINE Vector<Arithmetic<Element>> load_some(const Element* from, int64_t count) {
  Element buffer[kLanes<Arithmetic<Element>>] = {};
  std::memcpy(buffer, from, static_cast<size_t>(count) * sizeof(Element));
  return load(buffer);
}
template <class Element>
CSTA_INLINE void store_some(Element* to, Vector<Arithmetic<Element>> value, int64_t count) {
  Element buffer[kLanes<Arithmetic<Element>>];
  store(buffer, value);
  std::memcpy(to, buffer, static_cast<size_t>(count) * sizeof(Element));
}

// Nontemporal store, past the caches; `to` is aligned to the vector's size in memory.
template <class Element>
CSTA_INLINE void store_nontemporal(Element* to, Vector<Arithmetic<Element>> value) {
  const auto bits = packed<Element>(value);
#if defined(__x86_64__)
#if defined(__AVX512F__)
  if constexpr (sizeof bits == 64) {
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)bits);
  }
#endif
#if defined(__AVX__)
  if constexpr (sizeof bits == 32) {
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)bits);
  }
#endif
  if constexpr (sizeof bits == 16) {
    return _mm_stream_si128(reinterpret_cast<__m128i*>(to), (__m128i)bits);
  }
#endif
  std::memcpy(to, &bits, sizeof bits);
}

// Nontemporal stores are weakly ordered: this fence comes before any other thread reads them.
CSTA_INLINE void fence_nontemporal_stores() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <class Element>
CSTA_INLINE Arithmetic<Element> to_arithmetic(Element value) {
  if constexpr (sizeof(Element) == sizeof(Arithmetic<Element>)) {
    return value;
  } else {
    return load_some(&value, 1)[0];
  }
}
template <class Element>
CSTA_INLINE Element from_arithmetic(Arithmetic<Element> value) {
  if constexpr (sizeof(Element) == sizeof(Arithmetic<Element>)) {
    return value;
  } else {
    Element narrow;
    store_some(&narrow, splat(value), 1);
    return narrow;
  }
}

}  // namespace csta::CSTA_ISA
