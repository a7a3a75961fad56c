// Step 3 and its gradient: one warp per row of logits.
#pragma once

#include "../common/warp.h"
#include "gather.h"

namespace csta::cuda {

// Gathers the logits of the slice's groups from the cluster's blocks or a tensor. Called by all
// threads.
template <class Element>
CSTA_DEVICE void gather_logits(const Block<Element>& block, int axis, int64_t n,
                               ThreadRotation& rotation) {
  using Scalar = Arithmetic<Element>;
  const CallParams& call = block.call;
  const AxisParams& params = call.axes[axis];
  const Table<Scalar> rows = block.own_group_rows(axis, call.plan.layout.attention[axis]);
  const int items = block.groups() * params.length;
  for (int i = rotation.first(items); i < items; i += threads()) {
    const int row = call.by_length[axis].quotient(i), g = block.first_group + row;
    const int l = i - row * params.length;
    if (call.has_heads) {
      const int other = call.by_position_range[axis].quotient(l);
      rows.at(g, l) = block.rows(axis, other, call.plan.layout.logits[axis]).at(g, l);
    } else {
      rows.at(g, l) =
          static_cast<const Scalar*>(params.logits)[(n * call.groups + g) * params.length + l];
    }
  }
}

// Whether this block writes the group's row to global memory; one of the blocks that have it does.
template <class Element>
CSTA_DEVICE bool writes(const Block<Element>& block, int g) {
  const CallParams& call = block.call;
  if (call.channels_last) return g % cluster_size() == block.rank;
  return call.by_slice.quotient(g * (call.channels / call.groups)) == block.rank;
}

// Stores scale * attention of a joint for the last pass. The row's first joints are repeated behind
// it, so that vectors may wrap.
template <class Element>
CSTA_DEVICE void scale_joint(const Block<Element>& block, int g, int v,
                             Arithmetic<Element> scaled) {
  const int joints = block.call.axes[kJoints].length;
  for (; v < joints + kWrap; v += joints) block.scaled_joints().at(g, v) = scaled;
}

// Attention of the slice's groups from their logits, 0 at invalid positions; one warp per row.
// Called by all threads.
template <class Element>
CSTA_DEVICE void attention_forward(const Block<Element>& block, int64_t n, const Valid& valid,
                                   Arithmetic<Element> scale) {
  using Scalar = Arithmetic<Element>;
  const CallParams& call = block.call;
  const int lane = thread() % 32, warps = threads() / 32;
  for (int i = thread() / 32; i < 2 * block.groups(); i += warps) {
    const int axis = i % 2, g = block.first_group + i / 2;
    const int length = call.axes[axis].length;
    const Table<Scalar> row = block.own_group_rows(axis, call.plan.layout.attention[axis]);
    const Table<Scalar> out = block.tensor(call.axes[axis].attention, n, call.groups, axis);
    const bool softmax = call.gate == Gate::softmax;
    Scalar largest = -static_cast<Scalar>(INFINITY);
    for (int l = lane; softmax && l < length; l += 32) {
      if (!valid.of_axis(axis, l)) continue;
      const Scalar value = row.at(g, l);
      largest = value > largest ? value : largest;
    }
    if (softmax) largest = largest_of_warp(largest);
    Scalar sum = 0;
    for (int l = lane; l < length; l += 32) {
      const Scalar value = row.at(g, l);
      if (!valid.of_axis(axis, l)) {
        row.at(g, l) = 0;
      } else if (softmax) {
        row.at(g, l) = exponential(value - largest);
        sum += row.at(g, l);
      } else {
        const Scalar e = exponential(value < 0 ? value : -value);
        row.at(g, l) = (value < 0 ? e : Scalar{1}) / (e + Scalar{1});
      }
    }
    if (softmax) sum = sum_over_warp(sum);
    const bool written = writes(block, g);
    for (int l = lane; l < length; l += 32) {
      const Scalar attention =
          softmax && valid.of_axis(axis, l) ? row.at(g, l) / sum : row.at(g, l);
      row.at(g, l) = attention;
      if (written) out.at(g, l) = attention;
      if (axis == kJoints) scale_joint(block, g, l, scale * attention);
    }
  }
}

// Loads forward's attention of the slice's groups, 0 at invalid positions. Called by all threads.
template <class Element>
CSTA_DEVICE void load_attention(const Block<Element>& block, int axis, int64_t n,
                                const Valid& valid, Arithmetic<Element> scale,
                                ThreadRotation& rotation) {
  using Scalar = Arithmetic<Element>;
  const CallParams& call = block.call;
  const int length = call.axes[axis].length;
  const Table<Scalar> rows = block.own_group_rows(axis, call.plan.layout.attention[axis]);
  const Table<Scalar> kept = block.tensor(call.axes[axis].attention, n, call.groups, axis);
  const int items = block.groups() * length;
  for (int i = rotation.first(items); i < items; i += threads()) {
    const int row = call.by_length[axis].quotient(i), g = block.first_group + row;
    const int l = i - row * length;
    const Scalar attention = valid.of_axis(axis, l) ? kept.at(g, l) : Scalar{0};
    rows.at(g, l) = attention;
    if (axis == kJoints) scale_joint(block, g, l, scale * attention);
  }
}

template <class Element>
CSTA_DEVICE Arithmetic<Element> scale_of(const CallParams& call, const Valid& valid) {
  using Scalar = Arithmetic<Element>;
  if (!call.scale_by_mean) return static_cast<Scalar>(call.scale);
  if (call.gate != Gate::softmax) return 1;
  return static_cast<Scalar>(int64_t{valid.count[kFrames]} * valid.count[kJoints]);
}

// Gradient of the logits from the attention's, of which every block has a partial sum. Blocks share
// the groups; one warp per row. Called by all threads.
template <class Element>
CSTA_DEVICE void gates_backward(const Block<Element>& block, int64_t n, const Valid& valid) {
  using Scalar = Arithmetic<Element>;
  const CallParams& call = block.call;
  const int size = cluster_size(), width = call.channels / call.groups;
  const int rows = block.rank < call.groups ? (call.groups - 1 - block.rank) / size + 1 : 0;
  ThreadRotation rotation;
#pragma unroll 1
  for (int axis = kFrames; axis <= kJoints; ++axis) {
    const AxisParams& params = call.axes[axis];
    const Table<Scalar> out = block.tensor(params.grad_logits, n, call.groups, axis);
    const int items = rows * params.length;
    for (int i = rotation.first(items); i < items; i += threads()) {
      const int row = call.by_length[axis].quotient(i), l = i - row * params.length;
      const int g = block.rank + row * size;
      if (!valid.of_axis(axis, l)) continue;
      // Blocks that have channels of the group, or frames.
      const int whole = call.channels_last ? call.axes[kFrames].length : (g + 1) * width;
      const int first = call.channels_last ? 0 : call.by_slice.quotient(g * width);
      const int end = whole > 0 && (call.channels_last || width > 0)
                          ? call.by_slice.quotient(whole - 1) + 1
                          : first;
      Scalar sum = 0;
#pragma unroll 2
      for (int other = first; other < end; ++other) {
        sum += block.group_rows(axis, call.plan.layout.grad_attention[axis], other).at(g, l);
      }
      if (params.upstream != nullptr) {
        sum +=
            static_cast<const Scalar*>(params.upstream)[(n * call.groups + g) * params.length + l];
      }
      out.at(g, l) = sum;
    }
  }
  block_barrier();
  const int lane = thread() % 32, warps = threads() / 32;
  for (int i = thread() / 32; i < 2 * rows; i += warps) {
    const int axis = i % 2, g = block.rank + i / 2 * size;
    const AxisParams& params = call.axes[axis];
    const Table<Scalar> kept = block.tensor(params.attention, n, call.groups, axis);
    const Table<Scalar> out = block.tensor(params.grad_logits, n, call.groups, axis);
    Scalar dot = 0;
    for (int l = lane; l < params.length; l += 32) {
      if (valid.of_axis(axis, l)) dot += kept.at(g, l) * out.at(g, l);
    }
    dot = sum_over_warp(dot);
    for (int l = lane; l < params.length; l += 32) {
      if (!valid.of_axis(axis, l) || !is_reached(call, axis)) {
        out.at(g, l) = 0;
        continue;
      }
      const Scalar a = kept.at(g, l), da = out.at(g, l);
      out.at(g, l) = call.gate == Gate::softmax ? a * (da - dot) : a * (1 - a) * da;
    }
  }
}

}  // namespace csta::cuda
