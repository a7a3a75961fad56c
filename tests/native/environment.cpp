#include "environment.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "cpu/cache.h"
#include "cpu/scratch.h"

bool stream_results = false;
const bool any_alignment = true;

namespace {

int thread_count = 1;

void for_each(int64_t end, int64_t, void (*function)(int64_t, int64_t, void*), void* context) {
  const int64_t piece = (end + thread_count - 1) / thread_count;
  std::vector<std::thread> threads;
  for (int64_t first = piece; first < end; first += piece) {
    threads.emplace_back(function, first, std::min(end, first + piece), context);
  }
  if (end > 0) function(0, std::min(end, piece), context);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

csta::Parallel split_over(int threads) {
  thread_count = threads;
  return {threads, for_each};
}

namespace csta {

int64_t nontemporal_threshold() { return stream_results ? -1 : INT64_MAX; }

#if defined(CSTA_EXACT_SCRATCH)
// Exact size, so that a sanitizer sees its end, and full of NaN.
Scratch::Scratch(int64_t bytes) : owned_(true) {
  const size_t size = static_cast<size_t>((bytes + 63) / 64 * 64);
  memory_ = static_cast<char*>(std::aligned_alloc(64, size));
  if (memory_ == nullptr) throw std::bad_alloc();
  std::memset(memory_, 0xff, size);
}

Scratch::~Scratch() {
  if (owned_) std::free(memory_);
}
#endif

}  // namespace csta
