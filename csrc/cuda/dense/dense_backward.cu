// Backward of a common sample; see planes.h. The gradients of the heads' weights are sums over
// samples, and left to weights.cu.
#include "../dispatch.h"
#include "../general/gates.h"
#include "dense.h"

namespace csta::cuda {
namespace {

template <class Element>
class BackwardPlanes {
 public:
  CSTA_DEVICE explicit BackwardPlanes(const Call& call)
      : planes_(call), call_(call), room_(call.plan.room) {}

  CSTA_DEVICE void run() {
    const int slots = call_.plan.slots[1], chunks = this->chunks();
    planes_.begin(kFirstSlot + slots);
    Element* const u = planes_.held();
    if (thread() == 0) {
      for (int j = 0; j < smaller(slots, chunks); ++j) load_x(j);
      planes_.load(0, call_.u, u, 0, planes_.channels);
    }
    recall();
    for (int j = 0; j < chunks; ++j) {
      wait(planes_.barrier(kFirstSlot + j % slots), j / slots & 1);
      const int first = j * step(), count = smaller(step(), planes_.channels - first);
      planes_.pool(slot(j), first, count);
      if (j == 0) wait(planes_.barrier(0), 0);
      multiply(slot(j), u + first * planes_.plane, count, j > 0);
      if (j + slots >= chunks) continue;
      block_barrier();
      if (thread() == 0) load_x(j + slots);
    }
    block_barrier();
    if (thread() == 0) planes_.load_weights(1);  // to where x was
    correlate();
    cluster_arrive();
    cluster_wait();

    gather_gradients();
    means_and_hidden_values();
    slopes();
    if (call_.out != nullptr) {
      mean_gradients();
      cluster_arrive();
      cluster_wait();
      fetch_mean_gradients();
    }
    cluster_arrive_relaxed();  // a peer may still need what this block has
    block_barrier();
    if (call_.out != nullptr) {
      planes_.template weigh<true>(u, call_.out, sums(kFrames), sums(kJoints));
    }
    cluster_wait();
  }

 private:
  static constexpr int kFirstSlot = 2;  // its barrier

  // x passes in chunks of channels, or lies there whole as one.
  CSTA_DEVICE int step() const { return call_.plan.channels_of_chunk; }
  // At least one: a block without channels has sums, too, which are 0.
  CSTA_DEVICE int chunks() const { return larger(1, (planes_.channels + step() - 1) / step()); }
  CSTA_DEVICE Element* slot(int chunk) const {
    const int elements = call_.plan.slot_bytes / static_cast<int>(sizeof(Element));
    return planes_.held() + call_.plan.held_bytes / static_cast<int>(sizeof(Element)) +
           chunk % call_.plan.slots[1] * elements;
  }
  CSTA_DEVICE void load_x(int chunk) const {
    const int first = chunk * step();
    planes_.load(kFirstSlot + chunk % call_.plan.slots[1], call_.x, slot(chunk), first,
                 smaller(step(), planes_.channels - first));
  }

  CSTA_DEVICE float* sums(int axis) const { return planes_.at(room_.sums[axis]); }
  CSTA_DEVICE float* attention() const { return planes_.at(room_.attention[kFrames]); }
  CSTA_DEVICE float* scaled() const { return planes_.at(room_.scaled); }
  // The gradient of the attention: this block's part, then of the cluster, then of the logits.
  CSTA_DEVICE float* part(int axis) const { return planes_.at(room_.gradients[axis]); }
  CSTA_DEVICE float* gradient(int axis) const { return planes_.at(room_.scores[axis]); }
  CSTA_DEVICE float* products() const { return planes_.at(room_.products); }
  // A sample's row of a tensor.
  CSTA_DEVICE float* row(const void* tensor, int axis, int rows) const {
    return static_cast<float*>(const_cast<void*>(tensor)) +
           planes_.sample() * rows * call_.axes[axis].length;
  }

  // The kept attention.
  CSTA_DEVICE void recall() const {
    const float *frames = row(call_.axes[kFrames].attention, kFrames, 1),
                *joints = row(call_.axes[kJoints].attention, kJoints, 1);
    for (int t = thread(); t < planes_.frames; t += threads()) attention()[t] = frames[t];
    for (int v = thread(); v < planes_.joints; v += threads()) planes_.scale_joint(v, joints[v]);
  }

