#include "machine.h"

#include <algorithm>

namespace emulator {

Machine& machine() {
  static Machine machine;
  return machine;
}

int Machine::next_launch(const void* stream) {
  if (stream != settings.stream) throw Error("a launch on another stream, or without a guard");
  ++launches;
  constexpr int kRefused = 701;  // cudaErrorLaunchOutOfResources
  return settings.refused > 0 && --settings.refused == 0 ? kRefused : 0;
}

void Machine::run(const Launch& launch, void (*body)(void*), void* context) {
  launch_ = launch;
  body_ = body;
  argument_ = context;
  if (launch.threads == 0 || launch.threads % kLanes != 0 || launch.threads > 1024) {
    throw Error("threads of a block: wanted a multiple of 32 up to 1024");
  }
  if (launch.blocks == 0 || launch.blocks > INT32_MAX) {
    throw Error("blocks: wanted 1 to 2^31 - 1");
  }
  if (launch.cluster == 0 || launch.cluster > kMostCluster || launch.blocks % launch.cluster != 0) {
    throw Error("a cluster: wanted 1 to 16 blocks, and a multiple of them");
  }
  if (launch.shared_bytes > settings.most_shared) {
    throw Error("more shared memory than a block may have");
  }
  numbers_.seed(settings.seed);
  for (uint64_t first = 0; first < launch.blocks; first += launch.cluster) {
    run_cluster(static_cast<unsigned>(first));
  }
}

[[noreturn]] void Machine::fail(const std::string& what) {
  failure_ = what + ": " + whereabouts(*current_);
  switch_back(current_->context, scheduler_, false);
  std::abort();
}

void Machine::release_block_barrier(unsigned rank) {
  Block& block = blocks_[rank];
  block.waiting = 0;
  ++block.generation;
  overlaps += block.landed && block.flights > 0 ? 1 : 0;
  for (Fiber& fiber : fibers_of(rank)) fiber.state = State::ready;
}

void Machine::arrive_at_cluster() {
  if (++cluster_arrived_ < fibers_.size()) return;
  cluster_arrived_ = 0;
  ++cluster_generation_;
  for (Fiber& fiber : fibers_) {
    fiber.arrived = false;
    if (fiber.state == State::at_cluster_barrier) fiber.state = State::ready;
  }
}

void Machine::release_warp(unsigned rank, unsigned warp) {
  Fiber* lanes = &fibers_[size_t{rank} * launch_.threads + warp * kLanes];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (lanes[lane].state == State::in_shuffle) lanes[lane].state = State::ready;
  }
}

void Machine::check_shared(const void* where, size_t bytes) {
  const auto offset = static_cast<const unsigned char*>(where) - shared(me().block);
  if (offset < 0 || static_cast<size_t>(offset) + bytes > launch_.shared_bytes) {
    fail("the address is not in this block's shared memory");
  }
}

Barrier& Machine::barrier(void* where) {
  const auto found = barriers_.find(where);
  if (found == barriers_.end()) fail("a barrier that was never initialised");
  return found->second;
}

void Machine::add_barrier(void* where, unsigned arrivals) {
  const auto [place, fresh] = barriers_.try_emplace(where);
  if (!fresh) fail("a barrier is initialised twice");
  place->second.arrivals = place->second.pending = arrivals;
  place->second.owner = current_;
  place->second.waits.resize(launch_.threads);
}

void Machine::take_off(const Flight& flight) {
  release(&flights_tag_);
  ++blocks_[flight.owner->block].flights;
  if (settings.landing == Landing::at_once) return land(flight);
  if (flights_.size() == kMostFlights) fail("more copies in flight than the emulator takes");
  flights_.push_back(flight);
}

std::string Machine::whereabouts(const Fiber& fiber) const {
  return "block " + std::to_string(blocks_[fiber.block].index) + " thread " +
         std::to_string(fiber.index) + " " + fiber.doing + " at " + fiber.place.file_name() + ":" +
         std::to_string(fiber.place.line());
}

void Machine::land(const Flight& flight) {
  acquire(&flights_tag_);
  if (flight.kind != Flight::Kind::arrival) std::memcpy(flight.to, flight.from, flight.bytes);
  copied_bytes += flight.bytes;
  Block& block = blocks_[flight.owner->block];
  --block.flights;
  block.landed = true;
  if (flight.kind == Flight::Kind::piece) return;
  release(flight.barrier);
  Barrier& barrier = barriers_.at(flight.barrier);
  if (flight.kind == Flight::Kind::bulk) {
    barrier.bytes -= flight.bytes;
  } else {
    --barrier.pending;
  }
  barrier.settle();
}

bool Machine::land_one() {
  if (flights_.empty()) return false;
  size_t index = settings.landing == Landing::random ? numbers_() % flights_.size() : 0;
  for (size_t before = 0; before < index; ++before) {  // an arrival comes after its pieces
    if (flights_[before].owner == flights_[index].owner) index = before;
  }
  const Flight flight = flights_[index];
  flights_.erase(flights_.begin() + static_cast<std::ptrdiff_t>(index));
  land(flight);
  return true;
}

