// Write-combining buffer: results are collected in L1 and written to memory one cache line at a
// time.
#pragma once

#include "elements.h"

namespace csta::CSTA_ISA {

// Append elements at position(), then commit them with advance(): whole cache lines are written,
// past the caches if wanted. Bytes outside the range in the first and last line are preserved. The
// appender may overrun by some vectors.
template <class Element>
class LineWriter {
 public:
  static constexpr int64_t kCapacity = 4096;  // most bytes per advance()
  static constexpr int64_t kSlack = 8 * kCacheLine;

  LineWriter(char* buffer, Element* to, bool nontemporal)
      : buffer_(buffer), nontemporal_(nontemporal) {
    skip_ = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kCacheLine);
    to_ = reinterpret_cast<char*>(to) - skip_;
    filled_ = skip_;
  }

  Element* position() { return reinterpret_cast<Element*>(buffer_ + filled_); }

  CSTA_INLINE void advance(int64_t elements) {
    filled_ += elements * static_cast<int64_t>(sizeof(Element));
    const int64_t whole = filled_ / kCacheLine * kCacheLine;
    if (whole == 0) return;
    int64_t line = 0;
    if (skip_ > 0) {
      std::memcpy(to_ + skip_, buffer_ + skip_, static_cast<size_t>(kCacheLine - skip_));
      skip_ = 0;
      line = kCacheLine;
    }
    if (nontemporal_) {
      for (; line < whole; line += kCacheLine) store_line(to_ + line, buffer_ + line);
    } else {
      std::memcpy(to_ + line, buffer_ + line, static_cast<size_t>(whole - line));
    }
    std::memcpy(buffer_, buffer_ + whole, kCacheLine);
    to_ += whole;
    filled_ -= whole;
  }

  void finish() {
    if (filled_ > skip_) {
      std::memcpy(to_ + skip_, buffer_ + skip_, static_cast<size_t>(filled_ - skip_));
    }
    filled_ = skip_ = 0;
  }

 private:
  static CSTA_INLINE void store_line(char* to, const char* from) {
    constexpr int lanes = kLanes<float>;
    CSTA_UNROLL
    for (int i = 0; i < kCacheLine / 4; i += lanes) {
      store_nontemporal(reinterpret_cast<float*>(to) + i,
                        load(reinterpret_cast<const float*>(from) + i));
    }
  }

  char* buffer_;
  char* to_;
  int64_t filled_;  // bytes in the buffer, including those before the first element
  int64_t skip_;    // bytes at the start of the current line that are not ours
  bool nontemporal_;
};

}  // namespace csta::CSTA_ISA
