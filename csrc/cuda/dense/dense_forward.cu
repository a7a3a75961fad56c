// Forward of a common sample; see planes.h.
#include "../dispatch.h"
#include "../general/gates.h"
#include "dense.h"

namespace csta::cuda {
namespace {

// Step 3: from the logits that the cluster's blocks have. For one warp.
template <class Element>
CSTA_DEVICE void attend(const Planes<Element>& planes, int axis) {
  const Call& call = planes.call;
  const AxisCall& the = call.axes[axis];
  const int lane = thread() % 32, length = the.length, share = call.plan.share[axis];
  const float* scores = planes.at(call.plan.room.scores[axis]);
  float* row = planes.at(axis == kFrames ? call.plan.room.attention[axis] : call.plan.room.scaled);
  const bool softmax = call.gate == Gate::softmax;
  float largest = -INFINITY;
#pragma unroll 4
  for (int l = lane; l < length; l += 32) {
    const int other = call.by_share[axis].quotient(l);
    const float value = from_peer(scores + l - other * share, other);
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
  auto* out = static_cast<float*>(the.attention) + planes.sample() * length;
  for (int l = lane; l < length; l += 32) {
    const float attention = softmax ? row[l] / sum : row[l];
    row[l] = attention;
    if (planes.rank == 0) out[l] = attention;
    if (axis == kJoints) planes.scale_joint(l, attention);
  }
}

template <class Element>
CSTA_KERNEL CSTA_REGISTERS(80) forward_planes_kernel(CSTA_PARAMETER Call call) {
  const Planes<Element> planes(call);
  const Room& room = call.plan.room;
  planes.begin(2);
  Element* const x = planes.held();
  if (thread() == 0) planes.load(0, call.x, x, 0, planes.channels);
  if (thread() == 0) planes.load_weights(1);
  wait(planes.barrier(0), 0);
  planes.pool(x, 0, planes.channels);
  cluster_arrive();
  cluster_wait();

#pragma unroll 1
  for (int axis = kFrames; axis <= kJoints; ++axis) {
    const Table<float> means = planes.means(axis);
    planes.gather_means(axis, [&](int c, int l, float mean) { means.at(c, l) = mean; });
  }
  block_barrier();
  wait(planes.barrier(1), 0);
  Turns for_hidden, for_logits;
#pragma unroll 1
  for (int axis = kFrames; axis <= kJoints; ++axis) {
    const Table<float> hidden = planes.hidden(axis);
    hidden_values<Element>(call.axes[axis], planes.w1(axis), planes.own(axis), call.channels,
                           planes.means(axis), for_hidden,
                           [&](int h, int l, float value) { hidden.at(h, l) = value; });
  }
  block_barrier();
#pragma unroll 1
  for (int axis = kFrames; axis <= kJoints; ++axis) {
    const Own own = planes.own(axis);
    float* scores = planes.at(room.scores[axis]) - own.begin;
    logits<Element>(call.axes[axis], own, 1, planes.hidden(axis), for_logits,
                    [&](int, int l, float score) { scores[l] = score; });
  }
  cluster_arrive();
  cluster_wait();

  for (int axis = thread() / 32; axis < 2; axis += threads() / 32) attend(planes, axis);
  // A peer may still need this block's logits: it may leave when all have theirs.
  cluster_arrive_relaxed();
  block_barrier();
  planes.template weigh<false>(x, call.out, nullptr, nullptr);
  cluster_wait();
}

}  // namespace

int launch_forward_planes(const Call& call, Dtype dtype, void* stream) {
  return launch_for<false>(dtype, call, stream,
                           [](auto element) { return &forward_planes_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
