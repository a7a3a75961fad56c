// Conversion of float16 and bfloat16 to float32 and back.
#pragma once

#include "vectors.h"

namespace csta::CSTA_ISA {

using Float = Vector<float>;
using Halves = VectorOf<float>::half;
using Bits = VectorOf<float>::bits;

// Widening and narrowing of 16-bit lanes by intrinsics: GCC converts such vectors in halves, at two
// to three times the cost.
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
  const Bits kept = value == value ? rounded : bits | 0x400000;  // NaN stays NaN, made quiet
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
// No F16C: a multiplication rebiases the exponent and normalises subnormal numbers.
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
  // Adding 0.5 leaves the subnormal's bits, rounded to nearest even, in the low bits.
  const Bits small = (Bits)((Float)magnitude + 0.5f) - 0x3f000000u;
  const Bits normal = (magnitude - 0x38000000u + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  Bits half = (small & is_small) | (normal & ~is_small);
  half = (half & ~overflows) | (0x7c00u & overflows);
  const Bits nan = ((magnitude >> 13) & 0x3ff) | 0x7e00u;
  half = (half & ~is_nan) | (nan & is_nan);
  return __builtin_convertvector(half | sign, Halves);
}
#endif

}  // namespace csta::CSTA_ISA
