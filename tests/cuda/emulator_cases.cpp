// Small kernels on the emulator: right ones whose results must not depend on who runs first, and
// wrong ones that must be refused, with words of the message. Every name is a case:
//   emulator_cases            runs all that need no sanitizer, one line each
//   emulator_cases NAME       runs one; a sanitizer may end it
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "emulator_refused.h"

namespace csta::cuda {
namespace {

// Each thread takes its neighbour's number; without the barrier, perhaps before it is there.
template <bool kBarrier>
void neighbour(Call call) {
  numbers()[thread()] = call.x[own()];
  if (kBarrier) block_barrier();
  call.y[own()] = numbers()[(thread() + 1) % threads()];
}

void butterfly(Call call) {
  float value = call.x[own()];
  for (int step = 16; step > 0; step /= 2) value += shuffle_xor(value, step);
  call.y[own()] = value;
}

// Each block takes its neighbour's numbers; without the last barrier it may be gone by then.
template <bool kStays>
void peers(Call call) {
  numbers()[thread()] = call.x[own()];
  cluster_arrive();
  cluster_wait();
  const int next = (cluster_rank() + 1) % cluster_size();
  call.y[own()] = peer(numbers(), next)[thread()];
  if (!kStays) return;
  cluster_arrive();
  cluster_wait();
}

// The address of a peer's memory, taken in time and used too late.
void stale_peer(Call call) {
  numbers()[thread()] = call.x[own()];
  cluster_arrive();
  cluster_wait();
  float* next = peer(numbers(), (cluster_rank() + 1) % cluster_size());
  if (cluster_rank() == 0) {
    for (int turn = 0; turn < 8; ++turn) block_barrier();
  }
  call.y[own()] = next[thread()];
}

template <bool kWait, bool kFence = true, bool kInit = true>
void bulk(Call call) {
  if (thread() == 0) {
    if (kInit) init(barrier(), 1);
    if (kFence) fence_barriers();
  }
  block_barrier();
  if (thread() == 0) {
    fence_before_bulk_copies();
    expect(barrier(), threads() * 4);
    arrive(barrier());
    copy_in_bulk(numbers(), call.x + block() * threads(), threads() * 4, barrier());
  }
  if (kWait) wait(barrier(), 0);
  call.y[own()] = numbers()[(thread() + 1) % threads()];
  if (!kWait) wait(barrier(), 0);
}

// Two rounds through one piece of memory; without the barrier the second may land on the first,
// and without the fence so may what a thread's writes were.
template <bool kBarrier, bool kFence = true>
void ring(Call call) {
  if (thread() == 0) {
    init(barrier(), 1);
    fence_barriers();
  }
  block_barrier();
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    if (thread() == 0) {
      if (kFence || round == 0) fence_before_bulk_copies();
      expect(barrier(), threads() * 4);
      arrive(barrier());
      copy_in_bulk(numbers(), call.x + round * threads(), threads() * 4, barrier());
    }
    wait(barrier(), round);
    sum += numbers()[(thread() + 1) % threads()];
    if (kBarrier) block_barrier();
  }
  call.y[own()] = sum;
}

void copies_of_16(Call call) {
  if (thread() == 0) init(barrier(), threads());
  block_barrier();
  if (thread() < threads() / 4) {
    copy_16_bytes(numbers() + 4 * thread(), call.x + block() * threads() + 4 * thread());
  }
  arrive_after_copies(barrier());
  wait(barrier(), 0);
  call.y[own()] = numbers()[(thread() + 1) % threads()];
}

using Kernel = void (*)(Call);

float x_at(size_t i) { return static_cast<float>(i * i % 31); }

std::vector<float> results(Kernel kernel) {
  alignas(16) static float x[kBlocks * kThreads];
  static std::vector<float> y(kBlocks * kThreads);  // static: a failed launch frees nothing
  for (size_t i = 0; i < y.size(); ++i) x[i] = x_at(i);
  y.assign(y.size(), -1.0f);
  launch(kernel, {kBlocks, kThreads, 2, 128 + 4 * kThreads}, Call{x, y.data()}, nullptr);
  return y;
}

std::vector<float> expected(const std::string& name) {
  std::vector<float> y(kBlocks * kThreads);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t block = i / kThreads, lane = i % kThreads;
    const size_t neighbour = (lane + 1) % kThreads;
    if (name == "neighbour" || name == "bulk" || name == "copies_of_16") {
      y[i] = x_at(block * kThreads + neighbour);
    } else if (name == "peers") {
      y[i] = x_at((block ^ 1) * kThreads + lane);
    } else if (name == "ring") {
      y[i] = x_at(neighbour) + x_at(kThreads + neighbour);
    } else {
      for (size_t other = 0; other < 32; ++other) y[i] += x_at(i / 32 * 32 + other);
    }
  }
  return y;
}

