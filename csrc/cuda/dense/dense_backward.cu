// Backward of a dense sample, see dense.h: grad_y stays in shared memory, x passes through slots,
// grad_x is written from shared memory. The gradients of the heads' weights are sums over samples:
// weights.cu.
#include "../common/warp.h"
#include "../dispatch.h"
#include "dense.h"

namespace csta::cuda {
namespace {

template <class Element>
class DenseBackward {
 public:
  CSTA_DEVICE explicit DenseBackward(const CallParams& call)
      : dense_(call), call_(call), layout_(call.plan.layout) {}

  CSTA_DEVICE void run() {
    const int slots = call_.plan.slots[1], chunks = this->chunks();
    dense_.begin(kFirstSlot + slots);
    Element* const grad_y = dense_.resident();
    if (thread() == 0) {
      for (int j = 0; j < min(slots, chunks); ++j) load_x(j);
      dense_.load(0, call_.grad_y, grad_y, 0, dense_.channels);
    }
    load_attention();
    for (int j = 0; j < chunks; ++j) {
      wait(dense_.barrier(kFirstSlot + j % slots), j / slots & 1);
      const int first = j * step(), count = min(step(), dense_.channels - first);
      dense_.pool(slot(j), first, count);
      if (j == 0) wait(dense_.barrier(0), 0);
      multiply(slot(j), grad_y + first * dense_.plane, count, j > 0);
      if (j + slots >= chunks) continue;
      block_barrier();
      if (thread() == 0) load_x(j + slots);
    }
    block_barrier();
    if (thread() == 0) dense_.load_weights(1);  // overwrites x
    correlate();
    cluster_arrive();
    cluster_wait();
    gather_grad_attention();
    means_and_hidden_values();
    hidden_backward();
    if (call_.out != nullptr) {
      means_backward();
      cluster_arrive();
      cluster_wait();
      fetch_grad_means();
    }
    cluster_arrive_relaxed();  // peers may still read this block's memory
    block_barrier();
    if (call_.out != nullptr) {
      dense_.template reweight<true>(grad_y, call_.out, sums(kFrames), sums(kJoints));
    }
    cluster_wait();
  }

 private:
  static constexpr int kFirstSlot = 2;  // index of its barrier

  // Channels per chunk of x.
  CSTA_DEVICE int step() const { return call_.plan.channels_per_chunk; }
  // At least one: a block without channels still clears its sums.
  CSTA_DEVICE int chunks() const { return max(1, ceil_div(dense_.channels, step())); }
  CSTA_DEVICE Element* slot(int chunk) const {
    const int bytes =
        call_.plan.resident_bytes + chunk % call_.plan.slots[1] * call_.plan.slot_bytes;
    return dense_.resident() + bytes / static_cast<int>(sizeof(Element));
  }
  CSTA_DEVICE void load_x(int chunk) const {
    const int first = chunk * step();
    dense_.load(kFirstSlot + chunk % call_.plan.slots[1], call_.x, slot(chunk), first,
                min(step(), dense_.channels - first));
  }

  CSTA_DEVICE float* sums(int axis) const { return dense_.at(layout_.sums[axis]); }
  CSTA_DEVICE float* attention() const { return dense_.at(layout_.attention[kFrames]); }
  CSTA_DEVICE float* scaled() const { return dense_.at(layout_.scaled); }
  // Gradient of the attention: this block's partial sum; then the cluster's; then the logits'.
  CSTA_DEVICE float* grad_attention(int axis) const {
    return dense_.at(layout_.grad_attention[axis]);
  }
  CSTA_DEVICE float* grad_logits(int axis) const { return dense_.at(layout_.grad_logits[axis]); }
  CSTA_DEVICE float* correlation() const { return dense_.at(layout_.correlation); }
  CSTA_DEVICE float* row(const void* tensor, int axis, int rows) const {
    return static_cast<float*>(const_cast<void*>(tensor)) +
           dense_.sample() * rows * call_.axes[axis].length;
  }

  CSTA_DEVICE void load_attention() const {
    const float *frames = row(call_.axes[kFrames].attention, kFrames, 1),
                *joints = row(call_.axes[kJoints].attention, kJoints, 1);
    for (int t = thread(); t < dense_.frames; t += threads()) attention()[t] = frames[t];
    for (int v = thread(); v < dense_.joints; v += threads()) dense_.scale_joint(v, joints[v]);
  }

