// Scratch memory of a call or a thread, and the arena that divides it.
#pragma once

#include <cstdint>

#include "../integers.h"

namespace csta {

// Thrown where there is no memory for a block.
struct OutOfMemory {
  int64_t bytes;
};

// Arena allocator: hands out 64-byte aligned ranges of a block. Without a block it only counts
// bytes, so that the same code sizes and fills the block.
class Arena {
 public:
  explicit Arena(char* block = nullptr) : block_(block) {}

  template <class Item>
  Item* take(int64_t count) {
    char* piece = block_ == nullptr ? nullptr : block_ + used_;
    used_ += round_up(count * static_cast<int64_t>(sizeof(Item)), 64);
    return reinterpret_cast<Item*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  char* block_;
  int64_t used_ = 0;
};

// Uninitialised scratch block. A thread keeps one of up to 8 MiB between calls; a larger or a
// second one is allocated.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  char* memory() const { return memory_; }

 private:
  char* memory_;
  bool owned_;
};

}  // namespace csta
