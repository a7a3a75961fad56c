// Sizes shared by the kernels and their plans.
#pragma once

#include <cstdint>

namespace csta::cuda {

constexpr int kMostThreads = 256;
constexpr int kMostSlots = 64;  // chunks of a tensor in a block: one bit of a word each
constexpr int kCopyBytes = 16;  // alignment of addresses and sizes of copies
constexpr int kWrap = 8;  // joints repeated behind a row: 16 bytes of the smallest element type
// Prefix of shared memory: two sets of barriers, one barrier per slot, and scratch for reductions
// across warps.
constexpr int kBarrierBytes = 2 * kMostSlots * 8;
constexpr int kPrefixBytes = kBarrierBytes + 32 * 8;

struct LaunchShape {
  int64_t blocks;
  int threads, cluster;
  int64_t shared_bytes;
};

}  // namespace csta::cuda
