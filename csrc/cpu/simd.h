// Vectors of one width per instruction set, by the compiler's vector extension: the same source
// serves AVX-512, AVX2 and any other processor. Included only by kernels_*.cpp, which define
// CSTA_ISA (the namespace that keeps the instruction sets apart) and CSTA_VECTOR_BYTES.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CSTA_INLINE inline __attribute__((always_inline))
#define CSTA_LAMBDA_INLINE __attribute__((always_inline))
#define CSTA_APART __attribute__((noinline))
#if defined(__clang__)
#define CSTA_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CSTA_UNROLL _Pragma("GCC unroll 16")
#endif

namespace csta::CSTA_ISA {

template <class Scalar>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(CSTA_VECTOR_BYTES)));
  typedef int32_t mask __attribute__((vector_size(CSTA_VECTOR_BYTES)));
  typedef uint16_t half __attribute__((vector_size(CSTA_VECTOR_BYTES / 2)));
  typedef uint32_t bits __attribute__((vector_size(CSTA_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(CSTA_VECTOR_BYTES)));
  typedef int64_t mask __attribute__((vector_size(CSTA_VECTOR_BYTES)));
};

template <class Scalar>
using Vector = typename VectorOf<Scalar>::type;
template <class Scalar>
using Mask = typename VectorOf<Scalar>::mask;
template <class Scalar>
constexpr int kLanes = CSTA_VECTOR_BYTES / static_cast<int>(sizeof(Scalar));

constexpr int64_t kLine = 64;  // bytes of a cache line

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type an element is computed in.
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

CSTA_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
CSTA_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
CSTA_INLINE int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Has the value computed here and kept in a register: left alone, GCC puts off long chains of sums
// and spills all that they wait for.
template <class V>
CSTA_INLINE void settle([[maybe_unused]] V& value) {
#if (CSTA_VECTOR_BYTES == 64 && defined(__AVX512F__)) || \
    (CSTA_VECTOR_BYTES == 32 && defined(__AVX__)) ||     \
    (CSTA_VECTOR_BYTES == 16 && defined(__SSE2__))
  asm volatile("" : "+x"(value));
#endif
}

// By a difference, which the compiler sees through: 0 + value is not value where that is -0.
template <class Scalar>
CSTA_INLINE Vector<Scalar> splat(Scalar value) {
  return value - Vector<Scalar>{};
}
template <class Scalar>
CSTA_INLINE Vector<Scalar> keep(Mask<Scalar> mask, Vector<Scalar> value) {
  return (Vector<Scalar>)((Mask<Scalar>)value & mask);
}
// mask ? a : b
template <class Scalar>
CSTA_INLINE Vector<Scalar> choose(Mask<Scalar> mask, Vector<Scalar> a, Vector<Scalar> b) {
  return (Vector<Scalar>)(((Mask<Scalar>)a & mask) | ((Mask<Scalar>)b & ~mask));
}
// All ones in the first `count` lanes.
template <class Scalar>
CSTA_INLINE Mask<Scalar> first_lanes(int64_t count) {
  Mask<Scalar> mask;
  for (int lane = 0; lane < kLanes<Scalar>; ++lane) mask[lane] = lane < count ? -1 : 0;
  return mask;
}

using Float = Vector<float>;
using Halves = VectorOf<float>::half;
using Bits = VectorOf<float>::bits;

// 16-bit lanes to 32 and back. GCC converts vectors half by half, at twice to three times the cost
// of the instructions that there are.
CSTA_INLINE Bits widen_bits(Halves value) {
#if CSTA_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return (Bits)_mm512_cvtepu16_epi32((__m256i)value);
#elif CSTA_VECTOR_BYTES == 32 && defined(__AVX2__)
  return (Bits)_mm256_cvtepu16_epi32((__m128i)value);
#else
  return __builtin_convertvector(value, Bits);
#endif
}
CSTA_INLINE Halves upper_halves(Bits value) {
#if CSTA_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return (Halves)_mm512_cvtepi32_epi16((__m512i)(value >> 16));
#elif CSTA_VECTOR_BYTES == 32 && defined(__AVX2__)
  const __m256i upper = (__m256i)(value >> 16);
  return (Halves)_mm_packus_epi32(_mm256_castsi256_si128(upper),
                                  _mm256_extracti128_si256(upper, 1));
#else
  return __builtin_convertvector(value >> 16, Halves);
#endif
}

