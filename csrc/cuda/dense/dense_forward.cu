// Forward of a dense sample, see dense.h: one bulk copy brings x to shared memory, where the means
// and y are computed from it.
#include "../common/warp.h"
#include "../dispatch.h"
#include "dense.h"

namespace csta::cuda {
namespace {

// Step 3, from the logits of all blocks; one warp per axis.
template <class Element>
CSTA_DEVICE void attention_forward(const DenseBlock<Element>& dense, int axis) {
  const CallParams& call = dense.call;
  const AxisParams& params = call.axes[axis];
  const int lane = thread() % 32, length = params.length,
            per_block = call.plan.positions_per_block[axis];
  const float* logits = dense.at(call.plan.layout.logits[axis]);
  float* row =
      dense.at(axis == kFrames ? call.plan.layout.attention[axis] : call.plan.layout.scaled);
  const bool softmax = call.gate == Gate::softmax;
  float largest = -INFINITY;
#pragma unroll 4
  for (int l = lane; l < length; l += 32) {
    const int other = call.by_position_range[axis].quotient(l);
    const float value = from_peer(logits + l - other * per_block, other);
    row[l] = value;
    largest = value > largest ? value : largest;
  }
  float sum = 0;
  if (softmax) largest = largest_of_warp(largest);
  for (int l = lane; l < length; l += 32) {
    const float value = row[l];
    const float e = exponential(softmax ? value - largest : value < 0 ? value : -value);
    row[l] = softmax ? e : (value < 0 ? e : 1.0f) / (e + 1.0f);
    sum += e;
  }
  if (softmax) sum = sum_over_warp(sum);
  auto* out = static_cast<float*>(params.attention) + dense.sample() * length;
  for (int l = lane; l < length; l += 32) {
    const float attention = softmax ? row[l] / sum : row[l];
    row[l] = attention;
    if (dense.rank == 0) out[l] = attention;
    if (axis == kJoints) dense.scale_joint(l, attention);
  }
}

template <class Element>
CSTA_KERNEL CSTA_MAX_REGISTERS(80) dense_forward_kernel(CSTA_GRID_CONSTANT CallParams call) {
  const DenseBlock<Element> dense(call);
  const SharedLayout& layout = call.plan.layout;
  dense.begin(2);
  Element* const x = dense.resident();
  if (thread() == 0) dense.load(0, call.x, x, 0, dense.channels);
  if (thread() == 0) dense.load_weights(1);
  wait(dense.barrier(0), 0);
  dense.pool(x, 0, dense.channels);
  cluster_arrive();
  cluster_wait();

#pragma unroll 1
  for (int axis = kFrames; axis <= kJoints; ++axis) {
    const Table<float> means = dense.means(axis);
    dense.gather_means(axis, [&](int c, int l, float mean) { means.at(c, l) = mean; });
  }
  block_barrier();
  wait(dense.barrier(1), 0);
  ThreadRotation for_hidden, for_logits;
#pragma unroll 1
  for (int axis = kFrames; axis <= kJoints; ++axis) {
    const Table<float> hidden = dense.hidden(axis);
    hidden_forward<Element>(call.axes[axis], dense.w1(axis), dense.positions(axis), call.channels,
                            dense.means(axis), for_hidden,
                            [&](int h, int l, float value) { hidden.at(h, l) = value; });
  }
  block_barrier();
#pragma unroll 1
  for (int axis = kFrames; axis <= kJoints; ++axis) {
    const PositionRange range = dense.positions(axis);
    float* logits = dense.at(layout.logits[axis]) - range.begin;
    logits_forward<Element>(call.axes[axis], range, 1, dense.hidden(axis), for_logits,
                            [&](int, int l, float score) { logits[l] = score; });
  }
  cluster_arrive();
  cluster_wait();

  for (int axis = thread() / 32; axis < 2; axis += threads() / 32) attention_forward(dense, axis);
  // Peers may still read this block's logits: it must not exit before.
  cluster_arrive_relaxed();
  block_barrier();
  dense.template reweight<false>(x, call.out, nullptr, nullptr);
  cluster_wait();
}

}  // namespace

int launch_dense_forward(const CallParams& call, Dtype dtype, void* stream) {
  return launch_for<false>(dtype, call, stream,
                           [](auto element) { return &dense_forward_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
