// Software prefetch of the next sample, while this one is computed or written. It changes no
// result.
#pragma once

#include "elements.h"

namespace csta::CSTA_ISA {

// The next sample's x and grad_y (or null), prefetched while this one's results are written, so
// that loads and stores overlap. Prefetches go to L1: of those to L2 alone an AMD Zen 4 drops so
// many that forward took 0.2 copies longer.
template <class Element>
struct PrefetchTarget {
  const Element* x = nullptr;
  const Element* grad_y = nullptr;
  int64_t frames = 0;         // frames that are not padding
  int64_t limit = INT64_MAX;  // no prefetch from this element on

  // The target moved on by `elements`.
  PrefetchTarget advanced(int64_t elements) const {
    return {x == nullptr ? nullptr : x + elements, grad_y == nullptr ? nullptr : grad_y + elements,
            frames, limit};
  }

  CSTA_INLINE void fetch(int64_t at) const {
    if (at >= limit) return;
    if (x != nullptr) __builtin_prefetch(x + at, 0, 3);
    if (grad_y != nullptr) __builtin_prefetch(grad_y + at, 0, 3);
  }
  CSTA_INLINE void fetch(int64_t at, int64_t count) const {
    for (int64_t i = 0; i < count; i += kCacheLine / static_cast<int64_t>(sizeof(Element)))
      fetch(at + i);
  }
};

// Software prefetch for compute-bound loops: each step() prefetches 4 lines of up to two ranges of
// the next sample, so that memory is not idle.
class Prefetcher {
 public:
  Prefetcher() = default;
  Prefetcher(const void* first, const void* second, int64_t bytes)
      : first_(static_cast<const char*>(first)),
        second_(static_cast<const char*>(second)),
        bytes_(bytes) {}

  CSTA_INLINE void step() {
    if (bytes_ <= 0) return;
    for (int64_t i = 0; i < kAtOnce; i += kCacheLine) {
      __builtin_prefetch(first_ + i, 0, 3);
      if (second_ != nullptr) __builtin_prefetch(second_ + i, 0, 3);
    }
    first_ += kAtOnce;
    if (second_ != nullptr) second_ += kAtOnce;
    bytes_ -= kAtOnce;
  }

 private:
  static constexpr int64_t kAtOnce = 4 * kCacheLine;

  const char* first_ = nullptr;
  const char* second_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace csta::CSTA_ISA