CSTA_INLINE Float widen_bfloat16(Halves value) { return (Float)(widen_bits(value) << 16); }
CSTA_INLINE Halves narrow_bfloat16(Float value) {
  const Bits bits = (Bits)value;
  const Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);       // to nearest, ties to even
  const Bits kept = value == value ? rounded : bits | 0x400000;  // NaN stays, and quiet
  return upper_halves(kept);
}

#if defined(__F16C__)
CSTA_INLINE Float widen_half(Halves value) {
#if CSTA_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return (Float)_mm512_cvtph_ps((__m256i)value);
#elif CSTA_VECTOR_BYTES == 32
  return (Float)_mm256_cvtph_ps((__m128i)value);
#else
  Float wide;
  for (int lane = 0; lane < kLanes<float>; ++lane) wide[lane] = _cvtsh_ss(value[lane]);
  return wide;
#endif
}
CSTA_INLINE Halves narrow_half(Float value) {
#if CSTA_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return (Halves)_mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT);
#elif CSTA_VECTOR_BYTES == 32
  return (Halves)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT);
#else
  Halves narrow;
  for (int lane = 0; lane < kLanes<float>; ++lane) {
    narrow[lane] = _cvtss_sh(value[lane], _MM_FROUND_TO_NEAREST_INT);
  }
  return narrow;
#endif
}
#else
// Without conversion instructions: the exponent is rebiased by a multiplication, which also
// normalises subnormal numbers.
CSTA_INLINE Float widen_half(Halves value) {
  const Bits bits = __builtin_convertvector(value, Bits);
  const Bits magnitude = (bits & 0x7fff) << 13;
  const Bits is_special = (Bits)(magnitude >= (0x7c00u << 13));
  const Float scaled = (Float)magnitude * 0x1p112f;
  const Bits special = magnitude | 0x7f800000u;
  const Bits wide = ((Bits)scaled & ~is_special) | (special & is_special);
  return (Float)(wide | ((bits & 0x8000) << 16));
}
CSTA_INLINE Halves narrow_half(Float value) {
  const Bits bits = (Bits)value;
  const Bits sign = (bits >> 16) & 0x8000;
  const Bits magnitude = bits & 0x7fffffff;
  const Bits is_nan = (Bits)(magnitude > 0x7f800000u);
  const Bits overflows = (Bits)(magnitude >= 0x477ff000u);  // rounds to 65536 or more
  const Bits is_small = (Bits)(magnitude < 0x38800000u);    // below the smallest normal half
  // Adding 0.5 leaves the subnormal's bits, rounded to nearest even, at the bottom.
  const Bits small = (Bits)((Float)magnitude + 0.5f) - 0x3f000000u;
  const Bits normal = (magnitude - 0x38000000u + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  Bits half = (small & is_small) | (normal & ~is_small);
  half = (half & ~overflows) | (0x7c00u & overflows);
  const Bits nan = ((magnitude >> 13) & 0x3ff) | 0x7e00u;
  half = (half & ~is_nan) | (nan & is_nan);
  return __builtin_convertvector(half | sign, Halves);
}
#endif

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

// The vector as it lies in memory for each element type.
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

// Part of a vector: the first `count` elements, zeros in the other lanes.
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

// Stores a vector past the caches; `to` is aligned to the vector's size in memory.
template <class Element>
CSTA_INLINE void stream(Element* to, Vector<Arithmetic<Element>> value) {
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

// Streaming stores are weakly ordered: nobody may read their lines before this.
CSTA_INLINE void finish_streaming() {
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
