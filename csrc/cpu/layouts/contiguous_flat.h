// Last pass over planes of contiguous memory whose first frames are all valid: in (x or grad_y) to
// out (y or grad_x) as one flat run, cache line by cache line, without regard to rows and without
// masked lanes.
#pragma once

#include <type_traits>

#include "../scratch.h"
#include "../simd/prefetch.h"

namespace csta::CSTA_ISA {

// Elements from `to` to the next cache line, at most `count`.
template <class Element>
CSTA_INLINE int64_t until_line(const Element* to, int64_t count) {
  const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kCacheLine);
  const int64_t left = (kCacheLine - past) % kCacheLine / static_cast<int64_t>(sizeof(Element));
  return min(left, count);
}

template <bool kNontemporal, class Element>
CSTA_INLINE void store_vector(Element* to, Vector<Arithmetic<Element>> value) {
  if (kNontemporal) {
    store_nontemporal(to, value);
  } else {
    store(to, value);
  }
}

// y[f] = x[f] * gain[f mod plane] for f in [0, count), in steps of the caller's choice. gain
// repeats for one line beyond the plane.
template <bool kNontemporal, class Element>
class FlatReweight {
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr int64_t per_line = kCacheLine / static_cast<int64_t>(sizeof(Element));

 public:
  FlatReweight(const Element* x, const Scalar* gain, int64_t plane, int64_t count,
               PrefetchTarget<Element> prefetch, Element* y)
      : x_(x), gain_(gain), plane_(plane), count_(count), ahead_(prefetch), y_(y) {
    f_ = until_line(y, count);
    edge(0, f_);
    j_ = f_ % plane;
  }

  int64_t written() const { return f_; }

  // Writes the lines that end at or before `end`.
  CSTA_INLINE void write_lines(int64_t end) {
    int64_t f = f_, j = j_;
    while (f + per_line <= end) {
      const int64_t lines = min((end - f) / per_line, ceil_div(plane_ - j, per_line));
      for (int64_t stop = f + lines * per_line; f < stop; f += per_line, j += per_line) {
        ahead_.fetch(f);
        CSTA_UNROLL
        for (int64_t k = 0; k < per_line; k += lanes) {
          store_vector<kNontemporal>(y_ + f + k, load(x_ + f + k) * load(gain_ + j + k));
        }
      }
      if (j >= plane_) j %= plane_;
    }
    f_ = f;
    j_ = j;
  }

  void finish() {
    write_lines(count_);
    edge(f_, count_);
  }

 private:
  void edge(int64_t from, int64_t to) const {
    for (; from < to; from += lanes) {
      const int64_t part = min(lanes, to - from);
      Scalar factors[lanes];
      for (int64_t i = 0; i < lanes; ++i) factors[i] = gain_[(from + i) % plane_];
      store_some(y_ + from, load_some(x_ + from, part) * load(factors), part);
    }
  }

  const Element* x_;
  const Scalar* gain_;
  int64_t plane_, count_;
  PrefetchTarget<Element> ahead_;
  Element* y_;
  int64_t f_, j_;  // elements written, and that modulo plane
};

// Padding: to[f] = from[f], or 0 without `from`, for f in [0, count).
template <bool kNontemporal, class Element>
void write_padding(const Element* from, int64_t count, PrefetchTarget<Element> prefetch,
                   Element* to) {
  constexpr int64_t per_line = kCacheLine / static_cast<int64_t>(sizeof(Element));
  constexpr int64_t per_vector =
      per_line * static_cast<int64_t>(sizeof(Vector<float>)) / kCacheLine;
  const auto edge = [&](int64_t first, int64_t end) {
    const size_t bytes = static_cast<size_t>(end - first) * sizeof(Element);
    from == nullptr ? std::memset(to + first, 0, bytes)
                    : std::memcpy(to + first, from + first, bytes);
  };
  int64_t f = until_line(to, count);
  edge(0, f);
  for (; f + per_line <= count; f += per_line) {
    prefetch.fetch(f);
    CSTA_UNROLL
    for (int64_t k = 0; k < per_line; k += per_vector) {
      Vector<float> bits{};
      if (from != nullptr) std::memcpy(&bits, from + f + k, sizeof bits);
      store_vector<kNontemporal>(reinterpret_cast<float*>(to + f + k), bits);
    }
  }
  edge(f, count);
}

// grad_x = grad_y * gain + frames[c][t] + joints[c][v], over planes.
template <class Element>
class FlatGradient {
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr int64_t per_line = kCacheLine / static_cast<int64_t>(sizeof(Element));

 public:
  // A vector spans at most two rows.
  static bool fits(int64_t joints) { return joints >= lanes; }

