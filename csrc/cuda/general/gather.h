// Exchange of means and their gradients in a cluster: before the heads a block gathers the means at
// its own positions from all blocks' sums, after them it fetches the gradients of its slice's
// means.
#pragma once

#include "../common/heads.h"
#include "block.h"

namespace csta::cuda {

// store(c, l, mean) for the block's own positions l, from the sums of all blocks: 0 where invalid.
template <class Element, class Store>
CSTA_DEVICE void gather_means(const Block<Element>& block, int axis, const Valid& valid,
                              ThreadRotation& rotation, const Store& store) {
  using Scalar = Arithmetic<Element>;
  const CallParams& call = block.call;
  const bool channels_last = call.channels_last;
  const PositionRange range(call, axis, block.rank);
  const int per_block = call.plan.positions_per_block[axis], items = call.channels * per_block;
  const auto count = static_cast<Scalar>(max(valid.count[1 - axis], 1));
  for (int i = rotation.first(items); i < items; i += threads()) {
    const int row =
        channels_last ? call.by_channels.quotient(i) : call.by_position_range[axis].quotient(i);
    const int c = channels_last ? i - row * call.channels : row;
    const int l = range.begin + (channels_last ? row : i - row * per_block);
    if (l >= range.end) continue;
    Scalar sum = 0;
    if (valid.of_axis(axis, l)) {
      if (!channels_last) {
        sum = block.sums(axis, call.by_slice.quotient(c)).at(c, l);
      } else if (axis == kFrames) {
        sum = block.sums(axis, call.by_slice.quotient(l)).at(c, l);
      } else {
        const int frames = call.axes[kFrames].length;
        for (int other = 0; other * call.plan.slice_extent < frames; ++other) {
          sum += block.sums(axis, other).at(c, l);
        }
      }
    }
    store(c, l, sum / count);
  }
}

// Copies the gradients of the slice's means from all blocks to the slice's sums.
template <class Element>
CSTA_DEVICE void fetch_grad_means(const Block<Element>& block, int axis, ThreadRotation& rotation) {
  const CallParams& call = block.call;
  const Slice& slice = block.slice;
  const bool channels_last = call.channels_last, by_frame = channels_last && axis == kFrames;
  const int begin = by_frame ? slice.frame_begin : 0;
  const int end = by_frame ? slice.frame_end : call.axes[axis].length;
  const auto to = block.own_sums(axis);
  const int channels = slice.channel_end - slice.channel_begin, items = channels * (end - begin);
  const bool reached = is_reached(call, axis);
  for (int i = rotation.first(items); i < items; i += threads()) {
    const int row = channels_last ? call.by_channels.quotient(i) : call.by_length[axis].quotient(i);
    const int c = slice.channel_begin + (channels_last ? i - row * channels : row);
    const int l = begin + (channels_last ? row : i - row * (end - begin));
    const int other = call.by_position_range[axis].quotient(l);
    const auto from = block.rows(axis, other, call.plan.layout.staged[axis]);
    to.at(c, l) = reached ? from.at(c, l) : 0;
  }
}

}  // namespace csta::cuda
