// Sizes that the kernels and their plans must agree on.
#pragma once

#include <cstdint>

namespace csta::cuda {

constexpr int kMostThreads = 256;
constexpr int kMostSlots = 64;  // chunks of a tensor that a block keeps: one bit of a word each
constexpr int kCopyBytes = 16;  // addresses and sizes of copies are multiples
constexpr int kWrap = 8;  // elements of the smallest type in 16 bytes, which are written together
// Shared memory begins with two sets of barriers, one for each slot, and what warps tell each
// other.
constexpr int kBarrierBytes = 2 * kMostSlots * 8;
constexpr int kPrefixBytes = kBarrierBytes + 32 * 8;

struct LaunchShape {
  int64_t blocks;
  int threads, cluster;
  int64_t shared_bytes;
};

}  // namespace csta::cuda