  FlatGradient(Arena& arena, int64_t joints)
      : joints_(joints),
        repeated_joints_(arena.take<Scalar>(joints + lanes)),
        row_lanes_(arena.take<MaskScalar>(joints + lanes)) {}

  void begin() {
    for (int64_t v = 0; v < joints_ + lanes; ++v) row_lanes_[v] = v >= lanes ? -1 : 0;
  }

  // `channels` planes from grad_y on, all of one group. frames and joints are the gradients through
  // the means, with rows `strides` apart; a row of frames may be overrun by one scalar.
  template <bool kNontemporal>
  void run(const Element* grad_y, const Scalar* gain, int64_t plane, const Scalar* frames,
           int64_t frame_stride, const Scalar* joints, int64_t joint_stride, int64_t channels,
           PrefetchTarget<Element> prefetch, Element* out) {
    // Lines inside a channel are written as they are computed. The elements in front of the first
    // line, and lines that span two channels, are collected in `line` and copied when complete.
    Element line[per_line];
    const int64_t total = channels * plane;
    int64_t f = until_line(out, total);
    int64_t filled = 0;  // elements of `line`, which starts at f
    Element* target = out;
    int64_t wanted = f;  // elements until target is complete: first those in front of a cache line
    f = 0;
    if (wanted == 0) wanted = per_line;
    for (int64_t channel = 0; channel < channels; ++channel) {
      const Scalar* frame = frames + channel * frame_stride;
      repeat(joints + channel * joint_stride);
      const int64_t end = (channel + 1) * plane;
      while (f < end) {
        if (filled == 0 && wanted == per_line && f + per_line <= end) {
          f = whole_lines<kNontemporal>(grad_y, gain, frame, channel * plane, f, end, prefetch,
                                        out);
          target = out + f;
          continue;
        }
        const int64_t count = min(wanted - filled, end - f);
        some(grad_y + f, gain, frame, f - channel * plane, count, line + filled);
        filled += count;
        f += count;
        if (filled < wanted && f < total) continue;
        std::memcpy(target, line, static_cast<size_t>(filled) * sizeof(Element));
        target = out + f;
        filled = 0;
        wanted = per_line;
      }
    }
  }

 private:
  using MaskScalar = std::conditional_t<sizeof(Scalar) == 8, int64_t, int32_t>;

  void repeat(const Scalar* joints) {
    for (int64_t v = 0; v < joints_; ++v) repeated_joints_[v] = joints[v];
    for (int64_t i = 0; i < lanes; ++i) repeated_joints_[joints_ + i] = repeated_joints_[i];
  }

  // Whole lines of one channel, from f on; returns where they end.
  template <bool kNontemporal>
  CSTA_INLINE int64_t whole_lines(const Element* grad_y, const Scalar* gain, const Scalar* frame,
                                  int64_t channel_start, int64_t f, int64_t end,
                                  PrefetchTarget<Element> prefetch, Element* out) {
    const int64_t joints = joints_;
    const Scalar* repeated_joints = repeated_joints_;
    const MaskScalar* row_lanes = row_lanes_;
    int64_t j = f - channel_start;
    int64_t v = j % joints;
    frame += j / joints;
    for (; f + per_line <= end; f += per_line, j += per_line) {
      prefetch.fetch(f);
      CSTA_UNROLL
      for (int64_t k = 0; k < per_line; k += lanes) {
        Vector<Scalar> of_frame = splat(frame[0]);
        const Vector<Scalar> of_joint = load(repeated_joints + v);
        v += lanes;
        if (v >= joints) {
          v -= joints;
          ++frame;
          Mask<Scalar> in_row;
          std::memcpy(&in_row, row_lanes + v, sizeof in_row);
          of_frame = select<Scalar>(in_row, splat(frame[0]), of_frame);
        }
        store_vector<kNontemporal>(
            out + f + k, load(grad_y + f + k) * load(gain + j + k) + (of_joint + of_frame));
      }
    }
    return f;
  }

  // Less than a line, from element j of a channel on.
  void some(const Element* grad_y, const Scalar* gain, const Scalar* frame, int64_t j,
            int64_t count, Element* to) const {
    for (int64_t done = 0; done < count; done += lanes) {
      const int64_t part = min(lanes, count - done);
      Scalar of_frame[lanes] = {}, of_joint[lanes] = {};
      for (int64_t i = 0; i < part; ++i) {
        of_frame[i] = frame[(j + done + i) / joints_];
        of_joint[i] = repeated_joints_[(j + done + i) % joints_];
      }
      const Vector<Scalar> through_means = load(of_joint) + load(of_frame);
      store_some(to + done, load_some(grad_y + done, part) * load(gain + j + done) + through_means,
                 part);
    }
  }

  int64_t joints_;
  Scalar* repeated_joints_;
  MaskScalar* row_lanes_;
};

}  // namespace csta::CSTA_ISA
