// Memory that a call or a thread works in.
#pragma once

#include <cstdint>

#include "../integers.h"

namespace csta {

// Thrown where there is no memory for a block.
struct OutOfMemory {
  int64_t bytes;
};

// Hands out 64-byte aligned pieces of a block, one after the other. Without a block it only counts,
// so that the code which takes the pieces also tells how large the block must be.
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

// A block of garbage. A thread keeps one for its next call, unless it is large; a second one at the
// same time is allocated.
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
