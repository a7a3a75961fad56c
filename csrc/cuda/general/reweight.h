// The last pass over a sample: y = x (residual + scale A), or dx = grad_y (residual + scale A) +
// what the means give back. A chunk is walked as one flat run of memory, 16 bytes at a time where
// that is possible.
#pragma once

#include "passes.h"

namespace csta::cuda {

// Where an element of a sample is.
struct Position {
  int c, t, v, g;

  CSTA_DEVICE Position(const CallParams& call, const Chunk& chunk, int element) {
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
  CSTA_DEVICE Reweight(const CallParams& call, const Valid& valid, const Coupling<Scalar>& coupling,
                       bool with_means, const Table<Scalar>& frames, const Table<Scalar>& joints)
      : call_(call),
        real_(valid),
        coupling_(coupling),
        with_means_(with_means),
        frame_grad_means_(frames),
        joint_grad_means_(joints) {}

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
      reweight_planes(chunk, from, to, head);
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
  template <bool kChannelsLast>
  CSTA_DEVICE void walk(const Chunk& chunk, const Element* from, Element* to, int head) const {
    const int count = chunk.channels() * chunk.positions();
    head = min(head, count);
    const int packs = (count - head) / kCount, rest = count - packs * kCount;
    for (int i = thread(); i < packs; i += threads()) {
      const int element = head + i * kCount;
      const Position at(call_, chunk, element);
      if (kChannelsLast ? !one_position(at, from + element, to + element)
                        : !one_channel(at, from + element, to + element)) {
        one_by_one(chunk, from, to, element);
      }
    }
    for (int i = thread(); i < rest; i += threads()) {
      one(chunk, from, to, i < head ? i : i + packs * kCount);
    }
  }

  // Whole planes of one group, which lie alike: a thread takes the same positions of several
  // channels, where the gain is the same, and so is what is valid.
  CSTA_DEVICE void reweight_planes(const Chunk& chunk, const Element* from, Element* to,
                                   int head) const {
    const int plane = chunk.positions(), channels = chunk.channels();
    head = min(head, plane);
    const int packs = (plane - head) / kCount, rest = plane - packs * kCount;
    const int ways = max(1, threads() / max(packs, 1));
    for (int i = thread(); i < packs * ways; i += threads()) {
      const int way = ways == 1 ? 0 : i / packs, p = head + (i - way * packs) * kCount;
      const Position at(call_, chunk, p);
      const unsigned valid = valid_bits(at);
      Scalar gains[kCount];
      find_gains(at, gains);
      GradMeans grad_means = grad_means_at(chunk.channel_begin + way, at);
      const Element* in = from + way * plane + p;
      Element* out = to + way * plane + p;
      const auto reweight = [&](auto selects) {
        for (int c = way; c < channels; c += ways) {
          write(out, reweighted<decltype(selects)::value>(at, valid, gains, grad_means, read(in)));
          in += ways * plane;
          out += ways * plane;
          if (with_means_) grad_means.frames += ways * frame_grad_means_.row_stride;
          if (with_means_) grad_means.joints += ways * joint_grad_means_.row_stride;
        }
      };
      // Under masks nearly every warp has packs of both kinds: it goes one way with all of them.
      if (valid == kAll && real_.all()) {
        reweight(std::false_type{});
      } else {
        reweight(std::true_type{});
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
    if (!is_valid(at)) {
      write(to, padding(in));
      return true;
    }
    const Scalar gain =
        residual_gain() + coupling_.frames.at(at.g, at.t) * coupling_.scaled_joints.at(at.g, at.v);
    Elements out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      Scalar value = static_cast<Scalar>(widen(in.elements[k])) * gain;
      if (with_means_)
        value += frame_grad_means_.at(at.c + k, at.t) + joint_grad_means_.at(at.c + k, at.v);
      out.elements[k] = narrow<Element>(value);
    }
    write(to, out);
    return true;
  }

  // Consecutive positions of one channel, likewise.
  CSTA_DEVICE bool one_channel(const Position& at, const Element* from, Element* to) const {
    const int joints = call_.axes[kJoints].length, p = at.t * joints + at.v;
    if (p + kCount > call_.axes[kFrames].length * joints || joints < kCount) return false;
    const unsigned valid = valid_bits(at);
    const Elements in = read(from);
    if (valid == 0) {
      write(to, padding(in));
      return true;
    }
    Scalar gains[kCount];
    find_gains(at, gains);
    write(to, reweighted<true>(at, valid, gains, grad_means_at(at.c, at), in));
    return true;
  }

  CSTA_DEVICE bool is_valid(const Position& at) const {
    return real_.frame(at.t) && real_.joint(at.v);
  }
  // Which of consecutive positions are valid, of one frame or two: a bit for each.
  CSTA_DEVICE unsigned valid_bits(const Position& at) const {
    const int joints = call_.axes[kJoints].length;
    if (real_.all()) {
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
    for (int k = 0; k < kCount; ++k)
      gains[k] = residual_gain() + (k < left ? here : next) * scaled[k];
  }
  // What the means give back to a channel, from a position on.
  struct GradMeans {
    const Scalar *frames, *joints;
  };
  CSTA_DEVICE GradMeans grad_means_at(int c, const Position& at) const {
    if (!with_means_) return {nullptr, nullptr};
    return {&frame_grad_means_.at(c, at.t), &joint_grad_means_.at(c, at.v)};
  }
  // A pack of the result; kSelects: not all of it need be valid.
  template <bool kSelects>
  CSTA_DEVICE Elements reweighted(const Position& at, unsigned valid, const Scalar (&gains)[kCount],
                                  const GradMeans& grad_means, const Elements& in) const {
    if (kSelects && valid == 0) return padding(in);
    const int joints = call_.axes[kJoints].length, left = joints - at.v;
    const Scalar here = with_means_ ? grad_means.frames[0] : 0;
    const Scalar next = with_means_ && left < kCount ? grad_means.frames[1] : here;
    Elements out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const bool first = k < left;
      Scalar value = static_cast<Scalar>(widen(in.elements[k])) * gains[k];
      if (with_means_) value += (first ? here : next) + grad_means.joints[first ? k : k - joints];
      out.elements[k] = narrow<Element>(value);
    }
    if (!kSelects || valid == kAll) return out;
    const Elements unchanged = padding(in);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if ((valid >> k & 1) == 0) out.elements[k] = unchanged.elements[k];
    }
    return out;
  }

  CSTA_DEVICE Scalar residual_gain() const { return call_.residual ? Scalar{1} : Scalar{0}; }
  CSTA_DEVICE Scalar value(Scalar x, const Position& at) const {
    if (!is_valid(at)) return call_.residual ? x : Scalar{0};
    Scalar value = x * (residual_gain() +
                        coupling_.frames.at(at.g, at.t) * coupling_.scaled_joints.at(at.g, at.v));
    if (with_means_) value += frame_grad_means_.at(at.c, at.t) + joint_grad_means_.at(at.c, at.v);
    return value;
  }

  const CallParams& call_;
  const Valid& real_;
  const Coupling<Scalar>& coupling_;
  bool with_means_;
  const Table<Scalar>&frame_grad_means_, &joint_grad_means_;
};

}  // namespace csta::cuda