void Machine::start_block(unsigned rank, unsigned index) {
  Block& block = blocks_[rank];
  block.index = index;
  block.live = launch_.threads;
  const size_t bytes = (launch_.shared_bytes + 127) / 128 * 128 + kGuard;
  block.memory.reset(static_cast<unsigned char*>(std::aligned_alloc(128, bytes)));
  std::memset(block.memory.get(), kUnwritten, launch_.shared_bytes);
  std::memset(block.memory.get() + launch_.shared_bytes, kGuarding, kGuard);
  poison(block.memory.get() + launch_.shared_bytes, kGuard);
  block.warps.resize(launch_.threads / kLanes);
  for (Fiber& fiber : fibers_of(rank)) {
    fiber.block = rank;
    fiber.index = static_cast<unsigned>(&fiber - fibers_of(rank).first);
    prepare(fiber.context, static_cast<size_t>(&fiber - fibers_.data()), begin_fiber);
  }
}

void Machine::finish_block(unsigned rank) {
  Block& block = blocks_[rank];
  acquire(&end_tag_);
  unpoison(block.memory.get() + launch_.shared_bytes, kGuard);
  for (size_t i = 0; i < kGuard; ++i) {
    if (block.memory[launch_.shared_bytes + i] != kGuarding) {
      failure_ = "bytes behind the end of shared memory were written, block " +
                 std::to_string(block.index);
    }
  }
  for (const Flight& flight : flights_) {
    if (flight.owner->block == rank) failure_ = "a copy was in flight when its block had left";
  }
  std::erase_if(barriers_, [&](const auto& entry) {
    const auto* where = static_cast<const unsigned char*>(entry.first);
    return where >= block.memory.get() && where < block.memory.get() + launch_.shared_bytes;
  });
  std::memset(block.memory.get(), kUnwritten, launch_.shared_bytes);
  poison(block.memory.get(), launch_.shared_bytes + kGuard);
}

void Machine::run_cluster(unsigned first) {
  blocks_.clear();
  blocks_.resize(launch_.cluster);
  fibers_.clear();
  fibers_.resize(size_t{launch_.cluster} * launch_.threads);
  flights_.clear();
  flights_.reserve(kMostFlights);  // so that no fiber's heap is in it
  barriers_.clear();
  failure_.clear();
  cluster_arrived_ = cluster_generation_ = 0;
  acquire(&end_tag_);
  for (unsigned rank = 0; rank < launch_.cluster; ++rank) start_block(rank, first + rank);
  release(&start_tag_);
  schedule();
  acquire(&end_tag_);
  for (Fiber& fiber : fibers_) retire(fiber.context);
  for (Block& block : blocks_) unpoison(block.memory.get(), launch_.shared_bytes + kGuard);
}

void Machine::schedule() {
  std::vector<size_t> order(fibers_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (settings.order == Order::reverse) std::reverse(order.begin(), order.end());
  // A turn for each of some threads that can go on; whether there was one.
  const auto give_turns = [&](size_t begin, size_t end) {
    bool progress = false;
    for (size_t i = begin; i < end; ++i) {
      Fiber& fiber = fibers_[order[i]];
      if (fiber.state == State::at_barrier && has_passed(fiber)) fiber.state = State::ready;
      if (fiber.state != State::ready) continue;
      current_ = &fiber;
      switch_to(scheduler_, fiber.context);
      if (fiber.state == State::done && --blocks_[fiber.block].live == 0) {
        finish_block(fiber.block);
      }
      if (!failure_.empty()) throw Error(failure_);
      progress = true;
    }
    return progress;
  };
  const size_t at_once = settings.order == Order::block_by_block ? launch_.threads : fibers_.size();
  const auto is_done = [](const Fiber& fiber) { return fiber.state == State::done; };
  while (!std::all_of(fibers_.begin(), fibers_.end(), is_done)) {
    if (settings.order == Order::random) std::shuffle(order.begin(), order.end(), numbers_);
    bool progress = false;
    for (size_t begin = 0; begin < order.size(); begin += at_once) {
      bool goes_on = give_turns(begin, begin + at_once);
      progress |= goes_on;
      while (goes_on && settings.order == Order::block_by_block) {
        goes_on = give_turns(begin, begin + at_once);
      }
    }
    if (settings.landing == Landing::random && numbers_() % 4 == 0) progress |= land_one();
    if (!progress && !std::all_of(fibers_.begin(), fibers_.end(), is_done) && !land_one()) {
      throw Error(deadlock());
    }
  }
}

std::string Machine::deadlock() const {
  std::string text = "deadlock";
  int named = 0;
  for (const Fiber& fiber : fibers_) {
    if (fiber.state == State::done) continue;
    if (named++ < 4 || (named < 8 && fiber.index == 0)) text += "\n  " + whereabouts(fiber);
  }
  return text + "\n  " + std::to_string(named) + " threads wait";
}

void Machine::begin_fiber() {
  Machine& the = machine();
  entered(the.scheduler_);
  acquire(&the.start_tag_);
  the.body_(the.argument_);
  release(&the.end_tag_);
  the.current_->doing = "returning";
  if (the.current_->pieces != 0) the.fail("copies were left behind that no barrier waits for");
  the.current_->state = State::done;
  switch_back(the.current_->context, the.scheduler_, true);
  std::abort();
}

}  // namespace emulator
