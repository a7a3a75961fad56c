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
    } else {
      c = call.by_plane.quotient(element);  // 0 in a piece of a plane
      p = element - c * chunk.channel_stride;
    }
    c += chunk.channel_begin;
    p += chunk.position_begin;
    t = call.by_joints.quotient(p);
    v = p - t * call.axes[kJoints].length;
    g = call.by_width.quotient(c);
  }
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
        all_real_(real.everything()),
        frame_shares_(frames),
        joint_shares_(joints) {}

  // From a chunk in shared memory to its place in a sample of the result. For all threads.
  CSTA_DEVICE void run(const Chunk& chunk, const Element* from, Element* sample) const {
    Element* to = sample + chunk.offset;
    const int positions = chunk.positions(), joints = call_.axes[kJoints].length;
    const int head = Elements::before(to);
    const bool aligned = head == Elements::before(from);
    if (call_.channels_last) {
      walk<true>(chunk, from, to, aligned ? head : INT32_MAX);
    } else if (aligned && chunk.channels() > 1 && positions % kCount == 0 && joints >= kCount &&
               all_real_ && of_one_group(chunk.channel_begin, chunk.channel_end - 1)) {
      walk_planes(chunk, from, to, head);
    } else {
      walk<false>(chunk, from, to, aligned ? head : INT32_MAX);
    }
  }

 private:
  using Elements = Pack<Element>;
  static constexpr int kCount = Elements::kCount;

  CSTA_DEVICE bool of_one_group(int first, int last) const {
    return call_.groups == 1 || call_.by_width.quotient(first) == call_.by_width.quotient(last);
  }
  static CSTA_DEVICE Elements read(const Element* address) { return Elements::at(address); }
  static CSTA_DEVICE void write(Element* address, const Elements& elements) {
    *reinterpret_cast<Elements*>(address) = elements;
  }

  // A chunk as one flat run, whose packs begin at element `head`.
  template <bool kLast>
  CSTA_DEVICE void walk(const Chunk& chunk, const Element* from, Element* to, int head) const {
    const int count = chunk.channels() * chunk.positions();
    head = smaller(head, count);
    const int packs = (count - head) / kCount, rest = count - packs * kCount;
    for (int i = thread(); i < packs; i += threads()) {
      const int element = head + i * kCount;
      const Position at(call_, chunk, element);
      if (kLast ? !one_position(at, from + element, to + element)
                : !one_channel(at, from + element, to + element)) {
        one_by_one(chunk, from, to, element);
      }
    }
    for (int i = thread(); i < rest; i += threads()) {
      one(chunk, from, to, i < head ? i : i + packs * kCount);
    }
  }

  // Whole planes of one group, which lie alike: a thread takes the same positions of several
  // channels, where the gain is the same.
  CSTA_DEVICE void walk_planes(const Chunk& chunk, const Element* from, Element* to,
                               int head) const {
    const int plane = chunk.positions(), channels = chunk.channels();
    const int real_end = real_.frame_end * call_.axes[kJoints].length;
    head = smaller(head, plane);
    const int packs = (plane - head) / kCount, rest = plane - packs * kCount;
    const int ways = larger(1, threads() / larger(packs, 1));
    for (int i = thread(); i < packs * ways; i += threads()) {
      const int way = ways == 1 ? 0 : i / packs, p = head + (i - way * packs) * kCount;
      if (p + kCount > real_end) {
        for (int c = way; c < channels; c += ways) {
          const int element = c * plane + p;
          if (p >= real_end) {
            write(to + element, padding(read(from + element)));
          } else {
            one_by_one(chunk, from, to, element);
          }
        }
        continue;
      }
      const Position at(call_, chunk, p);
      Scalar gains[kCount];
      find_gains(at, gains);
      Shares shares = shares_of(chunk.channel_begin + way, at);
      const Element* in = from + way * plane + p;
      Element* out = to + way * plane + p;
      for (int c = way; c < channels; c += ways) {
        write(out, weighed(at, gains, shares, read(in)));
        in += ways * plane;
        out += ways * plane;
        if (spreads_) shares.frames += ways * frame_shares_.row_stride;
        if (spreads_) shares.joints += ways * joint_shares_.row_stride;
      }
    }
    for (int i = thread(); i < rest * channels; i += threads()) {
      const int c = i / rest, k = i - c * rest;
      one(chunk, from, to, c * plane + (k < head ? k : k + packs * kCount));
    }
  }

  CSTA_DEVICE void one(const Chunk& chunk, const Element* from, Element* to, int element) const {
    const Position at(call_, chunk, element);
    to[element] = narrow<Element>(value(static_cast<Scalar>(widen(from[element])), at));
  }
  CSTA_DEVICE void one_by_one(const Chunk& chunk, const Element* from, Element* to,
                              int element) const {
#pragma unroll 1
    for (int k = 0; k < kCount; ++k) one(chunk, from, to, element + k);
  }

  CSTA_DEVICE Elements padding(const Elements& in) const {
    return call_.residual ? in : Elements{};
  }

  // Consecutive channels at one position, of one group. False, and nothing done, where they are
  // not that.
  CSTA_DEVICE bool one_position(const Position& at, const Element* from, Element* to) const {
    const bool real = at.t < real_.frame_end;
    if (at.c + kCount > call_.channels || !of_one_group(at.c, at.c + kCount - 1)) return false;
    if (real && !all_real_) return false;
    const Elements in = read(from);
    if (!real) {
      write(to, padding(in));
      return true;
    }
    const Scalar gain =
        rho() + coupling_.frames.at(at.g, at.t) * coupling_.scaled_joints.at(at.g, at.v);
    Elements out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      Scalar value = static_cast<Scalar>(widen(in.elements[k])) * gain;
      if (spreads_) value += frame_shares_.at(at.c + k, at.t) + joint_shares_.at(at.c + k, at.v);
      out.elements[k] = narrow<Element>(value);
    }
    write(to, out);
    return true;
  }

  // Consecutive positions of one channel, likewise.
  CSTA_DEVICE bool one_channel(const Position& at, const Element* from, Element* to) const {
    const int joints = call_.axes[kJoints].length, p = at.t * joints + at.v;
    const int real_end = real_.frame_end * joints;
    if (p + kCount > call_.axes[kFrames].length * joints || joints < kCount) return false;
    if (p >= real_end) {
      write(to, padding(read(from)));
      return true;
    }
    if (p + kCount > real_end || !all_real_) return false;
    Scalar gains[kCount];
    find_gains(at, gains);
    write(to, weighed(at, gains, shares_of(at.c, at), read(from)));
    return true;
  }

  // What a channel of the group is multiplied by at consecutive positions, of one frame or two.
  CSTA_DEVICE void find_gains(const Position& at, Scalar (&gains)[kCount]) const {
    const int left = call_.axes[kJoints].length - at.v;
    const Scalar here = coupling_.frames.at(at.g, at.t);
    const Scalar next = left < kCount ? coupling_.frames.at(at.g, at.t + 1) : here;
    const Scalar* scaled = &coupling_.scaled_joints.at(at.g, at.v);
#pragma unroll
    for (int k = 0; k < kCount; ++k) gains[k] = rho() + (k < left ? here : next) * scaled[k];
  }
  // What the means give back to a channel, from a position on.
  struct Shares {
    const Scalar *frames, *joints;
  };
  CSTA_DEVICE Shares shares_of(int c, const Position& at) const {
    if (!spreads_) return {nullptr, nullptr};
    return {&frame_shares_.at(c, at.t), &joint_shares_.at(c, at.v)};
  }
  CSTA_DEVICE Elements weighed(const Position& at, const Scalar (&gains)[kCount],
                               const Shares& shares, const Elements& in) const {
    const int joints = call_.axes[kJoints].length, left = joints - at.v;
    const Scalar here = spreads_ ? shares.frames[0] : 0;
    const Scalar next = spreads_ && left < kCount ? shares.frames[1] : here;
    Elements out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const bool first = k < left;
      Scalar value = static_cast<Scalar>(widen(in.elements[k])) * gains[k];
      if (spreads_) value += (first ? here : next) + shares.joints[first ? k : k - joints];
      out.elements[k] = narrow<Element>(value);
    }
    return out;
  }

  CSTA_DEVICE Scalar rho() const { return call_.residual ? Scalar{1} : Scalar{0}; }
  CSTA_DEVICE Scalar value(Scalar x, const Position& at) const {
    if (at.t >= real_.frame_end) return call_.residual ? x : Scalar{0};
    if (!all_real_ && !(real_.frame(at.t) && real_.joint(at.v))) {
      return call_.residual ? x : Scalar{0};
    }
    Scalar value =
        x * (rho() + coupling_.frames.at(at.g, at.t) * coupling_.scaled_joints.at(at.g, at.v));
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
