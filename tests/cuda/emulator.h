// Runs a kernel's threads on the CPU: every thread is a fiber, and one cluster is alive at a time.
// A fiber runs until it meets a barrier, a shuffle or a wait; who runs next is up to the settings.
// What a GPU leaves undefined is an error here: threads at different barriers, a wait that nobody
// ends or for another phase than the next, a barrier that was never initialised, a bulk copy that
// no fence keeps behind what threads did, a peer's shared memory before the cluster has met or
// after the peer has left, a copy in flight when its block exits, one to anywhere else than the
// block's shared memory, bytes written behind its end. So is a launch that a device would refuse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stdexcept>

namespace emulator {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Order { forward, reverse, random, block_by_block };
enum class Landing { at_once, late, random };  // late: when nothing else can happen

struct Settings {
  Order order = Order::forward;
  Landing landing = Landing::late;
  unsigned seed = 1;
  bool bulk_copies = true;  // as from compute capability 9.0 on; else 16 bytes at a time, as on 8.0
  size_t most_shared = 232448;   // of a block: 9.0's; 101376 on 12.0
  const void* stream = nullptr;  // the one that launches must be on
  int refused = 0;               // of the launches that follow: the first one is 1
};
Settings& settings();  // of all launches that follow

struct Launch {
  uint64_t blocks;
  unsigned threads, cluster;
  size_t shared_bytes;
};

const Launch& last_launch();
uint64_t launches();
// Block barriers passed between the first and the last landing of a block's copies: work that did
// not wait for all of them.
uint64_t overlaps();
// Error of the next launch: not 0 if the settings refuse it.
int next_launch(const void* stream);
// Bytes that copies have brought to shared memory, in all launches.
uint64_t copied_bytes();

// Calls body(context) once in every thread. Throws Error, and is of no further use to that launch.
void run(const Launch& launch, void (*body)(void*), void* context);

// Primitives of a thread; errors name `place`.
using Place = std::source_location;

unsigned thread_index();
unsigned threads_of_block();
unsigned block_index();
unsigned blocks_of_grid();
unsigned cluster_rank();
unsigned cluster_size();
unsigned char* shared_memory();

void block_barrier(Place place);
void cluster_arrive(Place place);
void cluster_wait(Place place);
void* peer(void* mine, unsigned rank, Place place);
// Shuffle: returns lane `from`'s value to every lane of a warp.
uint64_t shuffle(uint64_t value, unsigned from, Place place);

// Barriers in shared memory that copies arrive at.
void barrier_init(void* barrier, unsigned arrivals, Place place);
void barrier_fence();
void bulk_copy_fence();
void barrier_arrive(void* barrier, Place place);
void barrier_expect(void* barrier, unsigned bytes, Place place);
void barrier_wait(void* barrier, unsigned parity, Place place);
// A copy that lands by itself and counts its bytes in.
void bulk_copy(void* to, const void* from, unsigned bytes, void* barrier, Place place);
// A copy of 16 bytes that lands by itself; when all of this thread's have, the arrival counts.
void copy_16(void* to, const void* from, Place place);
void barrier_arrive_after_copies(void* barrier, Place place);

}  // namespace emulator
