// The machine behind the emulator: its threads and blocks, and who runs next.
#pragma once

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "emulator.h"
#include "fibers.h"

namespace emulator {

enum class State { ready, at_block_barrier, at_cluster_barrier, in_shuffle, at_barrier, done };

constexpr unsigned kLanes = 32;
constexpr size_t kGuard = 128;  // bytes behind shared memory that must stay as they are
constexpr size_t kMostFlights = 65536;
constexpr int64_t kMostExpected = (1 << 20) - 1;  // bytes of a phase of a barrier
constexpr unsigned kMostCluster = 16;             // blocks that every device with clusters takes
constexpr unsigned char kUnwritten = 0xff, kGuarding = 0xa5;  // 0xff...: NaN in every float type

struct Fiber;

// A barrier that copies arrive at. Its phase ends when nothing is pending, arrivals or bytes.
struct Barrier {
  unsigned arrivals = 0, pending = 0, phase = 0;
  int64_t bytes = 0;             // expected, and not yet landed
  int64_t awaited = 0;           // expected, and of no copy that has begun
  const Fiber* owner = nullptr;  // who initialised it
  bool fenced = false;
  std::vector<unsigned> waits = {};  // of the block's threads: phases each has waited for

  void settle() {
    if (pending != 0 || bytes != 0) return;
    pending = arrivals;
    ++phase;
  }
};

// Copy in flight: one whose bytes a barrier counts, one that its thread will announce, or the
// announcement, an arrival after all of the thread's copies.
struct Flight {
  enum class Kind { bulk, piece, arrival } kind;
  void* to;
  const void* from;
  unsigned bytes;
  void* barrier;
  const Fiber* owner;
};

struct Fiber {
  Context context;
  State state = State::ready;
  unsigned block = 0, index = 0;
  Place place;
  const char* doing = "starting";
  void* barrier = nullptr;  // waited for
  unsigned parity = 0;
  bool arrived = false;  // at the cluster barrier
  unsigned generation = 0;
  unsigned pieces = 0;  // copies that no arrival has announced yet
  bool fenced = false;  // against bulk copies, since it last met others
};

struct Warp {
  unsigned arrived = 0, generation = 0;
  Place place;
  uint64_t values[2][kLanes];
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Block {
  std::unique_ptr<unsigned char[], Free> memory;  // shared, with its guard
  unsigned index = 0, live = 0, waiting = 0, generation = 0;
  unsigned flights = 0;  // copies that have not landed
  bool landed = false;   // whether one has
  Place place;           // of the block barrier that is waited at
  char tags[2];
  std::vector<Warp> warps;
};

class Machine {
 public:
  Settings settings;
  uint64_t copied_bytes = 0;  // by copies that land by themselves
  uint64_t launches = 0;
  uint64_t overlaps = 0;  // see emulator.h

  int next_launch(const void* stream);
  void run(const Launch& launch, void (*body)(void*), void* context);

  Fiber& me() { return *current_; }
  Block& block() { return blocks_[current_->block]; }
  const Launch& launch() const { return launch_; }
  unsigned lives(unsigned rank) const { return blocks_[rank].live; }
  unsigned char* shared(unsigned rank) { return blocks_[rank].memory.get(); }

  // Start of every call of the machine; messages name the place.
  Fiber& at(const char* doing, const Place& place) {
    current_->doing = doing;
    current_->place = place;
    return *current_;
  }

  [[noreturn]] void fail(const std::string& what);

  void wait(State why) {
    current_->state = why;
    switch_back(current_->context, scheduler_, false);
  }

  void release_block_barrier(unsigned rank);

  void arrive_at_cluster();
  unsigned cluster_generation() const { return cluster_generation_; }
  void* cluster_tag(unsigned generation) { return &cluster_tags_[generation & 1]; }

  void release_warp(unsigned rank, unsigned warp);

  // Fails unless the range is in this block's shared memory.
  void check_shared(const void* where, size_t bytes);

  Barrier& barrier(void* where);
  void add_barrier(void* where, unsigned arrivals);
  void fence_barriers() {
    for (auto& [where, barrier] : barriers_) barrier.fenced |= barrier.owner == current_;
  }

  void take_off(const Flight& flight);

 private:
  struct Range {
    Fiber *first, *last;
    Fiber* begin() const { return first; }
    Fiber* end() const { return last; }
  };
  Range fibers_of(unsigned rank) {
    Fiber* first = &fibers_[size_t{rank} * launch_.threads];
    return {first, first + launch_.threads};
  }

  std::string whereabouts(const Fiber& fiber) const;

  void land(const Flight& flight);

  bool land_one();

  void start_block(unsigned rank, unsigned index);

  void finish_block(unsigned rank);

  static void begin_fiber();

  void run_cluster(unsigned first);

  void schedule();

  bool has_passed(const Fiber& fiber) {
    return (barriers_.at(fiber.barrier).phase & 1) != fiber.parity;
  }

  std::string deadlock() const;

  Launch launch_{};
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  Context scheduler_;
  Fiber* current_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<Block> blocks_;
  std::vector<Flight> flights_;
  std::map<void*, Barrier> barriers_;
  std::string failure_;
  std::mt19937 numbers_;
  size_t cluster_arrived_ = 0;
  unsigned cluster_generation_ = 0;
  char cluster_tags_[2], start_tag_, end_tag_, flights_tag_;
};

Machine& machine();

}  // namespace emulator
