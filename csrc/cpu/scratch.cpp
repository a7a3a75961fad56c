// Scratch memory that a thread keeps from call to call.
#include "scratch.h"

#include <cstdlib>

namespace csta {
namespace {

constexpr int64_t kKeptBytes = int64_t{8} << 20;

char* allocate(int64_t bytes) {
  void* memory = std::aligned_alloc(64, static_cast<size_t>(round_up(bytes, 64)));
  if (memory == nullptr) throw OutOfMemory{bytes};
  return static_cast<char*>(memory);
}

struct KeptBlock {
  char* memory = nullptr;
  int64_t size = 0;
  bool taken = false;
  ~KeptBlock() { std::free(memory); }
};

thread_local KeptBlock kept;

}  // namespace

Scratch::Scratch(int64_t bytes) : owned_(kept.taken || bytes > kKeptBytes) {
  if (owned_) {
    memory_ = allocate(bytes);
    return;
  }
  if (kept.size < bytes) {
    char* larger = allocate(bytes);
    std::free(kept.memory);
    kept.memory = larger;
    kept.size = bytes;
  }
  kept.taken = true;
  memory_ = kept.memory;
}

Scratch::~Scratch() {
  if (owned_) {
    std::free(memory_);
  } else {
    kept.taken = false;
  }
}

}  // namespace csta
