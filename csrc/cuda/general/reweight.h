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
               of_one_group(chunk.channel_begin, chunk.channel_end - 1)) {
      walk_planes(chunk, from, to, head);
    } else {
      walk<false>(chunk, from, to, aligned ? head : INT32_MAX);
    }
  }

 private:
  using Elements = Pack<Element>;
  static constexpr int kCount = Elements::kCount;
  static constexpr unsigned kAll = (1u << kCount) - 1;

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
  // channels, where the gain is the same, and so is what is real.
  CSTA_DEVICE void walk_planes(const Chunk& chunk, const Element* from, Element* to,
                               int head) const {
    const int plane = chunk.positions(), channels = chunk.channels();
    head = smaller(head, plane);
    const int packs = (plane - head) / kCount, rest = plane - packs * kCount;
    const int ways = larger(1, threads() / larger(packs, 1));
    for (int i = thread(); i < packs * ways; i += threads()) {
      const int way = ways == 1 ? 0 : i / packs, p = head + (i - way * packs) * kCount;
      const Position at(call_, chunk, p);
      const unsigned real = reals(at);
      Scalar gains[kCount];
      find_gains(at, gains);
      Shares shares = shares_of(chunk.channel_begin + way, at);
      const Element* in = from + way * plane + p;
      Element* out = to + way * plane + p;
      const auto weigh = [&](auto selects) {
        for (int c = way; c < channels; c += ways) {
          write(out, weighed<decltype(selects)::value>(at, real, gains, shares, read(in)));
          in += ways * plane;
          out += ways * plane;
          if (spreads_) shares.frames += ways * frame_shares_.row_stride;
          if (spreads_) shares.joints += ways * joint_shares_.row_stride;
        }
      };
      // Under masks nearly every warp has packs of both kinds: it goes one way with all of them.
      if (real == kAll && real_.everything()) {
        weigh(std::false_type{});
      } else {
        weigh(std::true_type{});
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
    if (at.c + kCount > call_.channels || !of_one_group(at.c, at.c + kCount - 1)) return false;
    const Elements in = read(from);
    if (!is_real(at)) {
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
    if (p + kCount > call_.axes[kFrames].length * joints || joints < kCount) return false;
    const unsigned real = reals(at);
    const Elements in = read(from);
    if (real == 0) {
      write(to, padding(in));
      return true;
    }
    Scalar gains[kCount];
    find_gains(at, gains);
    write(to, weighed<true>(at, real, gains, shares_of(at.c, at), in));
    return true;
  }

  CSTA_DEVICE bool is_real(const Position& at) const {
    return real_.frame(at.t) && real_.joint(at.v);
  }
  // Which of consecutive positions are real, of one frame or two: a bit for each.
  CSTA_DEVICE unsigned reals(const Position& at) const {
    const int joints = call_.axes[kJoints].length;
    if (real_.everything()) {
      const int left = real_.frame_end * joints - (at.t * joints + at.v);
      return left >= kCount ? kAll : left > 0 ? (1u << left) - 1 : 0;
    }
    const bool this_frame = real_.frame(at.t);
    const bool next_frame = at.v + kCount > joints && real_.frame(at.t + 1);
    unsigned bits = 0;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const bool first = at.v + k < joints;
      if ((first ? this_frame : next_frame) && real_.joint(at.v + k - (first ? 0 : joints)))
        bits |= 1u << k;
    }
    return bits;
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
  // A pack of the result; kSelects: not all of it need be real.
  template <bool kSelects>
  CSTA_DEVICE Elements weighed(const Position& at, unsigned real, const Scalar (&gains)[kCount],
                               const Shares& shares, const Elements& in) const {
    if (kSelects && real == 0) return padding(in);
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
    if (!kSelects || real == kAll) return out;
    const Elements unweighed = padding(in);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if ((real >> k & 1) == 0) out.elements[k] = unweighed.elements[k];
    }
    return out;
  }

  CSTA_DEVICE Scalar rho() const { return call_.residual ? Scalar{1} : Scalar{0}; }
  CSTA_DEVICE Scalar value(Scalar x, const Position& at) const {
    if (!is_real(at)) return call_.residual ? x : Scalar{0};
    Scalar value =
        x * (rho() + coupling_.frames.at(at.g, at.t) * coupling_.scaled_joints.at(at.g, at.v));
    if (spreads_) value += frame_shares_.at(at.c, at.t) + joint_shares_.at(at.c, at.v);
    return value;
  }

  const Call& call_;
  const Real& real_;
  const Coupling<Scalar>& coupling_;
  bool spreads_;
  const Table<Scalar>&frame_shares_, &joint_shares_;
};

}  // namespace csta::cuda
