// Emulated version of csrc/cuda/common/primitives.h for the host: every primitive calls the
// emulator.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#include "cuda/limits.h"
#include "emulator.h"

#define CSTA_KERNEL static void
#define CSTA_DEVICE inline
#define CSTA_LAUNCH_BOUNDS(threads, blocks)
#define CSTA_MAX_REGISTERS(most)
#define CSTA_GRID_CONSTANT const

namespace csta::cuda {

using Place = emulator::Place;

struct CopyBarrier {
  uint64_t state;
};

inline int thread() { return static_cast<int>(emulator::thread_index()); }
inline int threads() { return static_cast<int>(emulator::threads_of_block()); }
inline int64_t block() { return emulator::block_index(); }
inline int64_t blocks() { return emulator::blocks_of_grid(); }
inline int cluster_rank() { return static_cast<int>(emulator::cluster_rank()); }
inline int cluster_size() { return static_cast<int>(emulator::cluster_size()); }
inline unsigned char* shared_memory() { return emulator::shared_memory(); }

inline void block_barrier(Place place = Place::current()) { emulator::block_barrier(place); }
inline void cluster_arrive(Place place = Place::current()) { emulator::cluster_arrive(place); }
inline void cluster_arrive_relaxed(Place place = Place::current()) {
  emulator::cluster_arrive(place);
}
inline void cluster_wait(Place place = Place::current()) { emulator::cluster_wait(place); }

template <class T>
T* peer(T* mine, int rank, Place place = Place::current()) {
  return static_cast<T*>(emulator::peer(mine, static_cast<unsigned>(rank), place));
}

inline float from_peer(const float* mine, int rank, Place place = Place::current()) {
  return *static_cast<const float*>(
      emulator::peer(const_cast<float*>(mine), static_cast<unsigned>(rank), place));
}

template <class T>
T shuffle_xor(T value, int mask, Place place = Place::current()) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = emulator::shuffle(bits, emulator::thread_index() ^ static_cast<unsigned>(mask), place);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline bool copies_in_bulk() { return emulator::settings().bulk_copies; }
inline void init(CopyBarrier* barrier, int arrivals, Place place = Place::current()) {
  emulator::barrier_init(barrier, static_cast<unsigned>(arrivals), place);
}
inline void fence_barriers() { emulator::barrier_fence(); }
inline void fence_before_bulk_copies() { emulator::bulk_copy_fence(); }
inline void arrive(CopyBarrier* barrier, Place place = Place::current()) {
  emulator::barrier_arrive(barrier, place);
}
inline void expect(CopyBarrier* barrier, int bytes, Place place = Place::current()) {
  emulator::barrier_expect(barrier, static_cast<unsigned>(bytes), place);
}
inline void wait(CopyBarrier* barrier, int parity, Place place = Place::current()) {
  emulator::barrier_wait(barrier, static_cast<unsigned>(parity), place);
}
inline void copy_in_bulk(void* to, const void* from, int bytes, CopyBarrier* barrier,
                         Place place = Place::current()) {
  emulator::bulk_copy(to, from, static_cast<unsigned>(bytes), barrier, place);
}
inline void copy_16_bytes(void* to, const void* from, Place place = Place::current()) {
  emulator::copy_16(to, from, place);
}
inline void arrive_after_copies(CopyBarrier* barrier, Place place = Place::current()) {
  emulator::barrier_arrive_after_copies(barrier, place);
}

inline float exponential(float value) { return std::exp(value); }
inline double exponential(double value) { return std::exp(value); }

inline float widen_half(uint16_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<float>(value);
}
inline uint16_t narrow_half(float number) {
  const auto value = static_cast<_Float16>(number);
  uint16_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// To the nearest, ties to even. A NaN stays one: rounding could carry it to infinity.
inline uint16_t narrow_bfloat16(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  if (number != number) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Launches kernel(call) on the emulator, which raises its errors.
template <class Call>
int launch(void (*kernel)(Call), const LaunchShape& shape, const Call& call, void* stream) {
  if (const int error = emulator::next_launch(stream)) return error;
  std::pair<void (*)(Call), const Call*> bound{kernel, &call};
  emulator::run(
      {static_cast<uint64_t>(shape.blocks), static_cast<unsigned>(shape.threads),
       static_cast<unsigned>(shape.cluster), static_cast<size_t>(shape.shared_bytes)},
      [](void* context) {
        const auto* bound =
            static_cast<decltype(&std::declval<std::pair<void (*)(Call), const Call*>&>())>(
                context);
        bound->first(*bound->second);
      },
      &bound);
  return 0;
}

}  // namespace csta::cuda
