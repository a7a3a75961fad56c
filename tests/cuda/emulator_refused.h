// Small kernels that are wrong whoever runs first, and what all small kernels share.
#pragma once

#include "cuda/common/primitives.h"

namespace csta::cuda {
namespace {

constexpr int kThreads = 64, kBlocks = 4;

struct Call {
  const float* x;  // [blocks * threads]
  float* y;        // the same
};

float* numbers() { return reinterpret_cast<float*>(shared_memory() + 128); }
CopyBarrier* barrier() { return reinterpret_cast<CopyBarrier*>(shared_memory()); }
int64_t own() { return block() * threads() + thread(); }

void divergent(Call) {
  if (thread() < 32) {
    block_barrier();
  } else {
    block_barrier();
  }
}
void divergent_shuffle(Call call) {
  call.y[own()] = thread() % 2 == 0 ? shuffle_xor(1.0f, 1) : shuffle_xor(2.0f, 1);
}
void one_stays_away(Call) {
  if (thread() != 5) block_barrier();
}
void waits_for_nobody(Call) {
  if (thread() == 0) init(barrier(), 2);
  block_barrier();
  if (thread() == 0) arrive(barrier());
  wait(barrier(), 0);
}
void arrives_too_often(Call) {
  if (thread() != 0) return;
  init(barrier(), 1);
  expect(barrier(), 16);
  arrive(barrier());
  arrive(barrier());
}
void copy_alone(float* to, const float* from, int bytes, int expected) {
  if (thread() != 0) return;
  init(barrier(), 1);
  fence_barriers();
  fence_before_bulk_copies();
  expect(barrier(), expected);
  copy_in_bulk(to, from, bytes, barrier());
}
void copy_alone(float* to, const float* from, int bytes) { copy_alone(to, from, bytes, bytes); }
void copy_before_expected(Call call) { copy_alone(numbers(), call.x, 32, 16); }
void misaligned(Call call) { copy_alone(numbers(), call.x + 1, 16); }
void odd_size(Call call) { copy_alone(numbers(), call.x, 24); }
void nothing(Call call) { copy_alone(numbers(), call.x, 0); }
void copy_left_behind(Call call) { copy_alone(numbers(), call.x, 16); }
void copy_beyond(Call call) { copy_alone(numbers() + kThreads - 4, call.x, 32); }
void copy_elsewhere(Call call) { copy_alone(call.y, call.x, 16); }
void expects_too_much(Call) {
  if (thread() != 0) return;
  init(barrier(), 1);
  expect(barrier(), 1 << 19);
  expect(barrier(), 1 << 19);
}
// The second wait is for the phase of the first, which is over.
void stale_parity(Call) {
  if (thread() != 0) return;
  init(barrier(), 1);
  for (int round = 0; round < 2; ++round) {
    arrive(barrier());
    wait(barrier(), 0);
  }
}
// By the time of the first wait the barrier has gone round, and looks as if it had not begun.
void missed_phase(Call) {
  if (thread() != 0) return;
  init(barrier(), 1);
  for (int round = 0; round < 3; ++round) arrive(barrier());
  wait(barrier(), 0);
}
void peer_too_early(Call call) {
  call.y[own()] = *peer(numbers(), (cluster_rank() + 1) % cluster_size());
}
void overrun(Call call) {
  numbers()[thread() + 1] = call.x[own()];
  block_barrier();
}
void cluster_barrier_left_out(Call) {
  if (cluster_rank() == 0) {
    cluster_arrive();
    cluster_wait();
  }
}
void no_such_peer(Call) { peer(numbers(), cluster_size()); }
void not_shared(Call call) { peer(call.y, 0); }

}  // namespace
}  // namespace csta::cuda