  // S = sum of grad_y * x over the block's channels, in place of x where that is resident.
  CSTA_DEVICE void multiply(const Element* x, const Element* grad_y, int channels,
                            bool adds) const {
    if (call_.plan.unaligned_planes) {
      multiply_by<1>(x, grad_y, channels, adds);
    } else {
      multiply_by<DenseBlock<Element>::kCount>(x, grad_y, channels, adds);
    }
  }
  // kCount positions at a time, which divide a plane.
  template <int kCount>
  CSTA_DEVICE void multiply_by(const Element* x, const Element* grad_y, int channels,
                               bool adds) const {
    using Elements = Vec<Element, kCount>;
    using Sums = Vec<float, kCount>;
    auto* out = reinterpret_cast<Sums*>(correlation());
    // S overwrites x's first channel, which other threads may still pool.
    if (call_.plan.correlation_in_x) block_barrier();
    for (int i = thread(); i < dense_.plane / kCount; i += threads()) {
      Sums sums{};
      if (adds) sums = out[i];
      for (int left = channels, at = i * kCount; left > 0; left -= 8) {
        Sums partial{};
#pragma unroll(kCount == 1 ? 8 : 2)
        for (int c = 0; c < min(left, 8); ++c, at += dense_.plane) {
          const Elements a = Elements::load(x + at), b = Elements::load(grad_y + at);
#pragma unroll
          for (int k = 0; k < kCount; ++k)
            partial.values[k] += widen(a.values[k]) * widen(b.values[k]);
        }
#pragma unroll
        for (int k = 0; k < kCount; ++k) sums.values[k] += partial.values[k];
      }
      out[i] = sums;
    }
  }

  // S times the attention of the other axis; neighbouring threads share a column.
  CSTA_DEVICE void correlate() const {
    const int frames = dense_.frames, joints = dense_.joints;
    for (int t = thread(); t < frames; t += threads()) {
      const float* row = correlation() + t * joints;
      grad_attention(kFrames)[t] =
          sum_of<float>(joints, [&](int v) { return row[v] * scaled()[v]; });
    }
    for (int i = thread(); i < round_up(joints * kColumnThreads, 32); i += threads()) {
      const int v = i / kColumnThreads, lane = i % kColumnThreads;
      float sum = 0;
      if (v < joints) {
        const int count = ceil_div(frames - lane, kColumnThreads);
        sum = sum_of<float>(count, [&](int k) {
          const int t = lane + k * kColumnThreads;
          return correlation()[t * joints + v] * attention()[t];
        });
      }
      for (int step = 1; step < kColumnThreads; step *= 2) sum += shuffle_xor(sum, step);
      if (v < joints && lane == 0) grad_attention(kJoints)[v] = sum * dense_.scale();
    }
  }

  // Sums the attention's gradient over the cluster, in every block.
  CSTA_DEVICE void gather_grad_attention() const {
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisParams& params = call_.axes[axis];
      const float* upstream = static_cast<const float*>(params.upstream);
      for (int l = thread(); l < params.length; l += threads()) {
        float sum = 0;
#pragma unroll 8
        for (int other = 0; other < cluster_size(); ++other) {
          sum += from_peer(grad_attention(axis) + l, other);
        }
        if (upstream != nullptr) sum += upstream[dense_.sample() * params.length + l];
        grad_logits(axis)[l] = sum;
      }
    }
  }
  CSTA_DEVICE void gates_backward(int axis) const {
    const AxisParams& params = call_.axes[axis];
    const int lane = thread() % 32;
    const float* kept = row(params.attention, axis, 1);
    float* out = row(params.grad_logits, axis, 1);
    float dot = 0;
    for (int l = lane; l < params.length; l += 32) dot += kept[l] * grad_logits(axis)[l];
    dot = sum_over_warp(dot);
    for (int l = lane; l < params.length; l += 32) {
      const float a = kept[l], da = grad_logits(axis)[l];
      const float ds = call_.gate == Gate::softmax ? a * (da - dot) : a * (1 - a) * da;
      grad_logits(axis)[l] = ds;
      if (dense_.rank == 0) out[l] = ds;
    }
  }

