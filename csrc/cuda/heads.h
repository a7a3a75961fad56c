// Step 2 and its gradient, at a block's own positions of an axis. Every function is for all threads
// and begins and ends without a barrier.
#pragma once

#include "block.h"

namespace csta::cuda {

// The means that the cluster's blocks have the sums of, at this block's own positions: 0 where not
// real.
template <class Element>
CSTA_DEVICE void gather_means(const Block<Element>& block, int axis, const Real& real,
                              const Table<Arithmetic<Element>>& means) {
  using Scalar = Arithmetic<Element>;
  const Call& call = block.call;
  const Own own(call, axis, block.rank);
  const auto count = static_cast<Scalar>(larger(real.count[1 - axis], 1));
  for (int i = thread(); i < call.channels * own.count(); i += threads()) {
    const Item item(i, call.channels, own.count(), call.channels_last);
    const int c = item.row, l = own.begin + item.column;
    Scalar sum = 0;
    if (real.of_axis(axis, l)) {
      if (!call.channels_last) {
        sum = block.sums(axis, c / call.plan.own).at(c, l);
      } else if (axis == kFrames) {
        sum = block.sums(axis, l / call.plan.own).at(c, l);
      } else {
        const int frames = call.axes[kFrames].length;
        for (int other = 0; other * call.plan.own < frames; ++other) {
          sum += block.sums(axis, other).at(c, l);
        }
      }
    }
    means.at(c, l) = sum / count;
  }
}

// A sum of products over `terms`, of four rows at once: the rows' other factor is read once. Eight
// terms are on their way together, because few threads have one and all wait for it.
template <class Scalar, class Weight, class Value>
CSTA_DEVICE void add_products(int terms, Scalar (&sums)[4], const Weight& weight,
                              const Value& value) {
  int term = 0;
#pragma unroll 1
  for (; term + 8 <= terms; term += 8) {
    Scalar parts[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const Scalar factor = value(term + i);
#pragma unroll
      for (int k = 0; k < 4; ++k) parts[k] += weight(k, term + i) * factor;
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] += parts[k];
  }
#pragma unroll 1
  for (; term < terms; ++term) {
    const Scalar factor = value(term);
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] += weight(k, term) * factor;
  }
}

// out[row, l] = finish(row, l, sum over terms of weight(row, term) in[term, l]) at own positions.
template <class Scalar, class Weight, class Finish>
CSTA_DEVICE void product(const Own& own, int rows, int terms, const Weight& weight,
                         const Table<Scalar>& in, const Table<Scalar>& out, const Finish& finish) {
  const int tiles = (rows + 3) / 4;
  for (int i = thread(); i < tiles * own.count(); i += threads()) {
    const int row = i / own.count() * 4, l = own.begin + i % own.count();
    Scalar sums[4] = {0, 0, 0, 0};
    add_products(
        terms, sums, [&](int k, int term) { return weight(smaller(row + k, rows - 1), term); },
        [&](int term) { return in.at(term, l); });
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (row + k < rows) out.at(row + k, l) = finish(row + k, l, sums[k]);
    }
  }
}

// h = relu(W1 p + b1), which lets NaN through.
template <class Element>
CSTA_DEVICE void hidden_values(const Block<Element>& block, int axis,
                               const Table<Arithmetic<Element>>& means,
                               const Table<Arithmetic<Element>>& hidden) {
  using Scalar = Arithmetic<Element>;
  const AxisCall& head = block.call.axes[axis];
  const int channels = block.call.channels;
  const auto *w1 = static_cast<const Scalar*>(head.w1), *b1 = static_cast<const Scalar*>(head.b1);
  product<Scalar>(
      Own(block.call, axis, block.rank), head.hidden, channels,
      [&](int h, int c) { return w1[h * channels + c]; }, means, hidden,
      [&](int h, int, Scalar sum) {
        const Scalar value = sum + b1[h];
        return value <= 0 ? Scalar{0} : value;
      });
}

// s = W2 h + b2.
template <class Element>
CSTA_DEVICE void logits(const Block<Element>& block, int axis,
                        const Table<Arithmetic<Element>>& hidden,
                        const Table<Arithmetic<Element>>& scores) {
  using Scalar = Arithmetic<Element>;
  const AxisCall& head = block.call.axes[axis];
  const auto *w2 = static_cast<const Scalar*>(head.w2), *b2 = static_cast<const Scalar*>(head.b2);
  product<Scalar>(
      Own(block.call, axis, block.rank), block.call.groups, head.hidden,
      [&](int g, int h) { return w2[g * head.hidden + h]; }, hidden, scores,
      [&](int g, int, Scalar sum) { return sum + b2[g]; });
}

// dz = W2' ds where h > 0, else 0.
template <class Element>
CSTA_DEVICE void hidden_gradients(const Block<Element>& block, int axis,
                                  const Table<Arithmetic<Element>>& score_gradients,
                                  const Table<Arithmetic<Element>>& hidden,
                                  const Table<Arithmetic<Element>>& gradients) {
  using Scalar = Arithmetic<Element>;
  const AxisCall& head = block.call.axes[axis];
  const auto* w2 = static_cast<const Scalar*>(head.w2);
  product<Scalar>(
      Own(block.call, axis, block.rank), head.hidden, block.call.groups,
      [&](int h, int g) { return w2[g * head.hidden + h]; }, score_gradients, gradients,
      [&](int h, int l, Scalar sum) { return hidden.at(h, l) <= 0 ? Scalar{0} : sum; });
}

// What a position of x gets for its mean: dp = W1' dz, over the number of positions of the mean.
template <class Element>
CSTA_DEVICE void mean_gradients(const Block<Element>& block, int axis, const Real& real,
                                const Table<Arithmetic<Element>>& hidden_gradients,
                                const Table<Arithmetic<Element>>& gradients) {
  using Scalar = Arithmetic<Element>;
  const AxisCall& head = block.call.axes[axis];
  const int channels = block.call.channels;
  const auto* w1 = static_cast<const Scalar*>(head.w1);
  const auto count = static_cast<Scalar>(larger(real.count[1 - axis], 1));
  product<Scalar>(
      Own(block.call, axis, block.rank), channels, head.hidden,
      [&](int c, int h) { return w1[h * channels + c]; }, hidden_gradients, gradients,
      [&](int, int, Scalar sum) { return sum / count; });
}

// Brings the gradients of the slice's means, which the cluster's blocks have, to where its sums
// were.
template <class Element>
CSTA_DEVICE void fetch_mean_gradients(const Block<Element>& block, int axis) {
  const Call& call = block.call;
  const Slice& slice = block.slice;
  const bool by_frame = call.channels_last && axis == kFrames;
  const int begin = by_frame ? slice.frame_begin : 0;
  const int end = by_frame ? slice.frame_end : call.axes[axis].length;
  const auto to = block.own_sums(axis);
  const int channels = slice.channel_end - slice.channel_begin;
  for (int i = thread(); i < channels * (end - begin); i += threads()) {
    const Item item(i, channels, end - begin, call.channels_last);
    const int c = slice.channel_begin + item.row, l = begin + item.column;
    to.at(c, l) = block.rows(axis, l / call.plan.share[axis], call.plan.room.staged[axis]).at(c, l);
  }
}

}  // namespace csta::cuda
