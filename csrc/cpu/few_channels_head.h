// Head over at most four channels and one group, fused over the hidden units: a unit's weights stay
// in registers and no activation is stored. Means and gradients are 0 beyond a row's end.
#pragma once

#include "layouts/deinterleave.h"
#include "products.h"

namespace csta::CSTA_ISA {

// Coordinates with or without a confidence. With 8 channels the fused head is hardly faster than
// matrix products.
constexpr int kMostHeadChannels = 4;

// One hidden unit: relu(b1 + w1 · means).
template <int kChannels, class Scalar>
struct HiddenUnit {
  Vector<Scalar> w1[kChannels], b1;

  CSTA_INLINE HiddenUnit(const Scalar* weights, Scalar bias) : b1(splat(bias)) {
    CSTA_UNROLL
    for (int channel = 0; channel < kChannels; ++channel) w1[channel] = splat(weights[channel]);
  }

  CSTA_INLINE Vector<Scalar> activation(const Vector<Scalar>* means) const {
    Vector<Scalar> sum = b1;
    CSTA_UNROLL
    for (int channel = 0; channel < kChannels; ++channel) sum += w1[channel] * means[channel];
    return relu<Scalar>(sum);
  }
};

template <int kChannels, class Scalar>
CSTA_INLINE void load_means(const Scalar* rows, int64_t stride, Vector<Scalar>* means) {
  CSTA_UNROLL
  for (int channel = 0; channel < kChannels; ++channel) {
    means[channel] = load(rows + channel * stride);
  }
}

// logits[l] = b2 + w2 · relu(w1 means[.][l] + b1), for kWidth vectors of positions.
template <int kChannels, int kWidth, class Head, class Scalar>
CSTA_INLINE void few_channels_tile(const Head& head, const Scalar* means, int64_t stride,
                                   Scalar* logits, Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  Vector<Scalar> at[kWidth][kChannels], total[kWidth];
  CSTA_UNROLL
  for (int w = 0; w < kWidth; ++w) {
    load_means<kChannels>(means + w * lanes, stride, at[w]);
    total[w] = splat(head.b2[0]);
  }
  for (int64_t block = 0; block < head.hidden; block += kBlockDepth) {
    const int64_t end = min(head.hidden, block + kBlockDepth);
    Vector<Scalar> sum[kWidth] = {};
    for (int64_t h = block; h < end; ++h) {
      prefetcher.step();
      const HiddenUnit<kChannels, Scalar> unit(head.w1 + h * kChannels, head.b1[h]);
      CSTA_UNROLL
      for (int w = 0; w < kWidth; ++w) sum[w] += unit.activation(at[w]) * head.w2[h];
    }
    CSTA_UNROLL
    for (int w = 0; w < kWidth; ++w) total[w] += sum[w];
  }
  CSTA_UNROLL
  for (int w = 0; w < kWidth; ++w) store(logits + w * lanes, total[w]);
}

template <int kChannels, class Head, class Scalar>
void few_channels_logits(const Head& head, const Scalar* means, int64_t stride, Scalar* logits,
                         Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  int64_t l = 0;
  for (; l + 2 * lanes <= stride; l += 2 * lanes) {
    few_channels_tile<kChannels, 2>(head, means + l, stride, logits + l, prefetcher);
  }
  if (l < stride) few_channels_tile<kChannels, 1>(head, means + l, stride, logits + l, prefetcher);
}

// Backward of one hidden unit: adds to the gradients of the means and, lane by lane, of w1, b1 and
// w2, which are `lanes` vectors apart in `partial`.
template <int kChannels, class Scalar>
CSTA_INLINE void few_channels_unit_backward(const HiddenUnit<kChannels, Scalar>& unit, Scalar w2,
                                            const Scalar* means, const Scalar* grad_logits,
                                            int64_t stride, Scalar* grad_means,
                                            Vector<Scalar>* partial) {
  constexpr int lanes = kLanes<Scalar>;
  for (int64_t block = 0; block < stride; block += kBlockDepth * lanes) {
    const int64_t end = min(stride, block + kBlockDepth * lanes);
    Vector<Scalar> grad_w1[kChannels] = {}, grad_b1{}, grad_w2{};
    for (int64_t l = block; l < end; l += lanes) {
      Vector<Scalar> at[kChannels];
      load_means<kChannels>(means + l, stride, at);
      const Vector<Scalar> activation = unit.activation(at), grad_logit = load(grad_logits + l);
      grad_w2 += grad_logit * activation;
      const Mask<Scalar> passes = ~(activation <= Vector<Scalar>{});
      const Vector<Scalar> gradient = zero_unless<Scalar>(passes, grad_logit * w2);
      grad_b1 += gradient;
      CSTA_UNROLL
      for (int channel = 0; channel < kChannels; ++channel) {
        grad_w1[channel] += gradient * at[channel];
        Scalar* to = grad_means + channel * stride + l;
        store(to, load(to) + gradient * unit.w1[channel]);
      }
    }
    CSTA_UNROLL
    for (int channel = 0; channel < kChannels; ++channel) {
      partial[channel * lanes] += grad_w1[channel];
    }
    partial[kChannels * lanes] += grad_b1;
    partial[(kChannels + 1) * lanes] += grad_w2;
  }
}

// Backward of the head: gradients of the means, times `inverse_count`, and of the weights, added to
// `sums`.
template <int kChannels, class Head, class Sums, class Scalar>
void few_channels_backward(const Head& head, const Scalar* means, const Scalar* grad_logits,
                           int64_t stride, Scalar inverse_count, const Sums& sums,
                           Scalar* grad_means, Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  std::fill_n(grad_means, kChannels * stride, Scalar{0});
  for (int64_t first = 0; first < head.hidden; first += lanes) {
    const int64_t units = min(lanes, head.hidden - first);
    Vector<Scalar> partial[(kChannels + 2) * lanes] = {};
    for (int64_t i = 0; i < units; ++i) {
      const int64_t h = first + i;
      prefetcher.step();
      const HiddenUnit<kChannels, Scalar> unit(head.w1 + h * kChannels, head.b1[h]);
      few_channels_unit_backward<kChannels>(unit, head.w2[h], means, grad_logits, stride,
                                            grad_means, partial + i);
    }
    CSTA_UNROLL
    for (int row = 0; row < kChannels + 2; ++row) {
      const Vector<Scalar> sum =
          sum_each<Scalar>([&](int i) CSTA_LAMBDA_INLINE { return partial[row * lanes + i]; });
      Scalar* to = row < kChannels    ? sums.w1 + first * kChannels + row
                   : row == kChannels ? sums.b1 + first
                                      : sums.w2 + first;
      const int64_t step = row < kChannels ? kChannels : 1;
      for (int64_t i = 0; i < units; ++i) to[i * step] += sum[i];
    }
  }
  for (int64_t i = 0; i < kChannels * stride; i += lanes) {
    store(grad_means + i, load(grad_means + i) * inverse_count);
  }
}

}  // namespace csta::CSTA_ISA
