// Ring buffer of a tensor's chunks in shared memory, filled by asynchronous copies: chunk j uses
// slot j % slots. The last chunks stay, so that a second pass, which runs backwards, finds them:
// all of them if there are as many slots.
#pragma once

#include "../limits.h"
#include "sample.h"

namespace csta::cuda {

template <class Element>
class Ring {
 public:
  CSTA_DEVICE Ring(CopyBarrier* barriers, unsigned char* memory, int slots, int slot_bytes)
      : barriers_(barriers), memory_(memory), slots_(slots), slot_bytes_(slot_bytes) {
    // Arrivals per phase: one warp's for a bulk copy; for small copies two per thread, after
    // issuing and after landing.
    for (int slot = thread(); slot < slots; slot += threads()) {
      init(barriers + slot, copies_in_bulk() ? 32 : 2 * threads());
    }
    fence_barriers();
  }

  CSTA_DEVICE int slots() const { return slots_; }

  // Starts loading a chunk's elements below position `read_end`. Called by all threads, when none
  // reads the slot.
  CSTA_DEVICE void load(const Element* sample, const Chunk& chunk, int number, int read_end) {
    if (copies_in_bulk() && thread() >= 32) return;
    const int slot = number % slots_;
    const Element* from = sample + chunk.offset;
    Element* to = place(from, slot);
    int wanted = min(chunk.position_end, read_end) - chunk.position_begin;
    int runs = 1;
    if (wanted <= 0) {
      runs = 0;
    } else if (chunk.channel_stride == 1) {
      wanted *= chunk.channels();
    } else if (wanted == chunk.positions()) {
      wanted *= chunk.channels();
    } else {
      runs = chunk.channels();
    }
    if (copies_in_bulk()) fence_before_bulk_copies();
    for (int run = 0; run < runs; ++run) {
      const int begin = run * chunk.channel_stride;
      copy(from + begin, to + begin, wanted, barriers_ + slot);
    }
    arrive(barriers_ + slot);
    if (!copies_in_bulk()) arrive_after_copies(barriers_ + slot);
  }

  // Waits for a chunk. Called by all threads, once per load.
  CSTA_DEVICE void wait_for(int number) {
    const int slot = number % slots_;
    wait(barriers_ + slot, static_cast<int>(phases_ >> slot & 1));
    phases_ ^= uint64_t{1} << slot;
  }

  CSTA_DEVICE const Element* data(const Element* sample, const Chunk& chunk, int number) const {
    return place(sample + chunk.offset, number % slots_);
  }

 private:
  static CSTA_DEVICE int offset_in_line(const Element* address) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(address) % kCopyBytes);
  }

  // Slots keep the source's offset from a multiple of 16 bytes.
  CSTA_DEVICE Element* place(const Element* from, int slot) const {
    return reinterpret_cast<Element*>(memory_ + slot * slot_bytes_ + offset_in_line(from));
  }

  // Copies a run: aligned 16-byte blocks asynchronously, prefix and tail by threads.
  static CSTA_DEVICE void copy(const Element* from, Element* to, int count, CopyBarrier* barrier) {
    constexpr int kElements = kCopyBytes / static_cast<int>(sizeof(Element));
    const int misplaced = offset_in_line(from) / static_cast<int>(sizeof(Element));
    const int prefix = min(count, (kElements - misplaced) % kElements);
    const int whole = (count - prefix) / kElements * kElements;
    if (thread() < prefix) to[thread()] = from[thread()];
    for (int i = prefix + whole + thread(); i < count; i += 32) {
      if (thread() < 32) to[i] = from[i];
    }
    if (!copies_in_bulk()) {
      for (int i = prefix + thread() * kElements; i < prefix + whole; i += threads() * kElements) {
        copy_16_bytes(to + i, from + i);
      }
    } else if (thread() == 0 && whole > 0) {
      const int bytes = whole * static_cast<int>(sizeof(Element));
      expect(barrier, bytes);
      copy_in_bulk(to + prefix, from + prefix, bytes, barrier);
    }
  }

  CopyBarrier* barriers_;
  unsigned char* memory_;
  int slots_, slot_bytes_;
  uint64_t phases_ = 0;  // one bit per slot: the parity of its next phase
};

}  // namespace csta::cuda