  // S = sum of u x over the block's channels. Where x lies there whole, S takes its place.
  CSTA_DEVICE void multiply(const Element* x, const Element* u, int channels, bool adds) const {
    if (call_.plan.ragged) {
      multiply_by<1>(x, u, channels, adds);
    } else {
      multiply_by<Planes<Element>::kCount>(x, u, channels, adds);
    }
  }
  // That many positions at a time; every plane is a multiple of it.
  template <int kCount>
  CSTA_DEVICE void multiply_by(const Element* x, const Element* u, int channels, bool adds) const {
    const auto at_once = [](const Element* from) {
      return *reinterpret_cast<const Several<Element, kCount>*>(from);
    };
    using Sums = Several<float, kCount>;
    auto* out = reinterpret_cast<Sums*>(products());
    // Sums lie where the elements of x's first channel do, and others pool those.
    if (call_.plan.products_in_x) block_barrier();
    for (int i = thread(); i < planes_.plane / kCount; i += threads()) {
      Sums sums{};
      if (adds) sums = out[i];
      for (int left = channels, at = i * kCount; left > 0; left -= 8) {
        Sums parts{};
#pragma unroll(kCount == 1 ? 8 : 2)
        for (int c = 0; c < smaller(left, 8); ++c, at += planes_.plane) {
          const auto a = at_once(x + at), b = at_once(u + at);
#pragma unroll
          for (int k = 0; k < kCount; ++k) parts.of[k] += widen(a.of[k]) * widen(b.of[k]);
        }
#pragma unroll
        for (int k = 0; k < kCount; ++k) sums.of[k] += parts.of[k];
      }
      out[i] = sums;
    }
  }

  // S against the attention of the other axis; several neighbouring threads for a column.
  CSTA_DEVICE void correlate() const {
    const int frames = planes_.frames, joints = planes_.joints;
    for (int t = thread(); t < frames; t += threads()) {
      const float* row = products() + t * joints;
      part(kFrames)[t] = sum_of<float>(joints, [&](int v) { return row[v] * scaled()[v]; });
    }
    for (int i = thread(); i < (joints * kColumnThreads + 31) / 32 * 32; i += threads()) {
      const int v = i / kColumnThreads, piece = i % kColumnThreads;
      float sum = 0;
      if (v < joints) {
        const int count = (frames - piece + kColumnThreads - 1) / kColumnThreads;
        sum = sum_of<float>(count, [&](int k) {
          const int t = piece + k * kColumnThreads;
          return products()[t * joints + v] * attention()[t];
        });
      }
      for (int step = 1; step < kColumnThreads; step *= 2) sum += shuffle_xor(sum, step);
      if (v < joints && piece == 0) part(kJoints)[v] = sum * planes_.kappa();
    }
  }

  // The attention's gradient of the whole cluster, in every block, and from there to the logits'.
  CSTA_DEVICE void gather_gradients() const {
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisCall& the = call_.axes[axis];
      const float* upstream = static_cast<const float*>(the.upstream);
      for (int l = thread(); l < the.length; l += threads()) {
        float sum = 0;
#pragma unroll 8
        for (int other = 0; other < cluster_size(); ++other) {
          sum += from_peer(part(axis) + l, other);
        }
        if (upstream != nullptr) sum += upstream[planes_.sample() * the.length + l];
        gradient(axis)[l] = sum;
      }
    }
  }
  CSTA_DEVICE void gate_gradients(int axis) const {
    const AxisCall& the = call_.axes[axis];
    const int lane = thread() % 32;
    const float* kept = row(the.attention, axis, 1);
    float* out = row(the.score_gradients, axis, 1);
    float dot = 0;
    for (int l = lane; l < the.length; l += 32) dot += kept[l] * gradient(axis)[l];
    dot = sum_over_warp(dot);
    for (int l = lane; l < the.length; l += 32) {
      const float a = kept[l], da = gradient(axis)[l];
      const float ds = call_.gate == Gate::softmax ? a * (da - dot) : a * (1 - a) * da;
      gradient(axis)[l] = ds;
      if (planes_.rank == 0) out[l] = ds;
    }
  }