// Whatever order, landing and kind of copies, in turn.
bool in_all_settings(const std::function<bool()>& holds) {
  for (const auto order :
       {emulator::Order::forward, emulator::Order::reverse, emulator::Order::random}) {
    for (const auto landing :
         {emulator::Landing::at_once, emulator::Landing::late, emulator::Landing::random}) {
      for (unsigned seed = 1; seed <= 3; ++seed) {
        emulator::settings() = {order, landing, seed, true};
        if (!holds()) return false;
      }
    }
  }
  return true;
}

const std::map<std::string, Kernel> kRight = {
    {"neighbour", neighbour<true>}, {"butterfly", butterfly}, {"peers", peers<true>},
    {"bulk", bulk<true>},           {"ring", ring<true>},     {"copies_of_16", copies_of_16},
};

// Wrong in some setting: the result differs, or it is an error.
const std::map<std::string, std::pair<Kernel, const char*>> kUnstable = {
    {"missing_barrier", {neighbour<false>, "neighbour"}},
    {"missing_wait", {bulk<false>, "bulk"}},
    {"missing_ring_barrier", {ring<false>, "ring"}},
    {"peer_that_left", {peers<false>, "peers"}},
    {"stale_peer", {stale_peer, "peers"}},
};

const std::map<std::string, std::pair<Kernel, const char*>> kRefused = {
    {"divergent", {divergent, "at different barriers"}},
    {"divergent_shuffle", {divergent_shuffle, "at different shuffles"}},
    {"one_stays_away", {one_stays_away, "have left before"}},
    {"waits_for_nobody", {waits_for_nobody, "waiting for a barrier"}},
    {"copy_before_expected", {copy_before_expected, "does not expect yet"}},
    {"arrives_too_often", {arrives_too_often, "more arrivals"}},
    {"misaligned", {misaligned, "multiples of 16"}},
    {"odd_size", {odd_size, "multiples of 16"}},
    {"nothing", {nothing, "of nothing"}},
    {"copy_left_behind", {copy_left_behind, "in flight"}},
    {"copy_beyond", {copy_beyond, "not in this block's shared memory"}},
    {"copy_elsewhere", {copy_elsewhere, "not in this block's shared memory"}},
    {"expects_too_much", {expects_too_much, "more bytes than a barrier counts"}},
    {"stale_parity", {stale_parity, "another phase than this thread's next"}},
    {"missed_phase", {missed_phase, "the next one too"}},
    {"no_fence_before_a_copy", {ring<true, false>, "no fence keeps behind"}},
    {"peer_too_early", {peer_too_early, "before the cluster has met"}},
    {"overrun", {overrun, "behind the end"}},
    {"no_fence", {bulk<true, false>, "before its fence"}},
    {"no_init", {bulk<true, true, false>, "never initialised"}},
    {"cluster_barrier_left_out", {cluster_barrier_left_out, "deadlock"}},
    {"no_such_peer", {no_such_peer, "no such peer"}},
    {"not_shared", {not_shared, "not in this block's shared memory"}},
};

bool is_refused(Kernel kernel, const std::string& words) {
  emulator::settings() = {};
  try {
    results(kernel);
  } catch (const emulator::Error& error) {
    if (std::string(error.what()).find(words) != std::string::npos) return true;
    std::printf("%s\n", error.what());
  }
  return false;
}

// Launches that no device accepts.
bool are_refused(const std::vector<LaunchShape>& shapes) {
  for (const LaunchShape& shape : shapes) {
    try {
      launch(butterfly, shape, Call{}, nullptr);
      return false;
    } catch (const emulator::Error&) {
    }
  }
  return true;
}

bool is_unstable(Kernel kernel, const std::string& right) {
  return !in_all_settings([&] {
    try {
      return results(kernel) == expected(right);
    } catch (const emulator::Error&) {
      return false;
    }
  });
}

bool holds(const std::string& name) {
  if (kRight.count(name) > 0) {
    return in_all_settings([&] { return results(kRight.at(name)) == expected(name); });
  }
  if (kUnstable.count(name) > 0) {
    return is_unstable(kUnstable.at(name).first, kUnstable.at(name).second);
  }
  if (name == "launches") {
    return are_refused({{0, 64, 1, 0},
                        {int64_t{1} << 31, 64, 1, 0},
                        {3, 64, 2, 0},
                        {32, 64, 32, 0},
                        {2, 48, 1, 0},
                        {2, 2048, 1, 0},
                        {2, 64, 1, 232449}});
  }
  return is_refused(kRefused.at(name).first, kRefused.at(name).second);
}

}  // namespace
}  // namespace csta::cuda

int main(int count, char** arguments) {
  using namespace csta::cuda;
  std::vector<std::string> names;
  if (count > 1) {
    names.assign(arguments + 1, arguments + count);
  } else {
    for (const auto& [name, kernel] : kRight) names.push_back(name);
    for (const auto& [name, kernel] : kUnstable) names.push_back(name);
    for (const auto& [name, kernel] : kRefused) names.push_back(name);
    names.push_back("launches");
  }
  int failures = 0;
  for (const std::string& name : names) {
    const bool held = holds(name);
    failures += held ? 0 : 1;
    std::printf("%s %s\n", held ? "PASS" : "FAIL", name.c_str());
  }
  return failures == 0 ? 0 : 1;
}