  // Both at own positions, also to global memory for the weights' gradients. Two warps compute the
  // gates meanwhile.
  CSTA_DEVICE void means_and_hidden_values() const {
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<float> means = dense_.means(axis);
      const int length = call_.axes[axis].length;
      float* kept = row(call_.axes[axis].means, axis, call_.channels);
      dense_.gather_means(axis, [&](int c, int l, float mean) {
        means.at(c, l) = mean;
        kept[c * length + l] = mean;
      });
    }
    block_barrier();
    wait(dense_.barrier(1), 0);
    for (int axis = thread() / 32; axis < 2; axis += threads() / 32) gates_backward(axis);
    ThreadRotation rotation(64);
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisParams& params = call_.axes[axis];
      const Table<float> hidden = dense_.hidden(axis);
      float* kept = row(params.hidden_values, axis, params.hidden);
      hidden_forward<Element>(params, dense_.w1(axis), dense_.positions(axis), call_.channels,
                              dense_.means(axis), rotation, [&](int h, int l, float value) {
                                hidden.at(h, l) = value;
                                kept[h * params.length + l] = value;
                              });
    }
    block_barrier();
  }

  CSTA_DEVICE Table<float> grad_hidden(int axis) const {
    const int per_block = call_.plan.positions_per_block[axis], pitch = round_up(per_block, 4);
    return {dense_.at(layout_.grad_hidden[axis]) - dense_.rank * per_block, pitch, 1};
  }
  // dz = w2 ds where h > 0, else 0.
  CSTA_DEVICE void hidden_backward() const {
    ThreadRotation rotation;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisParams& params = call_.axes[axis];
      const PositionRange range = dense_.positions(axis);
      const Divisor& per_range = call_.by_position_range[axis];
      const Table<float> hidden = dense_.hidden(axis), here = grad_hidden(axis);
      float* kept = row(params.grad_hidden, axis, params.hidden);
      const int per_block = call_.plan.positions_per_block[axis], items = params.hidden * per_block;
      for (int i = rotation.first(items); i < items; i += threads()) {
        const int h = per_range.quotient(i), l = range.begin + i - h * per_block;
        if (l >= range.end) continue;
        const float grad =
            hidden.at(h, l) <= 0 ? 0 : number<Element>(params.w2, h) * grad_logits(axis)[l];
        here.at(h, l) = grad;
        kept[h * params.length + l] = grad;
      }
    }
    block_barrier();
  }

  CSTA_DEVICE void means_backward() const {
    ThreadRotation rotation;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const int per_block = call_.plan.positions_per_block[axis];
      const Table<float> out{dense_.at(layout_.staged[axis]) - dense_.rank * per_block, per_block,
                             1};
      csta::cuda::means_backward<Element>(call_.axes[axis], dense_.w1(axis), dense_.positions(axis),
                                          call_.channels, call_.axes[1 - axis].length,
                                          grad_hidden(axis), out, rotation);
    }
  }

  // Copies the gradients of the block's means from all blocks to its sums.
  CSTA_DEVICE void fetch_grad_means() const {
    const int begin = dense_.rank * call_.plan.slice_extent;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const int length = call_.axes[axis].length, per_block = call_.plan.positions_per_block[axis];
      const float* staged = dense_.at(layout_.staged[axis]);
#pragma unroll 2
      for (int i = thread(); i < dense_.channels * length; i += threads()) {
        const int c = call_.by_length[axis].quotient(i), l = i - c * length;
        const int other = call_.by_position_range[axis].quotient(l);
        const float value = from_peer(staged + (begin + c - other) * per_block + l, other);
        if (axis == kFrames) {
          sums(axis)[i] = value;
        } else {
          const int stride = length + kWrap;
          for (int v = l; v < stride; v += length) sums(axis)[c * stride + v] = value;
        }
      }
    }
  }

  const DenseBlock<Element> dense_;
  const CallParams& call_;
  const SharedLayout& layout_;
};

template <class Element>
CSTA_KERNEL CSTA_MAX_REGISTERS(128) dense_backward_kernel(CSTA_GRID_CONSTANT CallParams call) {
  DenseBackward<Element>(call).run();
}

}  // namespace

int launch_dense_backward(const CallParams& call, Dtype dtype, void* stream) {
  return launch_for<false>(dtype, call, stream,
                           [](auto element) { return &dense_backward_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
