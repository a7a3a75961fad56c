// Block of a cluster at work on a sample: views of its own and its peers' memory, by channel,
// group and position of the sample.
#pragma once

#include "ring.h"

namespace csta::cuda {

template <class Element>
struct Block {
  using Scalar = Arithmetic<Element>;

  const CallParams& call;
  const int rank, first_group;
  const Slice slice;
  Scalar* const memory;

  CSTA_DEVICE explicit Block(const CallParams& call)
      : call(call),
        rank(cluster_rank()),
        first_group(call.channels_last ? 0
                                       : call.by_width.quotient(min(rank * call.plan.slice_extent,
                                                                    max(call.channels - 1, 0)))),
        slice(call, rank),
        memory(call.plan.layout_in_shared
                   ? reinterpret_cast<Scalar*>(shared_memory() + kPrefixBytes)
                   : static_cast<Scalar*>(call.global_layouts) +
                         block() * call.plan.layout.scalars) {}

  CSTA_DEVICE int* scratch() const {
    return reinterpret_cast<int*>(shared_memory() + kBarrierBytes);
  }
  // Ring of slots[which]: 0 for x (backward: grad_y), 1 for x in backward.
  CSTA_DEVICE Ring<Element> ring(int which) const {
    const Plan& plan = call.plan;
    return Ring<Element>(reinterpret_cast<CopyBarrier*>(shared_memory()) + which * kMostSlots,
                         slots() + which * plan.slots[0] * plan.slot_bytes, plan.slots[which],
                         plan.slot_bytes);
  }
  CSTA_DEVICE uint8_t* flags() const {
    return reinterpret_cast<uint8_t*>(memory + call.plan.layout.valid);
  }

  // Address in a peer's memory.
  CSTA_DEVICE Scalar* peer_memory(int other, int64_t offset) const {
    if (call.plan.layout_in_shared) return peer(memory + offset, other);
    return memory + (other - rank) * call.plan.layout.scalars + offset;
  }

  // A block's sums by channel and position, in the order of x's memory.
  CSTA_DEVICE Table<Scalar> sums(int axis, int other) const {
    return sums_at(axis, other, peer_memory(other, call.plan.layout.sums[axis]));
  }
  CSTA_DEVICE Table<Scalar> own_sums(int axis) const {
    return sums_at(axis, rank, memory + call.plan.layout.sums[axis]);
  }

  // Rows of numbers at a block's own positions.
  CSTA_DEVICE Table<Scalar> own_rows(int axis, int64_t offset) const {
    return rows_at(axis, rank, memory + offset);
  }
  CSTA_DEVICE Table<Scalar> rows(int axis, int other, int64_t offset) const {
    return rows_at(axis, other, peer_memory(other, offset));
  }

  // Columns at own positions: the numbers of a position are contiguous.
  CSTA_DEVICE Table<Scalar> own_columns(int axis, int64_t offset, int rows) const {
    const int stride = column_stride(rows);
    return Table<Scalar>::part(memory + offset, 0, first_position(axis, rank), 1, stride);
  }
  // Rows at own positions, padded to multiples of 4.
  CSTA_DEVICE Table<Scalar> own_padded_rows(int axis, int64_t offset) const {
    const int per_block = call.plan.positions_per_block[axis];
    return Table<Scalar>::part(memory + offset, 0, int64_t{rank} * per_block,
                               round_up(per_block, 4), 1);
  }

  // Rows of whole axes, one per group of the slice.
  CSTA_DEVICE Table<Scalar> group_rows(int axis, int64_t offset, int other) const {
    const int length = call.axes[axis].length;
    return Table<Scalar>::part(peer_memory(other, offset), group_of(other), 0, length, 1);
  }
  CSTA_DEVICE Table<Scalar> own_group_rows(int axis, int64_t offset) const {
    const int length = call.axes[axis].length;
    return Table<Scalar>::part(memory + offset, first_group, 0, length, 1);
  }
  CSTA_DEVICE Table<Scalar> scaled_joints() const {
    const int stride = call.axes[kJoints].length + kWrap;
    return Table<Scalar>::part(memory + call.plan.layout.scaled, first_group, 0, stride, 1);
  }
  CSTA_DEVICE int group_of(int other) const {
    if (call.channels_last) return 0;
    return call.by_width.quotient(min(other * call.plan.slice_extent, max(call.channels - 1, 0)));
  }
  // Number of groups that the slice has channels of.
  CSTA_DEVICE int groups() const {
    if (call.channels == 0) return rank == 0 ? call.groups : 0;
    if (slice.channel_begin >= slice.channel_end) return 0;
    return call.by_width.quotient(slice.channel_end - 1) + 1 - first_group;
  }

  // Sample n of a tensor [N, rows, length].
  CSTA_DEVICE Table<Scalar> tensor(void* tensor, int64_t n, int rows, int axis) const {
    const int length = call.axes[axis].length;
    return {static_cast<Scalar*>(tensor) + n * rows * length, length, 1};
  }

  CSTA_DEVICE void clear(int64_t offset, int64_t count) const {
    for (int64_t i = thread(); i < count; i += threads()) memory[offset + i] = 0;
  }

 private:
  CSTA_DEVICE unsigned char* slots() const {
    const int64_t bytes =
        call.plan.layout_in_shared ? call.plan.layout.scalars * int64_t{sizeof(Scalar)} : 0;
    return shared_memory() + kPrefixBytes + round_up(bytes, 128);
  }
  CSTA_DEVICE Table<Scalar> sums_at(int axis, int other, Scalar* storage) const {
    const int length = call.axes[axis].length, begin = other * call.plan.slice_extent;
    if (!call.channels_last) return Table<Scalar>::part(storage, begin, 0, length, 1);
    const int position = axis == kFrames ? begin : 0;
    return Table<Scalar>::part(storage, 0, position, 1, call.channels);
  }
  CSTA_DEVICE Table<Scalar> rows_at(int axis, int other, Scalar* storage) const {
    const int pitch = call.plan.positions_per_block[axis];
    return Table<Scalar>::part(storage, 0, first_position(axis, other), pitch, 1);
  }
  CSTA_DEVICE int64_t first_position(int axis, int other) const {
    return int64_t{other} * call.plan.positions_per_block[axis];
  }
};

}  // namespace csta::cuda
