// Common part of the dense kernels: samples of contiguous planes, one group, all positions valid,
// that a cluster holds whole in shared memory. Elements need no coordinates: sums follow each other
// as rows and columns of planes do.
#pragma once

#include "../common/heads.h"

namespace csta::cuda {

constexpr int kColumnThreads = 4;  // threads that share a sum over frames; neighbours

template <class Element>
class DenseBlock {
 public:
  static constexpr int kCount = Vec16<Element>::kCount;

  const CallParams& call;
  const int rank;      // of this block in its cluster
  const int channels;  // of this block
  const int frames, joints, plane;

  CSTA_DEVICE explicit DenseBlock(const CallParams& call)
      : call(call),
        rank(cluster_rank()),
        channels(
            max(0, min(call.plan.slice_extent, call.channels - rank * call.plan.slice_extent))),
        frames(call.axes[kFrames].length),
        joints(call.axes[kJoints].length),
        plane(frames * joints) {}

  CSTA_DEVICE int64_t sample() const { return block() / cluster_size(); }
  // Offset of this block's elements in a tensor of x's shape.
  CSTA_DEVICE int64_t offset() const {
    return (sample() * call.channels + rank * call.plan.slice_extent) * plane;
  }
  CSTA_DEVICE CopyBarrier* barrier(int which) const {
    return reinterpret_cast<CopyBarrier*>(shared_memory()) + which;
  }
  CSTA_DEVICE float* at(int64_t offset) const {
    return reinterpret_cast<float*>(shared_memory() + kPrefixBytes) + offset;
  }
  // The block's elements of x (backward: grad_y) in shared memory.
  CSTA_DEVICE Element* resident() const {
    return reinterpret_cast<Element*>(at(call.plan.layout.scalars));
  }

  // Initialises the barriers: of the resident tensor, of the weights, of the slots.
  CSTA_DEVICE void begin(int barriers) const {
    if (thread() == 0) {
      for (int which = 0; which < barriers; ++which) init(barrier(which), 1);
      fence_barriers();
    }
    block_barrier();
  }
  // Starts a bulk copy of some of the block's channels. Called by one thread.
  CSTA_DEVICE void load(int which, const void* tensor, Element* to, int first, int count) const {
    const int bytes = count * plane * static_cast<int>(sizeof(Element));
    fence_before_bulk_copies();
    if (bytes > 0) {
      expect(barrier(which), bytes);
      copy_in_bulk(to, static_cast<const Element*>(tensor) + offset() + first * plane, bytes,
                   barrier(which));
    }
    arrive(barrier(which));
  }
  // Starts a bulk copy of each head's w1, if planned: the cluster's barriers invalidate L1, where
  // it would be cached otherwise.
  CSTA_DEVICE void load_weights(int which) const {
    fence_before_bulk_copies();
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const int bytes = call.plan.weight_bytes[axis];
      if (bytes == 0) continue;
      expect(barrier(which), bytes);
      copy_in_bulk(at(call.plan.layout.weights[axis]), call.axes[axis].w1.data, bytes,
                   barrier(which));
    }
    arrive(barrier(which));
  }
  CSTA_DEVICE Weight w1(int axis) const {
    const Weight& given = call.axes[axis].w1;
    if (call.plan.weight_bytes[axis] == 0) return given;
    return {at(call.plan.layout.weights[axis]), given.dtype};
  }

  // Sums over joints and over frames of some of the block's channels.
  CSTA_DEVICE void pool(const Element* x, int first, int count) const {
    float* of_frames = at(call.plan.layout.sums[kFrames]) + first * frames;
    float* of_joints = at(call.plan.layout.sums[kJoints]) + first * joints;
    for (int i = thread(); i < count * frames; i += threads()) of_frames[i] = sum_of_row(x, i);
    // With enough threads, neighbours share a column, and rows go to other threads than columns.
    const int columns = count * joints,
              split = columns * kColumnThreads <= threads() ? kColumnThreads : 1;
    const int items = round_up(columns * split, 32);  // whole warps, for the shuffles
    ThreadRotation rotation(round_up(count * frames, 32));
    for (int i = rotation.first(items); i < items; i += threads()) {
      const int j = i / split, lane = i % split;
      float sum = 0;
      if (j < columns) {
        const Element* column = x + j + call.by_joints.quotient(j) * (plane - joints);
        sum = sum_of<float>(ceil_div(frames - lane, split),
                            [&](int k) { return widen(column[(lane + k * split) * joints]); });
      }
      for (int step = 1; step < split; step *= 2) sum += shuffle_xor(sum, step);
      if (j < columns && lane == 0) of_joints[j] = sum;
    }
  }

