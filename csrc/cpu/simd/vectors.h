// SIMD vectors of one width per instruction set, by the compiler's vector extension: one source for
// AVX-512, AVX2 and other processors. Included by isa/kernels_*.cpp only, which define CSTA_ISA (a
// namespace per instruction set) and CSTA_VECTOR_BYTES.
#pragma once

#include <cstdint>

#include "../../integers.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CSTA_INLINE inline __attribute__((always_inline))
#define CSTA_LAMBDA_INLINE __attribute__((always_inline))
#define CSTA_NOINLINE __attribute__((noinline))
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

CSTA_INLINE int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
CSTA_INLINE int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

// Calls function(k) for k in [0, count): unrolled if kCount gives the number, a loop if it is 0.
template <int kCount, class Function>
CSTA_INLINE void for_count(int64_t count, const Function& function) {
  if constexpr (kCount > 0) {
    CSTA_UNROLL
    for (int k = 0; k < kCount; ++k) function(int64_t{k});
  } else {
    for (int64_t k = 0; k < count; ++k) function(k);
  }
}

// Keeps the value in a register from here on. Without it GCC delays long chains of additions and
// spills their inputs.
template <class V>
CSTA_INLINE void keep_in_register([[maybe_unused]] V& value) {
#if (CSTA_VECTOR_BYTES == 64 && defined(__AVX512F__)) || \
    (CSTA_VECTOR_BYTES == 32 && defined(__AVX__)) ||     \
    (CSTA_VECTOR_BYTES == 16 && defined(__SSE2__))
  asm volatile("" : "+x"(value));
#endif
}

// Broadcast as a difference, which the compiler recognises; 0 + value would turn -0 into 0.
template <class Scalar>
CSTA_INLINE Vector<Scalar> splat(Scalar value) {
  return value - Vector<Scalar>{};
}
template <class Scalar>
CSTA_INLINE Vector<Scalar> zero_unless(Mask<Scalar> mask, Vector<Scalar> value) {
  return (Vector<Scalar>)((Mask<Scalar>)value & mask);
}
// mask ? a : b
template <class Scalar>
CSTA_INLINE Vector<Scalar> select(Mask<Scalar> mask, Vector<Scalar> a, Vector<Scalar> b) {
  return (Vector<Scalar>)(((Mask<Scalar>)a & mask) | ((Mask<Scalar>)b & ~mask));
}
// All ones in the first `count` lanes.
template <class Scalar>
CSTA_INLINE Mask<Scalar> first_lanes(int64_t count) {
  Mask<Scalar> mask;
  for (int lane = 0; lane < kLanes<Scalar>; ++lane) mask[lane] = lane < count ? -1 : 0;
  return mask;
}

}  // namespace csta::CSTA_ISA
