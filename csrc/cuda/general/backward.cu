// Backward: one cluster takes a sample through all steps. The gradients of the heads' weights are
// sums over samples, and left to weights.cu.
#include "../dispatch.h"
#include "correlation.h"
#include "gates.h"
#include "reweight.h"

namespace csta::cuda {
namespace {

template <class Element>
class Backward {
  using Scalar = Arithmetic<Element>;

 public:
  CSTA_DEVICE explicit Backward(const Call& call)
      : call_(call), block_(call), u_ring_(block_.ring(0)), x_ring_(block_.ring(1)) {
    block_barrier();
  }

  CSTA_DEVICE void run(int64_t n) {
    const int frames = call_.axes[kFrames].length, joints = call_.axes[kJoints].length;
    const int64_t offset = n * call_.channels * frames * joints;
    x_ = static_cast<const Element*>(call_.x) + offset;
    u_ = static_cast<const Element*>(call_.u) + offset;
    x_end_ = length_of(call_, n) * joints;
    u_end_ = call_.residual && call_.out != nullptr ? frames * joints : x_end_;
    const int chunks = block_.slice.chunks;
    for (int j = 0; j < smaller(chunks, u_ring_.slots()); ++j) load_u(j);
    for (int j = 0; j < smaller(chunks, x_ring_.slots()); ++j) load_x(j);
    const Real real = find_real(call_, n, block_.flags(), block_.scratch());
    const Scalar kappa = scale<Element>(call_, real);
    recall(n, real, kappa);
    auto* grad_x = call_.out == nullptr ? nullptr : static_cast<Element*>(call_.out) + offset;
    first_pass(real, kappa, call_.has_heads ? nullptr : grad_x);
    cluster_arrive();
    cluster_wait();
    gate_gradients(block_, n, real);
    if (call_.has_heads) heads(n, real);
    cluster_arrive();  // a peer may still need what this block has
    if (call_.has_heads && grad_x != nullptr) last_pass(real, grad_x);
    cluster_wait();
    block_barrier();
  }

 private:
  CSTA_DEVICE void load_u(int number) {
    u_ring_.load(u_, block_.slice.chunk(call_, number), number, u_end_);
  }
  CSTA_DEVICE void load_x(int number) {
    x_ring_.load(x_, block_.slice.chunk(call_, number), number, x_end_);
  }
  CSTA_DEVICE Coupling<Scalar> coupling() const {
    const Room& room = call_.plan.room;
    return {block_.own_group_rows(kFrames, room.attention[kFrames]), block_.scaled_joints()};
  }

  CSTA_DEVICE void recall(int64_t n, const Real& real, Scalar kappa) {
    const Room& room = call_.plan.room;
    if (call_.has_heads)
      block_.clear(room.sums[kFrames], room.staged[kFrames] - room.sums[kFrames]);
    block_.clear(room.gradients[kFrames], room.products - room.gradients[kFrames]);
    block_barrier();
    Turns turns;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      recall_attention(block_, axis, n, real, kappa, turns);
    }
    block_barrier();
  }

  // Where logits were given, no gradient comes back through means: dx is known at once, and u need
  // not stay. Else grad_x is null.
  CSTA_DEVICE void first_pass(const Real& real, Scalar kappa, Element* grad_x) {
    const Room& room = call_.plan.room;
    const Coupling<Scalar> coupling = this->coupling();
    const Table<Scalar> none{};
    const Reweight<Element> reweight(call_, real, coupling, false, none, none);
    Correlation<Element> correlation(call_, real, coupling, block_.room + room.products, kappa,
                                     block_.own_group_rows(kFrames, room.gradients[kFrames]),
                                     block_.own_group_rows(kJoints, room.gradients[kJoints]));
    const int chunks = block_.slice.chunks;
    for (int j = 0; j < chunks; ++j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      x_ring_.wait_for(j);
      u_ring_.wait_for(j);
      const Element *x = x_ring_.data(x_, chunk, j), *u = u_ring_.data(u_, chunk, j);
      if (call_.has_heads) {
        pool(call_, chunk, x, real, block_.own_sums(kFrames), block_.own_sums(kJoints));
      }
      if (grad_x != nullptr) reweight.run(chunk, u, grad_x);
      correlation.add(chunk, x, u);
      if (j + 1 < chunks) block_barrier();
      if (j + x_ring_.slots() < chunks) load_x(j + x_ring_.slots());
      if (j + u_ring_.slots() < chunks) load_u(j + u_ring_.slots());
    }
    correlation.finish();
  }