  // store(c, l, mean) for the block's own positions l, from the sums of all blocks.
  template <class Store>
  CSTA_DEVICE void gather_means(int axis, const Store& store) const {
    const int per_block = call.plan.positions_per_block[axis], length = call.axes[axis].length;
    const auto count = static_cast<float>(call.axes[1 - axis].length);
    const float* sums = at(call.plan.layout.sums[axis]);
#pragma unroll 2
    for (int i = thread(); i < call.channels * per_block; i += threads()) {
      const int c = call.by_position_range[axis].quotient(i), other = call.by_slice.quotient(c);
      const int l = rank * per_block + i - c * per_block;
      if (l >= length) continue;
      store(c, l,
            from_peer(sums + (c - other * call.plan.slice_extent) * length + l, other) / count);
    }
  }

  CSTA_DEVICE PositionRange positions(int axis) const { return PositionRange(call, axis, rank); }
  // Columns at own positions: the numbers of a position are contiguous.
  CSTA_DEVICE Table<float> columns(int axis, int64_t offset, int rows) const {
    const int stride = column_stride(rows);
    return {at(offset) - rank * call.plan.positions_per_block[axis] * stride, 1, stride};
  }
  CSTA_DEVICE Table<float> means(int axis) const {
    return columns(axis, call.plan.layout.staged[axis], call.channels);
  }
  CSTA_DEVICE Table<float> hidden(int axis) const {
    return columns(axis, call.plan.layout.hidden[axis], call.axes[axis].hidden);
  }

  // Stores scale * attention of joint v. The row's first joints are repeated behind it, so that
  // vectors may wrap.
  CSTA_DEVICE void scale_joint(int v, float attention) const {
    for (; v < joints + kWrap; v += joints) at(call.plan.layout.scaled)[v] = scale() * attention;
  }
  CSTA_DEVICE float scale() const {
    if (!call.scale_by_mean) return static_cast<float>(call.scale);
    return call.gate == Gate::softmax ? static_cast<float>(plane) : 1.0f;
  }

  // y or grad_x = of * (residual + scale A), + gradients through the means if kWithMeans:
  // frame_grad_means by channel and frame, joint_grad_means by channel and joint with the first
  // joints repeated.
  template <bool kWithMeans>
  CSTA_DEVICE void reweight(const Element* of, void* tensor, const float* frame_grad_means,
                            const float* joint_grad_means) const {
    auto* result = static_cast<Element*>(tensor) + offset();
    if (call.plan.unaligned_planes) {
      reweight_unaligned<kWithMeans>(of, result, frame_grad_means, joint_grad_means);
    } else {
      reweight_aligned<kWithMeans>(of, result, frame_grad_means, joint_grad_means);
    }
  }

 private:
  static constexpr int kAtOnce = 16 / kCount;

  CSTA_DEVICE float gain_at(float attention, float scaled) const {
    return (call.residual ? 1.0f : 0.0f) + attention * scaled;
  }

  // Gains of consecutive joints from (t, v) on, which may wrap into the next frame.
  CSTA_DEVICE void gains_from(int t, int v, float (&gains)[kCount]) const {
    const int left = joints - v;
    const float* attention = at(call.plan.layout.attention[kFrames]) + t;
    const float* scaled = at(call.plan.layout.scaled) + v;
    const float here = attention[0], next = left < kCount ? attention[1] : here;
#pragma unroll
    for (int k = 0; k < kCount; ++k) gains[k] = gain_at(k < left ? here : next, scaled[k]);
  }

