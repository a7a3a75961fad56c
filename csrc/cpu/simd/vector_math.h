// Horizontal sums, compensated sums, and the exponential.
#pragma once

#include <cmath>
#include <utility>

#include "elements.h"

namespace csta::CSTA_ISA {

// Merges a and b: of each segment of 2 * kHalf lanes the lower (kUpper = 0) or upper half, first of
// a, then of b.
template <int kHalf, int kUpper, class V, int... kLane>
CSTA_INLINE V halves_of(V a, V b, std::integer_sequence<int, kLane...>) {
  constexpr int lanes = sizeof...(kLane);
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b,
                                 (kLane / (2 * kHalf) * 2 * kHalf + kLane % kHalf + kUpper * kHalf +
                                  (kLane % (2 * kHalf) < kHalf ? 0 : lanes))...);
#else  // GCC before 12
  V result;
  for (int lane = 0; lane < lanes; ++lane) {
    const int from = lane / (2 * kHalf) * 2 * kHalf + lane % kHalf + kUpper * kHalf;
    result[lane] = lane % (2 * kHalf) < kHalf ? a[from] : b[from];
  }
  return result;
#endif
}

// Compensated (Kahan) sum: `lost` keeps the rounding error for the next addition. An infinite or
// NaN sum loses nothing.
template <class Scalar>
CSTA_INLINE void add_compensated(Vector<Scalar> partial, Vector<Scalar>& total,
                                 Vector<Scalar>& lost) {
  const Vector<Scalar> wanted = partial - lost, sum = total + wanted;
  const Vector<Scalar> excess = (sum - total) - wanted;
  lost = zero_unless<Scalar>(excess - excess == Vector<Scalar>{}, excess);
  total = sum;
}
// The same for vectors in memory.
template <class Scalar>
CSTA_INLINE void add_compensated(Vector<Scalar> partial, Scalar* total, Scalar* lost) {
  Vector<Scalar> sum = load(total), rest = load(lost);
  add_compensated<Scalar>(partial, sum, rest);
  store(total, sum);
  store(lost, rest);
}

template <class Scalar>
struct VectorPair {
  Vector<Scalar> first, second;
};

// Horizontal sums of kLanes rows at once: lane i is the sum over the lanes of row i. pair(i, j)
// returns rows i and j. Depth-first, which keeps few vectors alive.
template <class Scalar, int kFirst = 0, int kStep = 1, class Pair>
CSTA_INLINE Vector<Scalar> sum_each_pair(const Pair& pair) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<Scalar>>{};
  VectorPair<Scalar> rows;
  if constexpr (2 * kStep == kLanes<Scalar>) {
    rows = pair(kFirst, kFirst + kStep);
  } else {
    rows.first = sum_each_pair<Scalar, kFirst, 2 * kStep>(pair);
    rows.second = sum_each_pair<Scalar, kFirst + kStep, 2 * kStep>(pair);
  }
  return halves_of<kStep, 0>(rows.first, rows.second, lanes) +
         halves_of<kStep, 1>(rows.first, rows.second, lanes);
}

// The same with row(i) for single rows.
template <class Scalar, class Row>
CSTA_INLINE Vector<Scalar> sum_each(const Row& row) {
  return sum_each_pair<Scalar>([&](int i, int j) CSTA_LAMBDA_INLINE {
    const Vector<Scalar> first = row(i);
    return VectorPair<Scalar>{first, row(j)};
  });
}

template <class Scalar, int kHalf = kLanes<Scalar> / 2>
CSTA_INLINE Scalar sum_lanes(Vector<Scalar> value) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<Scalar>>{};
  value = halves_of<kHalf, 0>(value, value, lanes) + halves_of<kHalf, 1>(value, value, lanes);
  if constexpr (kHalf > 1) {
    return sum_lanes<Scalar, kHalf / 2>(value);
  } else {
    return value[0];
  }
}

template <class Scalar>
CSTA_INLINE Scalar largest_lane(Vector<Scalar> value) {
  Scalar largest = value[0];
  for (int lane = 1; lane < kLanes<Scalar>; ++lane) {
    largest = value[lane] > largest ? value[lane] : largest;
  }
  return largest;
}

// e^x within an ulp or so for x <= 0, subnormal results included; NaN stays NaN.
CSTA_INLINE Vector<float> exponential(Vector<float> x) {
  const Vector<float> lowest = splat(-110.0f);  // underflows to zero
  x = select<float>(x < lowest, lowest, x);
  const Vector<float> shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23 rounds to an integer
  const Vector<float> k = shifted - 12582912.0f;
  Vector<float> r = x - k * 0.693359375f;  // ln 2 in two parts, the first exact
  r = r + k * 2.12194440e-4f;
  // Minimax polynomial of e^r on |r| <= ln 2 / 2 (Cephes expf).
  Vector<float> p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  // 2^k in two factors, so that subnormal results keep their bits.
  const Mask<float> exponent = (Mask<float>)shifted - 0x4b400000;
  const Mask<float> first = exponent >> 1;
  const Vector<float> a = (Vector<float>)((first + 127) << 23);
  const Vector<float> b = (Vector<float>)((exponent - first + 127) << 23);
  return p * a * b;
}
CSTA_INLINE Vector<double> exponential(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::exp(x[lane]);
  return x;
}

// Adds one partial sum to a compensated total; the first one initialises it.
template <class Scalar>
CSTA_INLINE void add_partial(bool is_first, Vector<Scalar> partial, Vector<Scalar>& sums,
                             Vector<Scalar>& lost) {
  if (is_first) {
    sums = partial;
  } else {
    add_compensated<Scalar>(partial, sums, lost);
  }
}

}  // namespace csta::CSTA_ISA
