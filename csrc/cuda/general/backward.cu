// Backward of any sample, by one cluster: x and grad_y come through rings of chunks in shared
// memory, a second pass over grad_y writes grad_x. The gradients of the heads' weights are sums
// over samples: weights.cu.
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
  CSTA_DEVICE explicit Backward(const CallParams& call)
      : call_(call), block_(call), grad_y_ring_(block_.ring(0)), x_ring_(block_.ring(1)) {
    block_barrier();
  }

  CSTA_DEVICE void run(int64_t n) {
    const int frames = call_.axes[kFrames].length, joints = call_.axes[kJoints].length;
    const int64_t offset = n * call_.channels * frames * joints;
    x_ = static_cast<const Element*>(call_.x) + offset;
    grad_y_ =
        call_.grad_y == nullptr ? nullptr : static_cast<const Element*>(call_.grad_y) + offset;
    x_end_ = length_of(call_, n) * joints;
    grad_y_end_ = call_.residual && call_.out != nullptr ? frames * joints : x_end_;
    const int chunks = block_.slice.chunks;
    for (int j = 0; grad_y_ != nullptr && j < min(chunks, grad_y_ring_.slots()); ++j)
      load_grad_y(j);
    for (int j = 0; j < min(chunks, x_ring_.slots()); ++j) load_x(j);
    const Valid valid = find_valid(call_, n, block_.flags(), block_.scratch());
    const Scalar scale = scale_of<Element>(call_, valid);
    clear_and_load_attention(n, valid, scale);
    auto* grad_x = call_.out == nullptr ? nullptr : static_cast<Element*>(call_.out) + offset;
    if (grad_y_ == nullptr) {
      pool_alone(valid);
    } else {
      first_pass(valid, scale, call_.has_heads ? nullptr : grad_x);
    }
    cluster_arrive();
    cluster_wait();
    gates_backward(block_, n, valid);
    if (call_.has_heads) heads(n, valid);
    cluster_arrive();  // peers may still read this block's memory
    if (grad_y_ == nullptr && grad_x != nullptr) {
      write_grad_means(valid, grad_x);
    } else if (call_.has_heads && grad_x != nullptr) {
      last_pass(valid, grad_x);
    }
    cluster_wait();
    block_barrier();
  }

 private:
  CSTA_DEVICE void load_grad_y(int number) {
    grad_y_ring_.load(grad_y_, block_.slice.chunk(call_, number), number, grad_y_end_);
  }
  CSTA_DEVICE void load_x(int number) {
    x_ring_.load(x_, block_.slice.chunk(call_, number), number, x_end_);
  }
  CSTA_DEVICE Coupling<Scalar> coupling() const {
    const SharedLayout& layout = call_.plan.layout;
    return {block_.own_group_rows(kFrames, layout.attention[kFrames]), block_.scaled_joints()};
  }

  CSTA_DEVICE void clear_and_load_attention(int64_t n, const Valid& valid, Scalar scale) {
    const SharedLayout& layout = call_.plan.layout;
    if (call_.has_heads)
      block_.clear(layout.sums[kFrames], layout.staged[kFrames] - layout.sums[kFrames]);
    block_.clear(layout.grad_attention[kFrames],
                 layout.correlation - layout.grad_attention[kFrames]);
    block_barrier();
    ThreadRotation rotation;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      load_attention(block_, axis, n, valid, scale, rotation);
    }
    block_barrier();
  }

  // With given logits (grad_x not null) no gradient comes through the means: this pass writes
  // grad_x too, and grad_y need not stay.
  CSTA_DEVICE void first_pass(const Valid& valid, Scalar scale, Element* grad_x) {
    const SharedLayout& layout = call_.plan.layout;
    const Coupling<Scalar> coupling = this->coupling();
    const Table<Scalar> none{};
    const Reweight<Element> reweight(call_, valid, coupling, false, none, none);
    Correlation<Element> correlation(
        call_, valid, coupling, block_.memory + layout.correlation, scale,
        block_.own_group_rows(kFrames, layout.grad_attention[kFrames]),
        block_.own_group_rows(kJoints, layout.grad_attention[kJoints]));
    const int chunks = block_.slice.chunks;
    for (int j = 0; j < chunks; ++j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      x_ring_.wait_for(j);
      grad_y_ring_.wait_for(j);
      const Element *x = x_ring_.data(x_, chunk, j), *grad_y = grad_y_ring_.data(grad_y_, chunk, j);
      if (call_.has_heads) {
        pool(call_, chunk, x, valid, block_.own_sums(kFrames), block_.own_sums(kJoints));
      }
      if (grad_x != nullptr) reweight.run(chunk, grad_y, grad_x);
      correlation.add(chunk, x, grad_y);
      if (j + 1 < chunks) block_barrier();
      if (j + x_ring_.slots() < chunks) load_x(j + x_ring_.slots());
      if (j + grad_y_ring_.slots() < chunks) load_grad_y(j + grad_y_ring_.slots());
    }
    correlation.finish();
  }

  // Both passes without grad_y: x is pooled, and grad_x is the gradient through the means alone.
  CSTA_DEVICE void pool_alone(const Valid& valid) {
    const int chunks = block_.slice.chunks;
    for (int j = 0; j < chunks; ++j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      x_ring_.wait_for(j);
      if (call_.has_heads) {
        pool(call_, chunk, x_ring_.data(x_, chunk, j), valid, block_.own_sums(kFrames),
             block_.own_sums(kJoints));
      }
      if (j + 1 < chunks) block_barrier();
      if (j + x_ring_.slots() < chunks) load_x(j + x_ring_.slots());
    }
  }
  CSTA_DEVICE void write_grad_means(const Valid& valid, Element* grad_x) const {
    const Table<Scalar> frames = block_.own_sums(kFrames), joints = block_.own_sums(kJoints);
    for (int j = 0; j < block_.slice.chunks; ++j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      const int count = chunk.channels() * chunk.positions();
      for (int i = thread(); i < count; i += threads()) {
        const Position at(call_, chunk, i);
        const bool gets = call_.has_heads && valid.frame(at.t) && valid.joint(at.v);
        const Scalar value = gets ? frames.at(at.c, at.t) + joints.at(at.c, at.v) : Scalar{0};
        grad_x[chunk.offset + i] = narrow<Element>(value);
      }
    }
  }

  // Backward of steps 2 and 1 at this block's own positions. The logits' gradients are in global
  // memory.
  CSTA_DEVICE void heads(int64_t n, const Valid& valid) {
    const SharedLayout& layout = call_.plan.layout;
    ThreadRotation for_means, for_hidden, for_grad_hidden, for_grad_means, for_fetching;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<Scalar> kept = means(n, axis), local = means(axis);
      gather_means(block_, axis, valid, for_means,
                   [&](int c, int l, Scalar mean) { kept.at(c, l) = local.at(c, l) = mean; });
    }
    block_barrier();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const Table<Scalar> kept = hidden(n, axis), local = hidden(axis);
      hidden_forward<Element>(
          call_.axes[axis], call_.axes[axis].w1, PositionRange(call_, axis, block_.rank),
          call_.channels, means(axis), for_hidden,
          [&](int h, int l, Scalar value) { kept.at(h, l) = local.at(h, l) = value; });
    }
    cluster_arrive();
    cluster_wait();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisParams& params = call_.axes[axis];
      const bool reached = is_reached(call_, axis);
      const Table<Scalar> kept = grad_hidden(n, axis), local = grad_hidden(axis);
      hidden_backward<Element>(params, PositionRange(call_, axis, block_.rank), call_.groups,
                               block_.tensor(params.grad_logits, n, call_.groups, axis),
                               hidden(axis), for_grad_hidden, [&](int h, int l, Scalar grad) {
                                 kept.at(h, l) = local.at(h, l) = reached ? grad : Scalar{0};
                               });
    }
    if (call_.out == nullptr) return;
    block_barrier();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      means_backward<Element>(call_.axes[axis], call_.axes[axis].w1,
                              PositionRange(call_, axis, block_.rank), call_.channels,
                              valid.count[1 - axis], grad_hidden(axis),
                              block_.own_rows(axis, layout.staged[axis]), for_grad_means);
    }
    cluster_arrive();
    cluster_wait();
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      fetch_grad_means(block_, axis, for_fetching);
    }
    block_barrier();
  }

  // Own positions, in the block's memory.
  CSTA_DEVICE Table<Scalar> means(int axis) const {
    return block_.own_columns(axis, call_.plan.layout.staged[axis], call_.channels);
  }
  CSTA_DEVICE Table<Scalar> hidden(int axis) const {
    return block_.own_columns(axis, call_.plan.layout.hidden[axis], call_.axes[axis].hidden);
  }
  CSTA_DEVICE Table<Scalar> grad_hidden(int axis) const {
    return block_.own_padded_rows(axis, call_.plan.layout.grad_hidden[axis]);
  }
  // Whole sample, in global memory, for the weights' gradients.
  CSTA_DEVICE Table<Scalar> means(int64_t n, int axis) const {
    return block_.tensor(call_.axes[axis].means, n, call_.channels, axis);
  }
  CSTA_DEVICE Table<Scalar> hidden(int64_t n, int axis) const {
    const AxisParams& params = call_.axes[axis];
    return block_.tensor(params.hidden_values, n, params.hidden, axis);
  }
  CSTA_DEVICE Table<Scalar> grad_hidden(int64_t n, int axis) const {
    const AxisParams& params = call_.axes[axis];
    return block_.tensor(params.grad_hidden, n, params.hidden, axis);
  }

  // From the last chunk of grad_y, which is still in its slot, to the first, which may be read
  // again.
  CSTA_DEVICE void last_pass(const Valid& valid, Element* grad_x) {
    const Coupling<Scalar> coupling = this->coupling();
    const Table<Scalar> frames = block_.own_sums(kFrames), joints = block_.own_sums(kJoints);
    const Reweight<Element> reweight(call_, valid, coupling, true, frames, joints);
    const int chunks = block_.slice.chunks, slots = grad_y_ring_.slots();
    for (int j = chunks - 1; j >= 0; --j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      if (j < chunks - slots) grad_y_ring_.wait_for(j);
      reweight.run(chunk, grad_y_ring_.data(grad_y_, chunk, j), grad_x);
      if (j - slots < 0) continue;
      block_barrier();
      load_grad_y(j - slots);
    }
  }

  const CallParams& call_;
  Block<Element> block_;
  Ring<Element> grad_y_ring_, x_ring_;
  const Element *x_ = nullptr, *grad_y_ = nullptr;
  int x_end_ = 0, grad_y_end_ = 0;
};

template <class Element>
CSTA_KERNEL CSTA_LAUNCH_BOUNDS(kMostThreads, 2)
    backward_kernel(CSTA_GRID_CONSTANT CallParams call) {
  Backward<Element> backward(call);
  const int64_t step = blocks() / cluster_size();
  for (int64_t n = block() / cluster_size(); n < call.samples; n += step) backward.run(n);
}

}  // namespace

int launch_backward(const CallParams& call, Dtype dtype, void* stream) {
  return launch_for(dtype, call, stream,
                    [](auto element) { return &backward_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