  // A vector times its gains, plus the mean gradients of its joints and of its frame; all but the
  // first `left` elements belong to the next frame.
  template <bool kWithMeans>
  CSTA_DEVICE Vec16<Element> reweighted(const Vec16<Element>& vec, const float (&gains)[kCount],
                                        int left, const float* of_frame,
                                        const float* of_joints) const {
    const float this_frame = kWithMeans ? of_frame[0] : 0;
    const float next_frame = kWithMeans && left < kCount ? of_frame[1] : this_frame;
    Vec16<Element> result;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      float value = widen(vec.values[k]) * gains[k];
      if (kWithMeans) value += (k < left ? this_frame : next_frame) + of_joints[k];
      result.values[k] = narrow<Element>(value);
    }
    return result;
  }

  // Aligned planes: a thread takes the same positions of all channels, which share gains.
  template <bool kWithMeans>
  CSTA_DEVICE void reweight_aligned(const Element* of, Element* result,
                                    const float* frame_grad_means,
                                    const float* joint_grad_means) const {
    const int vectors = plane / kCount, ways = max(1, threads() / vectors);
    for (int i = thread(); i < vectors * ways; i += threads()) {
      const int way = i / vectors, p = (i - way * vectors) * kCount;
      const int t = call.by_joints.quotient(p), v = p - t * joints;
      float gains[kCount];
      gains_from(t, v, gains);
      for (int first = way; first < channels; first += kAtOnce * ways) {
        // All loads come first: the compiler cannot tell that the stores do not alias them.
        Vec16<Element> vecs[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          const int c = first + k * ways;
          if (c < channels) vecs[k] = Vec16<Element>::load(of + c * plane + p);
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          const int c = first + k * ways;
          if (c >= channels) break;
          reweighted<kWithMeans>(vecs[k], gains, joints - v,
                                 kWithMeans ? frame_grad_means + c * frames + t : nullptr,
                                 kWithMeans ? joint_grad_means + c * (joints + kWrap) + v : nullptr)
              .store(result + c * plane + p);
        }
      }
    }
  }

  // Unaligned planes: all of them as one run of vectors, some of which span two planes.
  template <bool kWithMeans>
  CSTA_DEVICE void reweight_unaligned(const Element* of, Element* result,
                                      const float* frame_grad_means,
                                      const float* joint_grad_means) const {
#pragma unroll 2
    for (int i = thread() * kCount; i < channels * plane; i += threads() * kCount) {
      const int c = call.by_plane.quotient(i), p = i - c * plane;
      const int t = call.by_joints.quotient(p), v = p - t * joints;
      const float* of_frame = kWithMeans ? frame_grad_means + c * frames + t : nullptr;
      const float* of_joints = kWithMeans ? joint_grad_means + c * (joints + kWrap) + v : nullptr;
      if (p + kCount > plane) {
        reweight_seam<kWithMeans>(of + i, result + i, plane - p, of_frame, of_joints);
        continue;
      }
      float gains[kCount];
      gains_from(t, v, gains);
      reweighted<kWithMeans>(Vec16<Element>::load(of + i), gains, joints - v, of_frame, of_joints)
          .store(result + i);
    }
  }

  // A vector that spans two planes: the last `left` elements of one, and the first of the next.
  template <bool kWithMeans>
  CSTA_DEVICE void reweight_seam(const Element* of, Element* result, int left,
                                 const float* of_frame, const float* of_joints) const {
    const float* attention = at(call.plan.layout.attention[kFrames]);
    const float* scaled = at(call.plan.layout.scaled);
#pragma unroll 1
    for (int k = 0; k < kCount; ++k) {
      const bool is_next = k >= left;
      const int v = is_next ? k - left : joints - left + k;
      float value = widen(of[k]) * gain_at(attention[is_next ? 0 : frames - 1], scaled[v]);
      if (kWithMeans) value += of_frame[is_next ? 1 : 0] + of_joints[is_next ? k + kWrap : k];
      result[k] = narrow<Element>(value);
    }
  }

  // With an even number of joints rows start at different ones, to avoid bank conflicts.
  CSTA_DEVICE float sum_of_row(const Element* x, int i) const {
    const Element* row = x + i * joints;
    if (joints % 2 != 0) return sum_of<float>(joints, [&](int v) { return widen(row[v]); });
    const int first = i - call.by_joints.quotient(i) * joints;
    return sum_of<float>(joints, [&](int k) {
      const int v = first + k;
      return widen(row[v < joints ? v : v - joints]);
    });
  }
};

}  // namespace csta::cuda
