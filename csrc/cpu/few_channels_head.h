// A head over few channels and one group, hidden unit by hidden unit: what belongs to a unit stays
// in registers, and no row of activations is written. Positions beyond a row's end have means and
// gradients of 0.
#pragma once

#include "layouts/deinterleave.h"
#include "products.h"

namespace csta::CSTA_ISA {

// Coordinates, with or without a confidence: with 8 channels it is hardly faster than products are.
constexpr int kMostHeadChannels = 4;

// relu(b1 + w1 . means) of one hidden unit.
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

// scores[l] = b2 + w2 . relu(w1 means[.][l] + b1), for kWidth vectors of positions.
template <int kChannels, int kWidth, class Head, class Scalar>
CSTA_INLINE void few_channels_tile(const Head& head, const Scalar* means, int64_t stride,
                                   Scalar* scores, Prefetcher& prefetcher) {
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
  for (int w = 0; w < kWidth; ++w) store(scores + w * lanes, total[w]);
}

template <int kChannels, class Head, class Scalar>
void few_channels_scores(const Head& head, const Scalar* means, int64_t stride, Scalar* scores,
                         Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  int64_t l = 0;
  for (; l + 2 * lanes <= stride; l += 2 * lanes) {
    few_channels_tile<kChannels, 2>(head, means + l, stride, scores + l, prefetcher);
  }
  if (l < stride) few_channels_tile<kChannels, 1>(head, means + l, stride, scores + l, prefetcher);
}

// Of one hidden unit, from the gradients of the scores: adds to those of the means, and, lane by
// lane, to those of the unit's weights, which are `lanes` vectors apart: w1, b1 and w2.
template <int kChannels, class Scalar>
CSTA_INLINE void few_channels_unit_backward(const HiddenUnit<kChannels, Scalar>& unit, Scalar w2,
                                            const Scalar* means, const Scalar* grad_scores,
                                            int64_t stride, Scalar* grad_means,
                                            Vector<Scalar>* parts) {
  constexpr int lanes = kLanes<Scalar>;
  for (int64_t block = 0; block < stride; block += kBlockDepth * lanes) {
    const int64_t end = min(stride, block + kBlockDepth * lanes);
    Vector<Scalar> grad_w1[kChannels] = {}, grad_b1{}, grad_w2{};
    for (int64_t l = block; l < end; l += lanes) {
      Vector<Scalar> at[kChannels];
      load_means<kChannels>(means + l, stride, at);
      const Vector<Scalar> activation = unit.activation(at), grad_score = load(grad_scores + l);
      grad_w2 += grad_score * activation;
      const Mask<Scalar> passes = ~(activation <= Vector<Scalar>{});
      const Vector<Scalar> gradient = zero_unless<Scalar>(passes, grad_score * w2);
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
      parts[channel * lanes] += grad_w1[channel];
    }
    parts[kChannels * lanes] += grad_b1;
    parts[(kChannels + 1) * lanes] += grad_w2;
  }
}

// From the gradients of the scores to those of the means, times `share`, and of the weights, which
// are added to `sums`.
template <int kChannels, class Head, class Sums, class Scalar>
void few_channels_backward(const Head& head, const Scalar* means, const Scalar* grad_scores,
                           int64_t stride, Scalar inverse_count, const Sums& sums,
                           Scalar* grad_means, Prefetcher& prefetcher) {
  constexpr int lanes = kLanes<Scalar>;
  std::fill_n(grad_means, kChannels * stride, Scalar{0});
  for (int64_t first = 0; first < head.hidden; first += lanes) {
    const int64_t units = min(lanes, head.hidden - first);
    Vector<Scalar> parts[(kChannels + 2) * lanes] = {};
    for (int64_t i = 0; i < units; ++i) {
      const int64_t h = first + i;
      prefetcher.step();
      const HiddenUnit<kChannels, Scalar> unit(head.w1 + h * kChannels, head.b1[h]);
      few_channels_unit_backward<kChannels>(unit, head.w2[h], means, grad_scores, stride,
                                            grad_means, parts + i);
    }
    CSTA_UNROLL
    for (int part = 0; part < kChannels + 2; ++part) {
      const Vector<Scalar> sum =
          sum_each<Scalar>([&](int i) CSTA_LAMBDA_INLINE { return parts[part * lanes + i]; });
      Scalar* to = part < kChannels    ? sums.w1 + first * kChannels + part
                   : part == kChannels ? sums.b1 + first
                                       : sums.w2 + first;
      const int64_t step = part < kChannels ? kChannels : 1;
      for (int64_t i = 0; i < units; ++i) to[i * step] += sum[i];
    }
  }
  for (int64_t i = 0; i < kChannels * stride; i += lanes) {
    store(grad_means + i, load(grad_means + i) * inverse_count);
  }
}

}  // namespace csta::CSTA_ISA