  // Both at own positions, here and in memory, where the gradients of the weights want them. The
  // first two warps have the gates to see to meanwhile.
  CSTA_DEVICE void means_and_hidden_values() const {
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<float> means = planes_.means(axis);
      const int length = call_.axes[axis].length;
      float* kept = row(call_.axes[axis].means, axis, call_.channels);
      planes_.gather_means(axis, [&](int c, int l, float mean) {
        means.at(c, l) = mean;
        kept[c * length + l] = mean;
      });
    }
    block_barrier();
    wait(planes_.barrier(1), 0);
    for (int axis = thread() / 32; axis < 2; axis += threads() / 32) gate_gradients(axis);
    Turns turns(64);
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisCall& the = call_.axes[axis];
      const Table<float> hidden = planes_.hidden(axis);
      float* kept = row(the.hidden_values, axis, the.hidden);
      hidden_values<Element>(the, planes_.w1(axis), planes_.own(axis), call_.channels,
                             planes_.means(axis), turns, [&](int h, int l, float value) {
                               hidden.at(h, l) = value;
                               kept[h * the.length + l] = value;
                             });
    }
    block_barrier();
  }

  CSTA_DEVICE Table<float> slopes(int axis) const {
    const int share = call_.plan.share[axis];
    return {planes_.at(room_.slopes[axis]) - planes_.rank * share, (share + 3) / 4 * 4, 1};
  }
  // dz = w2 ds where h > 0, else 0.
  CSTA_DEVICE void slopes() const {
    Turns turns;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisCall& the = call_.axes[axis];
      const Own own = planes_.own(axis);
      const Table<float> hidden = planes_.hidden(axis), here = slopes(axis);
      float* kept = row(the.hidden_gradients, axis, the.hidden);
      const int share = call_.plan.share[axis], items = the.hidden * share;
      for (int i = turns.first(items); i < items; i += threads()) {
        const int h = call_.by_share[axis].quotient(i), l = own.begin + i - h * share;
        if (l >= own.end) continue;
        const float slope =
            hidden.at(h, l) <= 0 ? 0 : number<Element>(the.w2, h) * gradient(axis)[l];
        here.at(h, l) = slope;
        kept[h * the.length + l] = slope;
      }
    }
    block_barrier();
  }

  CSTA_DEVICE void mean_gradients() const {
    Turns turns;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const int share = call_.plan.share[axis];
      const Table<float> out{planes_.at(room_.staged[axis]) - planes_.rank * share, share, 1};
      csta::cuda::mean_gradients<Element>(call_.axes[axis], planes_.w1(axis), planes_.own(axis),
                                          call_.channels, call_.axes[1 - axis].length, slopes(axis),
                                          out, turns);
    }
  }

  // The gradients of the block's means, which the cluster has, to where its sums were.
  CSTA_DEVICE void fetch_mean_gradients() const {
    const int begin = planes_.rank * call_.plan.own;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const int length = call_.axes[axis].length, share = call_.plan.share[axis];
      const float* staged = planes_.at(room_.staged[axis]);
#pragma unroll 2
      for (int i = thread(); i < planes_.channels * length; i += threads()) {
        const int c = call_.by_length[axis].quotient(i), l = i - c * length;
        const int other = call_.by_share[axis].quotient(l);
        const float value = from_peer(staged + (begin + c - other) * share + l, other);
        if (axis == kFrames) {
          sums(axis)[i] = value;
        } else {
          const int stride = length + kWrap;
          for (int v = l; v < stride; v += length) sums(axis)[c * stride + v] = value;
        }
      }
    }
  }

  const Planes<Element> planes_;
  const Call& call_;
  const Room& room_;
};

template <class Element>
CSTA_KERNEL CSTA_REGISTERS(128) backward_planes_kernel(CSTA_PARAMETER Call call) {
  BackwardPlanes<Element>(call).run();
}

}  // namespace

int launch_backward_planes(const Call& call, Dtype dtype, void* stream) {
  return launch_for<false>(dtype, call, stream,
                           [](auto element) { return &backward_planes_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
