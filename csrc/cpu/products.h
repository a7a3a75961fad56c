// Small matrix products of the heads. Right-hand sides and results have rows of `stride` scalars, a
// multiple of kRowAlign; the padding is written, too.
#pragma once

#include "simd/prefetch.h"
#include "simd/vector_math.h"

namespace csta::CSTA_ISA {

// Rows of positions are padded to whole vectors.
template <class Scalar>
constexpr int64_t kRowAlign = kLanes<Scalar>;

// Depth of a block of terms: sums in blocks bound the rounding error.
constexpr int64_t kBlockDepth = 32;

// Keeps NaN, as torch.relu does.
template <class Scalar>
CSTA_INLINE Vector<Scalar> relu(Vector<Scalar> value) {
  return zero_unless<Scalar>(~(value <= Vector<Scalar>{}), value);
}

// Tile of kRows rows × kWidth vectors: out[m][l] = bias[m] + sum_k a[k * a_stride + m] b[k][l].
template <int kRows, int kWidth, bool kRelu, class Scalar>
CSTA_INLINE void product_tile(const Scalar* a, int64_t a_stride, const Scalar* b, int64_t depth,
                              const Scalar* bias, Scalar* out, int64_t stride,
                              Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  Vector<Scalar> total[kRows][kWidth];
  CSTA_UNROLL
  for (int row = 0; row < kRows; ++row) {
    const Vector<Scalar> start = splat(bias == nullptr ? Scalar{0} : bias[row]);
    CSTA_UNROLL
    for (int w = 0; w < kWidth; ++w) total[row][w] = start;
  }
  for (int64_t block = 0; block < depth; block += kBlockDepth) {
    const int64_t block_end = min(depth, block + kBlockDepth);
    Vector<Scalar> sum[kRows][kWidth] = {};
    prefetcher.step();
    for (int64_t k = block; k < block_end; ++k) {
      Vector<Scalar> right[kWidth];
      CSTA_UNROLL
      for (int w = 0; w < kWidth; ++w) right[w] = load(b + k * stride + w * lanes);
      CSTA_UNROLL
      for (int row = 0; row < kRows; ++row) {
        const Vector<Scalar> factor = splat(a[k * a_stride + row]);
        CSTA_UNROLL
        for (int w = 0; w < kWidth; ++w) sum[row][w] += factor * right[w];
      }
    }
    CSTA_UNROLL
    for (int row = 0; row < kRows; ++row) {
      CSTA_UNROLL
      for (int w = 0; w < kWidth; ++w) total[row][w] += sum[row][w];
    }
  }
  CSTA_UNROLL
  for (int row = 0; row < kRows; ++row) {
    CSTA_UNROLL
    for (int w = 0; w < kWidth; ++w) {
      const Vector<Scalar> value = total[row][w];
      store(out + row * stride + w * lanes, kRelu ? relu<Scalar>(value) : value);
    }
  }
}

template <int kRows, bool kRelu, class Scalar>
CSTA_INLINE void product_rows(const Scalar* a, int64_t a_stride, const Scalar* b, int64_t depth,
                              const Scalar* bias, Scalar* out, int64_t stride,
                              Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  int64_t l = 0;
  for (; l + 2 * lanes <= stride; l += 2 * lanes) {
    product_tile<kRows, 2, kRelu>(a, a_stride, b + l, depth, bias, out + l, stride, prefetcher);
  }
  if (l < stride) {
    product_tile<kRows, 1, kRelu>(a, a_stride, b + l, depth, bias, out + l, stride, prefetcher);
  }
}

// out [rows][stride] = bias [rows] + a^T b for a [depth][rows] and b [depth][stride], then relu if
// kRelu.
template <bool kRelu, class Scalar>
void product(const Scalar* a, const Scalar* b, int64_t rows, int64_t depth, const Scalar* bias,
             Scalar* out, int64_t stride, Prefetcher& prefetcher) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    product_rows<4, kRelu>(a + row, rows, b, depth, bias == nullptr ? nullptr : bias + row,
                           out + row * stride, stride, prefetcher);
  }
  for (; row < rows; ++row) {
    product_rows<1, kRelu>(a + row, rows, b, depth, bias == nullptr ? nullptr : bias + row,
                           out + row * stride, stride, prefetcher);
  }
}

// Dot product of two rows of `stride`, lane by lane.
template <class Scalar>
CSTA_INLINE Vector<Scalar> dot_lanes(const Scalar* a, const Scalar* b, int64_t stride) {
  Vector<Scalar> sum{};
  for (int64_t l = 0; l < stride; l += kLanes<Scalar>) sum += load(a + l) * load(b + l);
  return sum;
}

// out[m][k] += sum_l a[m][l] b[k][l] over rows of `stride`; out [rows][columns]. Horizontal sums
// are shared by whole vectors of columns, and by whole vectors of rows in the columns left over.
template <class Scalar>
void add_outer_product(const Scalar* a, const Scalar* b, int64_t rows, int64_t columns,
                       int64_t stride, Scalar* out, Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  const int64_t whole_columns = columns / lanes * lanes, whole_rows = rows / lanes * lanes;
  for (int64_t row = 0; row < rows; ++row) {
    const Scalar* a_row = a + row * stride;
    for (int64_t column = 0; column < whole_columns; column += lanes) {
      prefetcher.step();
      Vector<Scalar> sums[lanes] = {};
      for (int64_t l = 0; l < stride; l += lanes) {
        const Vector<Scalar> factor = load(a_row + l);
        CSTA_UNROLL
        for (int i = 0; i < lanes; ++i) sums[i] += factor * load(b + (column + i) * stride + l);
      }
      Scalar* to = out + row * columns + column;
      store(to, load(to) + sum_each<Scalar>([&](int i) { return sums[i]; }));
    }
  }
  for (int64_t column = whole_columns; column < columns; ++column) {
    const Scalar* b_row = b + column * stride;
    for (int64_t row = 0; row < whole_rows; row += lanes) {
      prefetcher.step();
      const Vector<Scalar> sums =
          sum_each<Scalar>([&](int i) { return dot_lanes(a + (row + i) * stride, b_row, stride); });
      for (int i = 0; i < lanes; ++i) out[(row + i) * columns + column] += sums[i];
    }
    for (int64_t row = whole_rows; row < rows; ++row) {
      out[row * columns + column] += sum_lanes<Scalar>(dot_lanes(a + row * stride, b_row, stride));
    }
  }
}

// out[m] += sum_l a[m][l].
template <class Scalar>
void add_row_sums(const Scalar* a, int64_t rows, int64_t stride, Scalar* out) {
  const auto sum_of = [&](int64_t row) CSTA_LAMBDA_INLINE {
    Vector<Scalar> sum{};
    for (int64_t l = 0; l < stride; l += kLanes<Scalar>) sum += load(a + row * stride + l);
    return sum;
  };
  int64_t row = 0;
  for (; row + kLanes<Scalar> <= rows; row += kLanes<Scalar>) {
    store(out + row, load(out + row) + sum_each<Scalar>([&](int i) { return sum_of(row + i); }));
  }
  for (; row < rows; ++row) out[row] += sum_lanes<Scalar>(sum_of(row));
}

// Gradient of relu, in place: zero where the activation is 0.
template <class Scalar>
void relu_backward(Scalar* gradients, const Scalar* activations, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes<Scalar>) {
    const Mask<Scalar> passes = ~(load(activations + i) <= Vector<Scalar>{});
    store(gradients + i, zero_unless<Scalar>(passes, load(gradients + i)));
  }
}

}  // namespace csta::CSTA_ISA
