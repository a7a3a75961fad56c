// Last pass over a chunk in shared memory: y = x * (residual + scale A), or grad_x = grad_y *
// (residual + scale A) + gradients through the means. A chunk is one flat run, taken 16 bytes at a
// time where aligned.
#pragma once

#include "passes.h"

namespace csta::cuda {

// Coordinates of an element of a chunk.
struct Position {
  int c, t, v, g;

  CSTA_DEVICE Position(const CallParams& call, const Chunk& chunk, int element) {
    int p;
    if (call.channels_last) {
      p = call.by_channels.quotient(element);
      c = element - p * call.channels;
    } else {
      c = call.by_plane.quotient(element);  // 0 if the chunk is less than a plane
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

  // Reads a chunk from shared memory and writes its place in a sample of the result. Called by all
  // threads.
  CSTA_DEVICE void run(const Chunk& chunk, const Element* from, Element* sample) const {
    Element* to = sample + chunk.offset;
    const int positions = chunk.positions(), joints = call_.axes[kJoints].length;
    const int prefix = Elements::prefix(to);
    const bool aligned = prefix == Elements::prefix(from);
    if (call_.channels_last) {
      walk<true>(chunk, from, to, aligned ? prefix : INT32_MAX);
    } else if (aligned && chunk.channels() > 1 && positions % kCount == 0 && joints >= kCount &&
               of_one_group(chunk.channel_begin, chunk.channel_end - 1)) {
      reweight_planes(chunk, from, to, prefix);
    } else {
      walk<false>(chunk, from, to, aligned ? prefix : INT32_MAX);
    }
  }

 private:
  using Elements = Vec16<Element>;
  static constexpr int kCount = Elements::kCount;
  static constexpr unsigned kAll = (1u << kCount) - 1;

  CSTA_DEVICE bool of_one_group(int first, int last) const {
    return call_.groups == 1 || call_.by_width.quotient(first) == call_.by_width.quotient(last);
  }
  static CSTA_DEVICE Elements read(const Element* address) { return Elements::load(address); }
  static CSTA_DEVICE void write(Element* address, const Elements& elements) {
    elements.store(address);
  }

  // Walks a chunk as one flat run, whose first aligned vector is at element `prefix`.
  template <bool kChannelsLast>
  CSTA_DEVICE void walk(const Chunk& chunk, const Element* from, Element* to, int prefix) const {
    const int count = chunk.channels() * chunk.positions();
    prefix = min(prefix, count);
    const int vectors = (count - prefix) / kCount, edges = count - vectors * kCount;
    for (int i = thread(); i < vectors; i += threads()) {
      const int element = prefix + i * kCount;
      const Position at(call_, chunk, element);
      if (kChannelsLast ? !one_position(at, from + element, to + element)
                        : !one_channel(at, from + element, to + element)) {
        one_by_one(chunk, from, to, element);
      }
    }
    for (int i = thread(); i < edges; i += threads()) {
      one(chunk, from, to, i < prefix ? i : i + vectors * kCount);
    }
  }

  // Walks whole planes of one group and of equal alignment: a thread takes the same positions of
  // several channels, which share gains and validity.
  CSTA_DEVICE void reweight_planes(const Chunk& chunk, const Element* from, Element* to,
                                   int prefix) const {
    const int plane = chunk.positions(), channels = chunk.channels();
    prefix = min(prefix, plane);
    const int vectors = (plane - prefix) / kCount, edges = plane - vectors * kCount;
    const int ways = max(1, threads() / max(vectors, 1));
    for (int i = thread(); i < vectors * ways; i += threads()) {
      const int way = ways == 1 ? 0 : i / vectors, p = prefix + (i - way * vectors) * kCount;
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
      // Under masks nearly every warp has valid and invalid vectors; one branch serves both.
      if (valid == kAll && real_.all()) {
        reweight(std::false_type{});
      } else {
        reweight(std::true_type{});
      }
    }
    for (int i = thread(); i < edges * channels; i += threads()) {
      const int c = i / edges, k = i - c * edges;
      one(chunk, from, to, c * plane + (k < prefix ? k : k + vectors * kCount));
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

  // Consecutive channels of one group at one position. Returns false, without writing, if they are
  // not.
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
      Scalar value = static_cast<Scalar>(widen(in.values[k])) * gain;
      if (with_means_)
        value += frame_grad_means_.at(at.c + k, at.t) + joint_grad_means_.at(at.c + k, at.v);
      out.values[k] = narrow<Element>(value);
    }
    write(to, out);
    return true;
  }

  // Consecutive positions of one channel. Returns false, without writing, if they are not.
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
  // Bit mask of the valid ones of consecutive positions, which span at most two frames.
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

  // Gains of consecutive positions, which span at most two frames.
  CSTA_DEVICE void find_gains(const Position& at, Scalar (&gains)[kCount]) const {
    const int left = call_.axes[kJoints].length - at.v;
    const Scalar here = coupling_.frames.at(at.g, at.t);
    const Scalar next = left < kCount ? coupling_.frames.at(at.g, at.t + 1) : here;
    const Scalar* scaled = &coupling_.scaled_joints.at(at.g, at.v);
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      gains[k] = residual_gain() + (k < left ? here : next) * scaled[k];
  }
  // Gradients through the means of a channel, from a position on.
  struct GradMeans {
    const Scalar *frames, *joints;
  };
  CSTA_DEVICE GradMeans grad_means_at(int c, const Position& at) const {
    if (!with_means_) return {nullptr, nullptr};
    return {&frame_grad_means_.at(c, at.t), &joint_grad_means_.at(c, at.v)};
  }
  // A vector of the result; kSelects: some of its positions may be invalid.
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
      Scalar value = static_cast<Scalar>(widen(in.values[k])) * gains[k];
      if (with_means_) value += (first ? here : next) + grad_means.joints[first ? k : k - joints];
      out.values[k] = narrow<Element>(value);
    }
    if (!kSelects || valid == kAll) return out;
    const Elements unchanged = padding(in);
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      if ((valid >> k & 1) == 0) out.values[k] = unchanged.values[k];
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
