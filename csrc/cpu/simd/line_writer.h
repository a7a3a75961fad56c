// Writes a run of results to memory line by line, through a small buffer in the L1 cache.
#pragma once

#include "elements.h"

namespace csta::CSTA_ISA {

// Elements are appended at position() and handed over by advance(); whole cache lines go out,
// past the caches if wanted. Bytes of the first and last line that belong to others stay as they
// are. Whoever appends may write some vectors beyond what it hands over.
template <class Element>
class LineWriter {
 public:
  static constexpr int64_t kCapacity = 4096;  // bytes handed over at once, at the most
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
  int64_t filled_;  // bytes in the buffer, the foreign ones before the first element included
  int64_t skip_;    // foreign bytes at the start of the line that is being filled
  bool nontemporal_;
};

}  // namespace csta::CSTA_ISA
