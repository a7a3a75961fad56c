// A block of a cluster at work on a sample: its room, its part of the sample, and its peers.
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
  // The ring of what the plan calls slots[which]: 0 of x, or of grad_y in backward, 1 of x there.
  CSTA_DEVICE Ring<Element> ring(int which) const {
    const Plan& plan = call.plan;
    return Ring<Element>(reinterpret_cast<CopyBarrier*>(shared_memory()) + which * kMostSlots,
                         slots() + which * plan.slots[0] * plan.slot_bytes, plan.slots[which],
                         plan.slot_bytes);
  }
  CSTA_DEVICE uint8_t* flags() const {
    return reinterpret_cast<uint8_t*>(memory + call.plan.layout.valid);
  }

  // A piece of a peer's room.
  CSTA_DEVICE Scalar* of(int other, int64_t offset) const {
    if (call.plan.layout_in_shared) return peer(memory + offset, other);
    return memory + (other - rank) * call.plan.layout.scalars + offset;
  }

  // A block's sums by channel and position, as absolute numbers. Neighbours in x's memory are
  // neighbours here.
  CSTA_DEVICE Table<Scalar> sums(int axis, int other) const {
    return sums_at(axis, other, of(other, call.plan.layout.sums[axis]));
  }
  CSTA_DEVICE Table<Scalar> own_sums(int axis) const {
    return sums_at(axis, rank, memory + call.plan.layout.sums[axis]);
  }

  // Rows of numbers at the block's own positions.
  CSTA_DEVICE Table<Scalar> own_rows(int axis, int64_t offset) const {
    return rows_at(axis, rank, memory + offset);
  }
  CSTA_DEVICE Table<Scalar> rows(int axis, int other, int64_t offset) const {
    return rows_at(axis, other, of(other, offset));
  }

  // Numbers at the block's own positions, those of a position together.
  CSTA_DEVICE Table<Scalar> own_columns(int axis, int64_t offset, int rows) const {
    const int stride = column_stride(rows);
    return {memory + offset - int64_t{rank} * call.plan.positions_per_block[axis] * stride, 1,
            stride};
  }
  // Rows of numbers at the block's own positions, each of whole fours.
  CSTA_DEVICE Table<Scalar> own_fours(int axis, int64_t offset) const {
    const int per_block = call.plan.positions_per_block[axis];
    return {memory + offset - int64_t{rank} * per_block, round_up(per_block, 4), 1};
  }

  // Rows of whole axes, one for each of the groups of the slice.
  CSTA_DEVICE Table<Scalar> group_rows(int axis, int64_t offset, int other) const {
    const int length = call.axes[axis].length;
    const int first = group_of(other);
    return {of(other, offset) - int64_t{first} * length, length, 1};
  }
  CSTA_DEVICE Table<Scalar> own_group_rows(int axis, int64_t offset) const {
    const int length = call.axes[axis].length;
    return {memory + offset - int64_t{first_group} * length, length, 1};
  }
  CSTA_DEVICE Table<Scalar> scaled_joints() const {
    const int stride = call.axes[kJoints].length + kWrap;
    return {memory + call.plan.layout.scaled - int64_t{first_group} * stride, stride, 1};
  }
  CSTA_DEVICE int group_of(int other) const {
    if (call.channels_last) return 0;
    return call.by_width.quotient(min(other * call.plan.slice_extent, max(call.channels - 1, 0)));
  }
  // The groups that the slice has channels of.
  CSTA_DEVICE int groups() const {
    if (call.channels == 0) return rank == 0 ? call.groups : 0;
    if (slice.channel_begin >= slice.channel_end) return 0;
    return call.by_width.quotient(slice.channel_end - 1) + 1 - first_group;
  }

  // What a tensor [N, rows, length] holds for sample n.
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
  CSTA_DEVICE Table<Scalar> sums_at(int axis, int other, Scalar* first) const {
    const int length = call.axes[axis].length, begin = other * call.plan.slice_extent;
    if (!call.channels_last) return {first - int64_t{begin} * length, length, 1};
    const int from = axis == kFrames ? begin : 0;
    return {first - int64_t{from} * call.channels, 1, call.channels};
  }
  CSTA_DEVICE Table<Scalar> rows_at(int axis, int other, Scalar* first) const {
    const int per_block = call.plan.positions_per_block[axis];
    return {first - int64_t{other} * per_block, per_block, 1};
  }
};

}  // namespace csta::cuda