  // Steps 2 and 1, at this block's own positions. The peers' gradients of the logits are in memory.
  CSTA_DEVICE void heads(int64_t n, const Real& real) {
    const Room& room = call_.plan.room;
    Turns for_means, for_hidden, for_slopes, for_shares, for_fetching;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<Scalar> kept = means(n, axis), own = means(axis);
      gather_means(block_, axis, real, for_means,
                   [&](int c, int l, Scalar mean) { kept.at(c, l) = own.at(c, l) = mean; });
    }
    block_barrier();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<Scalar> kept = hidden(n, axis), own = hidden(axis);
      hidden_values<Element>(
          call_.axes[axis], call_.axes[axis].w1, Own(call_, axis, block_.rank), call_.channels,
          means(axis), for_hidden,
          [&](int h, int l, Scalar value) { kept.at(h, l) = own.at(h, l) = value; });
    }
    cluster_arrive();
    cluster_wait();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisCall& the = call_.axes[axis];
      const Table<Scalar> kept = slopes(n, axis), own = slopes(axis);
      hidden_gradients<Element>(
          the, Own(call_, axis, block_.rank), call_.groups,
          block_.tensor(the.score_gradients, n, call_.groups, axis), hidden(axis), for_slopes,
          [&](int h, int l, Scalar slope) { kept.at(h, l) = own.at(h, l) = slope; });
    }
    if (call_.out == nullptr) return;
    block_barrier();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      mean_gradients<Element>(call_.axes[axis], call_.axes[axis].w1, Own(call_, axis, block_.rank),
                              call_.channels, real.count[1 - axis], slopes(axis),
                              block_.own_rows(axis, room.staged[axis]), for_shares);
    }
    cluster_arrive();
    cluster_wait();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      fetch_mean_gradients(block_, axis, for_fetching);
    }
    block_barrier();
  }

  // At the block's own positions, in shared memory.
  CSTA_DEVICE Table<Scalar> means(int axis) const {
    return block_.own_columns(axis, call_.plan.room.staged[axis], call_.channels);
  }
  CSTA_DEVICE Table<Scalar> hidden(int axis) const {
    return block_.own_columns(axis, call_.plan.room.hidden[axis], call_.axes[axis].hidden);
  }
  CSTA_DEVICE Table<Scalar> slopes(int axis) const {
    return block_.own_fours(axis, call_.plan.room.slopes[axis]);
  }
  // In memory, for the gradients of the weights.
  CSTA_DEVICE Table<Scalar> means(int64_t n, int axis) const {
    return block_.tensor(call_.axes[axis].means, n, call_.channels, axis);
  }
  CSTA_DEVICE Table<Scalar> hidden(int64_t n, int axis) const {
    const AxisCall& the = call_.axes[axis];
    return block_.tensor(the.hidden_values, n, the.hidden, axis);
  }
  CSTA_DEVICE Table<Scalar> slopes(int64_t n, int axis) const {
    const AxisCall& the = call_.axes[axis];
    return block_.tensor(the.hidden_gradients, n, the.hidden, axis);
  }

  // From the last chunk of u, which is there, to the first, which may have to be read again.
  CSTA_DEVICE void last_pass(const Real& real, Element* grad_x) {
    const Coupling<Scalar> coupling = this->coupling();
    const Table<Scalar> frames = block_.own_sums(kFrames), joints = block_.own_sums(kJoints);
    const Reweight<Element> reweight(call_, real, coupling, true, frames, joints);
    const int chunks = block_.slice.chunks, slots = u_ring_.slots();
    for (int j = chunks - 1; j >= 0; --j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      if (j < chunks - slots) u_ring_.wait_for(j);
      reweight.run(chunk, u_ring_.data(u_, chunk, j), grad_x);
      if (j - slots < 0) continue;
      block_barrier();
      load_u(j - slots);
    }
  }

  const Call& call_;
  Block<Element> block_;
  Ring<Element> u_ring_, x_ring_;
  const Element *x_ = nullptr, *u_ = nullptr;
  int x_end_ = 0, u_end_ = 0;
};

template <class Element>
CSTA_KERNEL CSTA_BOUNDS(kMostThreads, 2) backward_kernel(CSTA_PARAMETER Call call) {
  Backward<Element> backward(call);
  const int64_t step = blocks() / cluster_size();
  for (int64_t n = block() / cluster_size(); n < call.samples; n += step) backward.run(n);
}

}  // namespace

int launch_backward(const Call& call, Dtype dtype, void* stream) {
  return launch_for(dtype, call, stream,
                    [](auto element) { return &backward_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
