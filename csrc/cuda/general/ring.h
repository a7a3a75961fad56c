// Chunks of a tensor on their way to shared memory, and in it. Chunk j goes to slot j % slots. What
// was read last stays, so that a second pass, which runs backwards, finds the last chunks there:
// all of them, if there are as many slots.
#pragma once

#include "../limits.h"
#include "sample.h"

namespace csta::cuda {

template <class Element>
class Ring {
 public:
  CSTA_DEVICE Ring(CopyBarrier* barriers, unsigned char* memory, int slots, int slot_bytes)
      : barriers_(barriers), memory_(memory), slots_(slots), slot_bytes_(slot_bytes) {
    // Of a bulk copy one warp arrives; of small copies every thread does twice, when it has begun
    // them and when they have landed.
    for (int slot = thread(); slot < slots; slot += threads()) {
      init(barriers + slot, copies_in_bulk() ? 32 : 2 * threads());
    }
    fence_barriers();
  }

  CSTA_DEVICE int slots() const { return slots_; }

  // Asks for what a chunk has below position `read_end`. For all threads, when none reads the slot.
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

  // Waits for what load asked for. For all threads, once for every load.
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

  // Copies keep an address's offset from a multiple of 16.
  CSTA_DEVICE Element* place(const Element* from, int slot) const {
    return reinterpret_cast<Element*>(memory_ + slot * slot_bytes_ + offset_in_line(from));
  }

  // Copies a run of elements: whole pieces of 16 bytes by themselves, their rests by hand.
  static CSTA_DEVICE void copy(const Element* from, Element* to, int count, CopyBarrier* barrier) {
    constexpr int kElements = kCopyBytes / static_cast<int>(sizeof(Element));
    const int misplaced = offset_in_line(from) / static_cast<int>(sizeof(Element));
    const int head = min(count, (kElements - misplaced) % kElements);
    const int whole = (count - head) / kElements * kElements;
    if (thread() < head) to[thread()] = from[thread()];
    for (int i = head + whole + thread(); i < count; i += 32) {
      if (thread() < 32) to[i] = from[i];
    }
    if (!copies_in_bulk()) {
      for (int i = head + thread() * kElements; i < head + whole; i += threads() * kElements) {
        copy_16_bytes(to + i, from + i);
      }
    } else if (thread() == 0 && whole > 0) {
      const int bytes = whole * static_cast<int>(sizeof(Element));
      expect(barrier, bytes);
      copy_in_bulk(to + head, from + head, bytes, barrier);
    }
  }

  CopyBarrier* barriers_;
  unsigned char* memory_;
  int slots_, slot_bytes_;
  uint64_t phases_ = 0;  // a bit for each slot: the parity that is waited for next
};

}  // namespace csta::cuda
