// Primitives of the emulated threads, and the errors of their misuse.
#include "emulator.h"

#include "machine.h"

namespace emulator {
namespace {

bool same(const Place& one, const Place& other) {
  return one.line() == other.line() && one.column() == other.column() &&
         std::strcmp(one.file_name(), other.file_name()) == 0;
}

}  // namespace

Settings& settings() { return machine().settings; }
const Launch& last_launch() { return machine().launch(); }
uint64_t launches() { return machine().launches; }
uint64_t overlaps() { return machine().overlaps; }
int next_launch(const void* stream) { return machine().next_launch(stream); }
uint64_t copied_bytes() { return machine().copied_bytes; }
void run(const Launch& launch, void (*body)(void*), void* context) {
  machine().run(launch, body, context);
}

unsigned thread_index() { return machine().me().index; }
unsigned threads_of_block() { return machine().launch().threads; }
unsigned block_index() { return machine().block().index; }
unsigned blocks_of_grid() { return static_cast<unsigned>(machine().launch().blocks); }
unsigned cluster_rank() { return machine().me().block; }
unsigned cluster_size() { return machine().launch().cluster; }
unsigned char* shared_memory() { return machine().block().memory.get(); }

void block_barrier(Place place) {
  Machine& the = machine();
  Fiber& me = the.at("at a block barrier", place);
  Block& block = the.block();
  if (block.waiting == 0) block.place = place;
  if (!same(block.place, place)) {
    the.fail("threads of a block are at different barriers, others at line " +
             std::to_string(block.place.line()));
  }
  void* tag = &block.tags[block.generation & 1];
  release(tag);
  if (block.live != the.launch().threads) the.fail("threads of the block have left before");
  if (++block.waiting == the.launch().threads) {
    the.release_block_barrier(me.block);
  } else {
    the.wait(State::at_block_barrier);
  }
  me.fenced = false;
  acquire(tag);
}

void cluster_arrive(Place place) {
  Machine& the = machine();
  Fiber& me = the.at("arriving at the cluster barrier", place);
  if (me.arrived) the.fail("a second arrival without a wait");
  me.arrived = true;
  me.generation = the.cluster_generation();
  release(the.cluster_tag(me.generation));
  the.arrive_at_cluster();
}

void cluster_wait(Place place) {
  Machine& the = machine();
  Fiber& me = the.at("at the cluster barrier", place);
  if (me.generation == the.cluster_generation()) {
    if (!me.arrived) the.fail("a wait without an arrival");
    the.wait(State::at_cluster_barrier);
  }
  me.fenced = false;
  acquire(the.cluster_tag(me.generation));
}

void* peer(void* mine, unsigned rank, Place place) {
  Machine& the = machine();
  Fiber& me = the.at("asking for a peer's memory", place);
  the.check_shared(mine, 1);
  if (rank >= the.launch().cluster) the.fail("there is no such peer");
  if (the.lives(rank) == 0) the.fail("the peer has left");
  if (rank != me.block && the.cluster_generation() == 0) {
    the.fail("a peer's memory before the cluster has met: it may not have begun");
  }
  return the.shared(rank) + (static_cast<unsigned char*>(mine) - the.shared(me.block));
}

uint64_t shuffle(uint64_t value, unsigned from, Place place) {
  Machine& the = machine();
  Fiber& me = the.at("in a shuffle", place);
  Warp& warp = the.block().warps[me.index / kLanes];
  if (warp.arrived == 0) warp.place = place;
  if (!same(warp.place, place)) the.fail("lanes of a warp are at different shuffles");
  const unsigned generation = warp.generation;
  warp.values[generation & 1][me.index % kLanes] = value;
  if (++warp.arrived == kLanes) {
    warp.arrived = 0;
    ++warp.generation;
    the.release_warp(me.block, me.index / kLanes);
  } else {
    the.wait(State::in_shuffle);
  }
  return warp.values[generation & 1][from % kLanes];
}

void barrier_init(void* barrier, unsigned arrivals, Place place) {
  machine().at("initialising a barrier", place);
  machine().add_barrier(barrier, arrivals);
}

void barrier_fence() { machine().fence_barriers(); }
void bulk_copy_fence() { machine().me().fenced = true; }

void barrier_arrive(void* barrier, Place place) {
  Machine& the = machine();
  the.at("arriving at a barrier", place);
  Barrier& state = the.barrier(barrier);
  if (state.pending == 0) the.fail("more arrivals than the barrier counts");
  release(barrier);
  --state.pending;
  state.settle();
}

void barrier_expect(void* barrier, unsigned bytes, Place place) {
  Machine& the = machine();
  the.at("expecting bytes at a barrier", place);
  Barrier& state = the.barrier(barrier);
  state.bytes += bytes;
  state.awaited += bytes;
  if (state.bytes > kMostExpected) the.fail("more bytes than a barrier counts");
}

void barrier_wait(void* barrier, unsigned parity, Place place) {
  Machine& the = machine();
  Fiber& me = the.at("waiting for a barrier", place);
  me.barrier = barrier;
  me.parity = parity;
  Barrier& state = the.barrier(barrier);
  unsigned& waits = state.waits[me.index];
  if ((waits & 1) != parity) the.fail("a wait for another phase than this thread's next");
  if ((state.phase & 1) == parity) the.wait(State::at_barrier);
  if (state.phase != ++waits) the.fail("the phase was over, and the next one too");
  me.fenced = false;
  acquire(barrier);
}

void bulk_copy(void* to, const void* from, unsigned bytes, void* barrier, Place place) {
  Machine& the = machine();
  Fiber& me = the.at("starting a bulk copy", place);
  if (!the.settings.bulk_copies) the.fail("bulk copies are not to be had");
  if (((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | bytes) & 15) != 0) {
    the.fail("addresses and size of a bulk copy: wanted multiples of 16");
  }
  if (bytes == 0) the.fail("a bulk copy of nothing");
  the.check_shared(to, bytes);
  Barrier& state = the.barrier(barrier);
  if (!state.fenced) the.fail("a copy to a barrier before its fence");
  if ((state.awaited -= bytes) < 0) the.fail("a copy whose bytes its barrier does not expect yet");
  if (!me.fenced) the.fail("a bulk copy that no fence keeps behind what threads did");
  the.take_off({Flight::Kind::bulk, to, from, bytes, barrier, &me});
}

void copy_16(void* to, const void* from, Place place) {
  Fiber& me = machine().at("starting a copy of 16 bytes", place);
  if (((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) & 15) != 0) {
    machine().fail("addresses of a copy: wanted multiples of 16");
  }
  machine().check_shared(to, 16);
  ++me.pieces;
  machine().take_off({Flight::Kind::piece, to, from, 16, nullptr, &me});
}

void barrier_arrive_after_copies(void* barrier, Place place) {
  Machine& the = machine();
  Fiber& me = the.at("sending copies to a barrier", place);
  if (the.barrier(barrier).pending == 0) the.fail("more arrivals than the barrier counts");
  me.pieces = 0;
  the.take_off({Flight::Kind::arrival, nullptr, nullptr, 0, barrier, &me});
}

}  // namespace emulator
