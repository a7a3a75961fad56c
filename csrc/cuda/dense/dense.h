// The common sample: contiguous planes of one group, all of them valid, that a cluster holds whole.
// What its kernels share. Elements need no coordinates of their own here: rows and columns of
// planes follow each other in memory as their sums do.
#pragma once

#include "../common/heads.h"

namespace csta::cuda {

constexpr int kColumnThreads = 4;  // neighbours that share a sum over frames

template <class Element>
class DenseBlock {
 public:
  static constexpr int kCount = Pack<Element>::kCount;

  const CallParams& call;
  const int rank;      // of this block
  const int channels;  // that it holds
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
  // Elements of a tensor of x's shape before those of this block.
  CSTA_DEVICE int64_t offset() const {
    return (sample() * call.channels + rank * call.plan.slice_extent) * plane;
  }
  CSTA_DEVICE CopyBarrier* barrier(int which) const {
    return reinterpret_cast<CopyBarrier*>(shared_memory()) + which;
  }
  CSTA_DEVICE float* at(int64_t offset) const {
    return reinterpret_cast<float*>(shared_memory() + kPrefixBytes) + offset;
  }
  // Where the block's part of x, or of grad_y in backward, is.
  CSTA_DEVICE Element* resident() const {
    return reinterpret_cast<Element*>(at(call.plan.layout.scalars));
  }

  // Barriers: of what is held, of the weights, and of what passes.
  CSTA_DEVICE void begin(int barriers) const {
    if (thread() == 0) {
      for (int which = 0; which < barriers; ++which) init(barrier(which), 1);
      fence_barriers();
    }
    block_barrier();
  }
  // Asks for some of the block's channels of a tensor. For one thread.
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
  // The same for the heads' first weights, if the plan has room for them: the cluster's barriers
  // empty the L1 cache.
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

  // Sums over joints, by channel and frame, and over frames, by channel and joint, of some of the
  // block's channels.
  CSTA_DEVICE void pool(const Element* x, int first, int count) const {
    float* of_frames = at(call.plan.layout.sums[kFrames]) + first * frames;
    float* of_joints = at(call.plan.layout.sums[kJoints]) + first * joints;
    for (int i = thread(); i < count * frames; i += threads()) of_frames[i] = sum_of_row(x, i);
    // Where there are threads enough, neighbours share a column, and others than those with rows.
    const int columns = count * joints,
              split = columns * kColumnThreads <= threads() ? kColumnThreads : 1;
    const int items = round_up(columns * split, 32);  // whole warps, for their shuffles
    ThreadRotation rotation(round_up(count * frames, 32));
    for (int i = rotation.first(items); i < items; i += threads()) {
      const int j = i / split, piece = i % split;
      float sum = 0;
      if (j < columns) {
        const Element* column = x + j + call.by_joints.quotient(j) * (plane - joints);
        sum = sum_of<float>(ceil_div(frames - piece, split),
                            [&](int k) { return widen(column[(piece + k * split) * joints]); });
      }
      for (int step = 1; step < split; step *= 2) sum += shuffle_xor(sum, step);
      if (j < columns && piece == 0) of_joints[j] = sum;
    }
  }

  // Hands on the means that the cluster has the sums of, at this block's own positions.
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
  // Means and hidden values at own positions, those of a position together.
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

  // scale times the attention of joint v. The row goes on with its first numbers, for those who
  // read several at once.
  CSTA_DEVICE void scale_joint(int v, float attention) const {
    for (; v < joints + kWrap; v += joints) at(call.plan.layout.scaled)[v] = scale() * attention;
  }
  CSTA_DEVICE float scale() const {
    if (!call.scale_by_mean) return static_cast<float>(call.scale);
    return call.gate == Gate::softmax ? static_cast<float>(plane) : 1.0f;
  }

  // y or dx = of (residual + scale A), plus what the means give back where there are shares: of
  // frames by channel, and of joints by channel, each row going on as the attention does.
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

  // The gains from joint v of frame t on; what lies beyond its frame is the next one's.
  CSTA_DEVICE void gains_from(int t, int v, float (&gains)[kCount]) const {
    const int left = joints - v;
    const float* attention = at(call.plan.layout.attention[kFrames]) + t;
    const float* scaled = at(call.plan.layout.scaled) + v;
    const float here = attention[0], next = left < kCount ? attention[1] : here;
#pragma unroll
    for (int k = 0; k < kCount; ++k) gains[k] = gain_at(k < left ? here : next, scaled[k]);
  }

  // A pack times its gains, plus the shares of its joints and of its frame, or of the next frame
  // for all but `left` of its elements.
  template <bool kWithMeans>
  CSTA_DEVICE Pack<Element> reweighted(const Pack<Element>& pack, const float (&gains)[kCount],
                                       int left, const float* of_frame,
                                       const float* of_joints) const {
    const float this_frame = kWithMeans ? of_frame[0] : 0;
    const float next_frame = kWithMeans && left < kCount ? of_frame[1] : this_frame;
    Pack<Element> result;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      float value = widen(pack.elements[k]) * gains[k];
      if (kWithMeans) value += (k < left ? this_frame : next_frame) + of_joints[k];
      result.elements[k] = narrow<Element>(value);
    }
    return result;
  }

  // A thread has the gains of some positions and takes all channels' elements there.
  template <bool kWithMeans>
  CSTA_DEVICE void reweight_aligned(const Element* of, Element* result,
                                    const float* frame_grad_means,
                                    const float* joint_grad_means) const {
    const int packs = plane / kCount, ways = max(1, threads() / packs);
    for (int i = thread(); i < packs * ways; i += threads()) {
      const int way = i / packs, p = (i - way * packs) * kCount;
      const int t = call.by_joints.quotient(p), v = p - t * joints;
      float gains[kCount];
      gains_from(t, v, gains);
      for (int first = way; first < channels; first += kAtOnce * ways) {
        // Read before the first is written: the compiler must take that for one of them.
        Pack<Element> packs_of[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          const int c = first + k * ways;
          if (c < channels) packs_of[k] = Pack<Element>::at(of + c * plane + p);
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
          const int c = first + k * ways;
          if (c >= channels) break;
          *reinterpret_cast<Pack<Element>*>(result + c * plane + p) = reweighted<kWithMeans>(
              packs_of[k], gains, joints - v,
              kWithMeans ? frame_grad_means + c * frames + t : nullptr,
              kWithMeans ? joint_grad_means + c * (joints + kWrap) + v : nullptr);
        }
      }
    }
  }

  // DenseBlock that begin within a pack: the packs of all of them as they lie.
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
      *reinterpret_cast<Pack<Element>*>(result + i) =
          reweighted<kWithMeans>(Pack<Element>::at(of + i), gains, joints - v, of_frame, of_joints);
    }
  }

  // The last `left` elements of a plane and the first of the next one's, which make a pack.
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

  // Rows of an even number of joints begin at different places: neighbours would lie in one bank.
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
