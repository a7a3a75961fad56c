// How a call is spread over the machine, from its shape and the device's limits alone: never from
// the number of samples, on which no sample's result may depend.
#pragma once

#include "params.h"

namespace csta::cuda {

// What the plan must know of a device.
struct Device {
  int multiprocessors;
  int most_cluster;             // blocks; 1 before compute capability 9.0
  int64_t shared_of_block;      // bytes that a block may have
  int64_t shared_of_processor;  // bytes that blocks on one multiprocessor share
};

// The numbers that were chosen rather than derived; tests choose smaller ones.
struct Tuning {
  // A chunk is long enough to keep the memory busy with few requests, and short enough that the
  // first pass begins early and that a block has several.
  int64_t chunk_bytes = 16384;
  // What a block of forward holds of a sample is one chunk up to this: other blocks on the
  // multiprocessor have something to do meanwhile.
  int64_t whole_bytes = 65536;
  int threads = 256;
  int most_blocks = 8;  // of a cluster; a device may have fewer
  // Blocks that should share a multiprocessor: as many of planes.h as their registers allow.
  int blocks_of_forward = 3, blocks_of_backward = 2;
  // Chunks of a tensor that is read once: one is worked on, the others are on their way.
  int slots_of_stream = 4;
  bool dense = true;                // whether the kernels of planes.h are used where they serve
  int most_blocks_of_dense = 16;    // of a cluster
  int64_t most_shared = INT64_MAX;  // of a block; less than the device has
};
Tuning& tuning();

enum class Op { forward, backward, pool, pool_backward };

// Completes call.plan and its divisors. False where the call is too large for 32-bit positions, or
// not even one position of it fits in shared memory.
bool make_plan(CallParams& call, Dtype dtype, Op op, const Device& device);
// Changes call.plan to one for the kernels of planes.h where they serve the call: see
// planes_plan.cpp.
bool plan_dense(CallParams& call, Dtype dtype, Op op, const Device& device);
// The divisors that follow from call.plan.
void set_divisors(CallParams& call);

}  // namespace csta::cuda
