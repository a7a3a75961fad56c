// Planning of a call, from its shape and the device's limits alone: never from the number of
// samples, on which no result may depend.
#pragma once

#include <optional>

#include "params.h"

namespace csta::cuda {

// Device limits that a plan depends on.
struct Device {
  int multiprocessors;
  int most_cluster;             // blocks; 1 below compute capability 9.0
  int64_t shared_of_block;      // bytes, at most, of a block
  int64_t shared_of_processor;  // bytes of a multiprocessor
};

// Numbers that were chosen, not derived; tests set smaller ones.
struct Tuning {
  // Size of a chunk: large enough to saturate memory with few requests, small enough that the first
  // pass starts early and a block has several.
  int64_t chunk_bytes = 16384;
  // A slice up to this size is one chunk in forward: other blocks on the multiprocessor hide its
  // latency.
  int64_t whole_bytes = 65536;
  int threads = 256;
  int most_blocks = 8;  // of a cluster; a device may have fewer
  // Blocks per multiprocessor that a plan aims at; the dense kernels' registers allow no more.
  int blocks_of_forward = 3, blocks_of_backward = 2;
  // Slots of a tensor that is read once: one is used, the others are in flight.
  int slots_of_stream = 4;
  bool dense = true;                // use the dense kernels where they serve
  int most_blocks_of_dense = 16;    // of a cluster
  int64_t most_shared = INT64_MAX;  // cap of a block's bytes
};
Tuning& tuning();

enum class Op { forward, backward, pool, pool_backward };

// Plans the general kernels: sets call.plan and its divisors. False if the call is too large for
// 32-bit positions, or not even one position fits in shared memory.
bool make_plan(CallParams& call, Dtype dtype, Op op, const Device& device);
// Plans the dense kernels, or returns nothing if they do not serve the call; see
// dense/dense_plan.cpp.
std::optional<Plan> plan_dense(const CallParams& call, Dtype dtype, Op op, const Device& device);
// Sets the divisors that depend on call.plan.
void set_divisors(CallParams& call);

}  // namespace csta::cuda
