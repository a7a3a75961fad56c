// The last pass over a sample: y = x (rho + kappa A), or dx = u (rho + kappa A) + what the means
// give back. A chunk is walked as one flat run of memory, 16 bytes at a time where that is
// possible.
#pragma once

#include "passes.h"

namespace csta::cuda {

// Where an element of a sample is.
struct Position {
  int c, t, v, g;

  CSTA_DEVICE Position(const Call& call, const Chunk& chunk, int element) {
    int p;
    if (call.channels_last) {
      p = call.by_channels.quotient(element);
      c = element - p * call.channels;
    } else if (chunk.channels() == 1) {
      c = 0;
      p = element;
    } else {
      c = call.by_plane.quotient(element);
      p = element - c * chunk.channel_stride;
    }
    c += chunk.channel_begin;
    p += chunk.position_begin;
    t = call.by_joints.quotient(p);
    v = p - t * call.axes[kJoints].length;
    g = call.by_width.quotient(c);
  }

  // To the next element in memory.
  CSTA_DEVICE void advance(const Call& call) {
    if (call.channels_last) {
      if (++c == call.channels) {
        c = 0;
        if (++v == call.axes[kJoints].length) {
          v = 0;
          ++t;
        }
      }
      if (call.groups > 1) g = call.by_width.quotient(c);
    } else if (++v == call.axes[kJoints].length) {
      v = 0;
      if (++t == call.axes[kFrames].length) {
        t = 0;
        ++c;
        if (call.groups > 1) g = call.by_width.quotient(c);
      }
    }
  }
};

template <class Element, int kCount>
struct alignas(kCount * sizeof(Element)) Pack {
  Element elements[kCount];
};

template <class Element>
class Reweight {
  using Scalar = Arithmetic<Element>;

 public:
  CSTA_DEVICE Reweight(const Call& call, const Real& real, const Coupling<Scalar>& coupling,
                       bool spreads, const Table<Scalar>& frames, const Table<Scalar>& joints)
      : call_(call),
        real_(real),
        coupling_(coupling),
        spreads_(spreads),
        all_real_(real.frames == nullptr && real.joints == nullptr),
        frame_shares_(frames),
        joint_shares_(joints) {}

  // From a chunk in shared memory to its place in a sample of the result. For all threads.
  CSTA_DEVICE void run(const Chunk& chunk, const Element* from, Element* sample) const {
    constexpr int kCount = 16 / static_cast<int>(sizeof(Element));
    Element* to = sample + chunk.offset;
    const int count = chunk.channels() * chunk.positions();
    const int misplaced = static_cast<int>(reinterpret_cast<uintptr_t>(to) % 16);
    int head = count;
    if (misplaced == static_cast<int>(reinterpret_cast<uintptr_t>(from) % 16)) {
      head = smaller(count, (16 - misplaced) % 16 / static_cast<int>(sizeof(Element)));
    }
    const int packs = (count - head) / kCount;
    for (int i = thread(); i < head; i += threads()) one<1>(chunk, from, to, i);
    for (int i = thread(); i < packs; i += threads()) {
      one<kCount>(chunk, from, to, head + i * kCount);
    }
    for (int i = head + packs * kCount + thread(); i < count; i += threads()) {
      one<1>(chunk, from, to, i);
    }
  }

 private:
  template <int kCount>
  CSTA_DEVICE void one(const Chunk& chunk, const Element* from, Element* to, int element) const {
    using Elements = Pack<Element, kCount>;
    const Elements in = *reinterpret_cast<const Elements*>(from + element);
    Elements out;
    Position position(call_, chunk, element);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      out.elements[k] =
          narrow<Element>(value(static_cast<Scalar>(widen(in.elements[k])), position));
      if (k + 1 < kCount) position.advance(call_);
    }
    *reinterpret_cast<Elements*>(to + element) = out;
  }

  CSTA_DEVICE Scalar value(Scalar x, const Position& at) const {
    if (at.t >= real_.frame_end) return call_.residual ? x : Scalar{0};
    if (!all_real_ && !(real_.frame(at.t) && real_.joint(at.v))) {
      return call_.residual ? x : Scalar{0};
    }
    const Scalar rho = call_.residual ? Scalar{1} : Scalar{0};
    Scalar value =
        x * (rho + coupling_.frames.at(at.g, at.t) * coupling_.scaled_joints.at(at.g, at.v));
    if (spreads_) value += frame_shares_.at(at.c, at.t) + joint_shares_.at(at.c, at.v);
    return value;
  }

  const Call& call_;
  const Real& real_;
  const Coupling<Scalar>& coupling_;
  bool spreads_, all_real_;
  const Table<Scalar>&frame_shares_, &joint_shares_;
};

}  // namespace csta::cuda
