// Step 3 and its gradient: one warp for a row of logits.
#pragma once

#include "block.h"

namespace csta::cuda {

template <class Scalar>
CSTA_DEVICE Scalar sum_over_warp(Scalar value) {
  for (int step = 16; step > 0; step /= 2) value += shuffle_xor(value, step);
  return value;
}
template <class Scalar>
CSTA_DEVICE Scalar largest_of_warp(Scalar value) {
  for (int step = 16; step > 0; step /= 2) {
    const Scalar other = shuffle_xor(value, step);
    value = other > value ? other : value;
  }
  return value;
}

// From the logits that the cluster's blocks, or a tensor, have to the attention of the slice's
// groups, 0 where not real: a warp for a row of either axis. For all threads.
template <class Element>
CSTA_DEVICE void attend(const Block<Element>& block, int64_t n, const Real& real) {
  using Scalar = Arithmetic<Element>;
  const Call& call = block.call;
  const int lane = thread() % 32, warps = threads() / 32;
  for (int i = thread() / 32; i < 2 * block.groups(); i += warps) {
    const int axis = i % 2, g = block.first_group + i / 2;
    const AxisCall& the = call.axes[axis];
    const Table<Scalar> row = block.own_group_rows(axis, call.plan.room.attention[axis]);
    const auto logit = [&](int l) {
      if (!call.has_heads) {
        return static_cast<const Scalar*>(the.logits)[(n * call.groups + g) * the.length + l];
      }
      return block.rows(axis, l / call.plan.share[axis], call.plan.room.scores[axis]).at(g, l);
    };
    Scalar largest = -static_cast<Scalar>(INFINITY);
    for (int l = lane; l < the.length; l += 32) {
      if (!real.of_axis(axis, l)) continue;
      const Scalar value = logit(l);
      row.at(g, l) = value;
      largest = value > largest ? value : largest;
    }
    largest = largest_of_warp(largest);
    Scalar sum = 0;
    for (int l = lane; l < the.length; l += 32) {
      if (!real.of_axis(axis, l)) {
        row.at(g, l) = 0;
      } else if (call.gate == Gate::softmax) {
        row.at(g, l) = exponential(row.at(g, l) - largest);
        sum += row.at(g, l);
      } else {
        const Scalar value = row.at(g, l);
        const Scalar e = exponential(value < 0 ? value : -value);
        row.at(g, l) = (value < 0 ? e : Scalar{1}) / (e + Scalar{1});
      }
    }
    if (call.gate != Gate::softmax) continue;
    sum = sum_over_warp(sum);
    for (int l = lane; l < the.length; l += 32) {
      if (real.of_axis(axis, l)) row.at(g, l) /= sum;
    }
  }
}

// Whether this block, of all that have it, writes a group's row.
template <class Element>
CSTA_DEVICE bool writes(const Block<Element>& block, int g) {
  const Call& call = block.call;
  if (call.channels_last) return g % cluster_size() == block.rank;
  return g * (call.channels / call.groups) / call.plan.own == block.rank;
}

template <class Element>
CSTA_DEVICE void write_attention(const Block<Element>& block, int axis, int64_t n) {
  using Scalar = Arithmetic<Element>;
  const Call& call = block.call;
  const int length = call.axes[axis].length;
  const Table<Scalar> rows = block.own_group_rows(axis, call.plan.room.attention[axis]);
  const Table<Scalar> out = block.tensor(call.axes[axis].attention, n, call.groups, axis);
  for (int i = thread(); i < block.groups() * length; i += threads()) {
    const int g = block.first_group + i / length;
    if (writes(block, g)) out.at(g, i % length) = rows.at(g, i % length);
  }
}

// The kept attention of the slice's groups, 0 where not real.
template <class Element>
CSTA_DEVICE void recall_attention(const Block<Element>& block, int axis, int64_t n,
                                  const Real& real) {
  using Scalar = Arithmetic<Element>;
  const Call& call = block.call;
  const int length = call.axes[axis].length;
  const Table<Scalar> rows = block.own_group_rows(axis, call.plan.room.attention[axis]);
  const Table<Scalar> kept = block.tensor(call.axes[axis].attention, n, call.groups, axis);
  for (int i = thread(); i < block.groups() * length; i += threads()) {
    const int g = block.first_group + i / length, l = i % length;
    rows.at(g, l) = real.of_axis(axis, l) ? kept.at(g, l) : Scalar{0};
  }
}

template <class Element>
CSTA_DEVICE Arithmetic<Element> scale(const Call& call, const Real& real) {
  using Scalar = Arithmetic<Element>;
  if (!call.scale_by_mean) return static_cast<Scalar>(call.scale);
  if (call.gate != Gate::softmax) return 1;
  return static_cast<Scalar>(int64_t{real.count[kFrames]} * real.count[kJoints]);
}

// kappa times the joints' attention of the slice's groups. A row goes on with its first numbers,
// for those who read several at once.
template <class Element>
CSTA_DEVICE void scale_joints(const Block<Element>& block, Arithmetic<Element> kappa) {
  using Scalar = Arithmetic<Element>;
  const int joints = block.call.axes[kJoints].length, stride = joints + kWrap;
  if (joints == 0) return;
  const Table<Scalar> attention =
      block.own_group_rows(kJoints, block.call.plan.room.attention[kJoints]);
  const Table<Scalar> scaled = block.scaled_joints();
  for (int i = thread(); i < block.groups() * stride; i += threads()) {
    const int g = block.first_group + i / stride, v = i % stride;
    scaled.at(g, v) = kappa * attention.at(g, v % joints);
  }
}

// From the gradient of the attention, whose parts the cluster's blocks have, to that of the logits.
// Each block takes some groups, a warp of it a row of either axis. For all threads.
template <class Element>
CSTA_DEVICE void gate_gradients(const Block<Element>& block, int64_t n, const Real& real) {
  using Scalar = Arithmetic<Element>;
  const Call& call = block.call;
  const int lane = thread() % 32, warps = threads() / 32, size = cluster_size();
  const int width = call.channels / call.groups, own = call.plan.own;
  for (int i = thread() / 32; block.rank + i / 2 * size < call.groups; i += warps) {
    const int axis = i % 2, g = block.rank + i / 2 * size;
    const AxisCall& the = call.axes[axis];
    const Table<Scalar> kept = block.tensor(the.attention, n, call.groups, axis);
    const Table<Scalar> out = block.tensor(the.score_gradients, n, call.groups, axis);
    // The blocks that have channels of the group, or frames.
    const int whole = call.channels_last ? call.axes[kFrames].length : call.channels;
    const int first = call.channels_last ? 0 : g * width / own;
    const int end = call.channels_last ? (whole + own - 1) / own
                    : width > 0        ? ((g + 1) * width - 1) / own + 1
                                       : 0;
    Scalar dot = 0;
    for (int l = lane; l < the.length; l += 32) {
      if (!real.of_axis(axis, l)) continue;
      Scalar sum = 0;
      for (int other = first; other < end; ++other) {
        sum += block.group_rows(axis, call.plan.room.gradients[axis], other).at(g, l);
      }
      if (the.upstream != nullptr) {
        sum += static_cast<const Scalar*>(the.upstream)[(n * call.groups + g) * the.length + l];
      }
      out.at(g, l) = sum;
      dot += kept.at(g, l) * sum;
    }
    dot = sum_over_warp(dot);
    for (int l = lane; l < the.length; l += 32) {
      if (!real.of_axis(axis, l)) {
        out.at(g, l) = 0;
        continue;
      }
      const Scalar a = kept.at(g, l), da = out.at(g, l);
      out.at(g, l) = call.gate == Gate::softmax ? a * (da - dot) : a * (1 - a) * da;
    }
  }
}

}  // namespace csta::cuda
