// Forward of any sample, by one cluster: x comes through a ring of chunks in shared memory for the
// means, and from there (or read again) for the last pass, which writes y.
#include "../dispatch.h"
#include "gates.h"
#include "reweight.h"

namespace csta::cuda {
namespace {

template <class Element>
class Forward {
  using Scalar = Arithmetic<Element>;

 public:
  CSTA_DEVICE explicit Forward(const CallParams& call)
      : call_(call), block_(call), ring_(block_.ring(0)) {
    block_barrier();
  }

  CSTA_DEVICE void run(int64_t n) {
    x_ = static_cast<const Element*>(call_.x) + n * sample_size();
    read_end_ = (call_.residual ? call_.axes[kFrames].length : length_of(call_, n)) *
                call_.axes[kJoints].length;
    const int chunks = block_.slice.chunks, slots = ring_.slots();
    const int first = call_.has_heads ? 0 : max(chunks - slots, 0);
    for (int j = first; j < min(chunks, first + slots); ++j) load(j);
    const Valid valid = find_valid(call_, n, block_.flags(), block_.scratch());
    if (call_.has_heads) heads(valid);
    gates(n, valid);
    // Peers may still read this block's logits: it must not exit or start another sample before.
    if (call_.has_heads) cluster_arrive();
    reweight(valid, static_cast<Element*>(call_.out) + n * sample_size());
    if (call_.has_heads) cluster_wait();
    block_barrier();
  }

 private:
  CSTA_DEVICE int64_t sample_size() const {
    return int64_t{call_.channels} * call_.axes[kFrames].length * call_.axes[kJoints].length;
  }
  CSTA_DEVICE void load(int number) {
    ring_.load(x_, block_.slice.chunk(call_, number), number, read_end_);
  }

  CSTA_DEVICE void heads(const Valid& valid) {
    const SharedLayout& layout = call_.plan.layout;
    block_.clear(layout.sums[kFrames], layout.staged[kFrames] - layout.sums[kFrames]);
    block_barrier();
    const int chunks = block_.slice.chunks, slots = ring_.slots();
    for (int j = 0; j < chunks; ++j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      ring_.wait_for(j);
      pool(call_, chunk, ring_.data(x_, chunk, j), valid, block_.own_sums(kFrames),
           block_.own_sums(kJoints));
      if (j + 1 < chunks) block_barrier();
      if (j + slots < chunks) load(j + slots);
    }
    cluster_arrive();
    cluster_wait();
    ThreadRotation for_means, for_hidden, for_logits;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<Scalar> means = this->means(axis);
      gather_means(block_, axis, valid, for_means,
                   [&](int c, int l, Scalar mean) { means.at(c, l) = mean; });
    }
    block_barrier();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<Scalar> hidden = this->hidden(axis);
      hidden_forward<Element>(call_.axes[axis], call_.axes[axis].w1,
                              PositionRange(call_, axis, block_.rank), call_.channels, means(axis),
                              for_hidden,
                              [&](int h, int l, Scalar value) { hidden.at(h, l) = value; });
    }
    block_barrier();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<Scalar> logits = block_.own_rows(axis, layout.logits[axis]);
      logits_forward<Element>(call_.axes[axis], PositionRange(call_, axis, block_.rank),
                              call_.groups, hidden(axis), for_logits,
                              [&](int g, int l, Scalar score) { logits.at(g, l) = score; });
    }
    cluster_arrive();
    cluster_wait();
  }

  CSTA_DEVICE Table<Scalar> means(int axis) const {
    return block_.own_columns(axis, call_.plan.layout.staged[axis], call_.channels);
  }
  CSTA_DEVICE Table<Scalar> hidden(int axis) const {
    return block_.own_columns(axis, call_.plan.layout.hidden[axis], call_.axes[axis].hidden);
  }

  CSTA_DEVICE void gates(int64_t n, const Valid& valid) {
    ThreadRotation rotation;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) gather_logits(block_, axis, n, rotation);
    block_barrier();
    attention_forward(block_, n, valid, scale_of<Element>(call_, valid));
    block_barrier();
  }

  // From the last chunk, which is still in its slot, to the first, which may be read again.
  CSTA_DEVICE void reweight(const Valid& valid, Element* y) {
    const SharedLayout& layout = call_.plan.layout;
    const Coupling<Scalar> coupling{block_.own_group_rows(kFrames, layout.attention[kFrames]),
                                    block_.scaled_joints()};
    const Table<Scalar> none{};
    const Reweight<Element> reweight(call_, valid, coupling, false, none, none);
    const int chunks = block_.slice.chunks, slots = ring_.slots();
    for (int j = chunks - 1; j >= 0; --j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      if (!call_.has_heads || j < chunks - slots) ring_.wait_for(j);
      reweight.run(chunk, ring_.data(x_, chunk, j), y);
      if (j - slots < 0) continue;
      block_barrier();
      load(j - slots);
    }
  }

  const CallParams& call_;
  Block<Element> block_;
  Ring<Element> ring_;
  const Element* x_ = nullptr;
  int read_end_ = 0;
};

template <class Element>
CSTA_KERNEL CSTA_LAUNCH_BOUNDS(kMostThreads, 2) forward_kernel(CSTA_GRID_CONSTANT CallParams call) {
  Forward<Element> forward(call);
  const int64_t step = blocks() / cluster_size();
  for (int64_t n = block() / cluster_size(); n < call.samples; n += step) forward.run(n);
}

}  // namespace

int launch_forward(const CallParams& call, Dtype dtype, void* stream) {
  return launch_for(dtype, call, stream,
                    [](auto element) { return &forward_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
