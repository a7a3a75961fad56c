// The attention's gradients: S = sum of grad_y x over the channels of a group, then S against the
// attention of the other axis.
#pragma once

#include "passes.h"

namespace csta::cuda {

template <class Element>
class Correlation {
  using Scalar = Arithmetic<Element>;

 public:
  CSTA_DEVICE Correlation(const CallParams& call, const Valid& valid,
                          const Coupling<Scalar>& coupling, Scalar* correlation, Scalar scale,
                          const Table<Scalar>& frame_gradients,
                          const Table<Scalar>& joint_gradients)
      : call_(call),
        real_(valid),
        coupling_(coupling),
        correlation_(correlation),
        scale_(scale),
        frame_gradients_(frame_gradients),
        joint_gradients_(joint_gradients) {}

  // Adds a chunk's part. For all threads, as is finish, and none of the two may be at work on
  // another chunk's.
  CSTA_DEVICE void add(const Chunk& chunk, const Element* x, const Element* grad_y) {
    const Span span(call_, chunk, real_);
    if (span.frame_end <= span.frame_begin) return;
    const int first = call_.by_width.quotient(chunk.channel_begin);
    const int last = call_.by_width.quotient(chunk.channel_end - 1);
    if (first == last && lies_in_packs(x, grad_y)) {
      if (first != group_) finish();
      multiply_packs(chunk, x, grad_y, span.end - span.begin, group_ == first);
      group_ = first;
      span_ = span;
      return;
    }
    finish();
    const int at_once = max(1, call_.plan.correlation_scalars / (span.end - span.begin));
    for (int g = first; g <= last; g += at_once) {
      const int groups = min(at_once, last + 1 - g);
      multiply(chunk, span, x, grad_y, g, groups);
      reduce(span, g, groups);
    }
  }

  // Takes what is left of whole planes' sums to the gradients. There may be more after it.
  CSTA_DEVICE void finish() {
    if (group_ < 0) return;
    reduce(span_, group_, 1);
    group_ = -1;
  }

 private:
  // Whether chunks are whole planes, whose packs are the same positions in every chunk.
  CSTA_DEVICE bool lies_in_packs(const Element* x, const Element* grad_y) const {
    const int plane = call_.axes[kFrames].length * call_.axes[kJoints].length;
    return real_.all() && !call_.channels_last && call_.plan.chunks_per_plane == 1 &&
           plane % Pack<Element>::kCount == 0 &&
           Pack<Element>::before(x) == Pack<Element>::before(grad_y);
  }

  // Sums of grad_y x over a chunk's channels, or their sum with what was there.
  CSTA_DEVICE void multiply_packs(const Chunk& chunk, const Element* x, const Element* grad_y,
                                  int positions, bool adds) {
    struct alignas(16) Products {
      Scalar of[Pack<Element>::kCount];
    };
    constexpr int kCount = Pack<Element>::kCount;
    const int channels = chunk.channels(), stride = chunk.channel_stride;
    const int head = min(Pack<Element>::before(x), positions);
    const int packs = (positions - head) / kCount, rest = positions - packs * kCount;
    shift_ = (kCount - head) % kCount;
    Scalar* correlation = correlation_ + shift_;
    for (int i = thread(); i < packs; i += threads()) {
      const int p = head + i * kCount;
      const Element *from_x = x + p, *from_grad_y = grad_y + p;
      auto* there = reinterpret_cast<Products*>(correlation + p);
      Products sums{};
      if (adds) sums = *there;
      for (int left = channels; left > 0; left -= 8) {
        Scalar parts[kCount] = {};
#pragma unroll 1
        for (int c = 0; c < min(left, 8); ++c) {
          const Pack<Element> a = Pack<Element>::at(from_x), b = Pack<Element>::at(from_grad_y);
#pragma unroll
          for (int k = 0; k < kCount; ++k) {
            parts[k] += static_cast<Scalar>(widen(a.elements[k])) *
                        static_cast<Scalar>(widen(b.elements[k]));
          }
          from_x += stride;
          from_grad_y += stride;
        }
#pragma unroll
        for (int k = 0; k < kCount; ++k) sums.of[k] += parts[k];
      }
      *there = sums;
    }
    for (int i = thread(); i < rest; i += threads()) {
      const int p = i < head ? i : i + packs * kCount;
      const Scalar sum = sum_of<Scalar>(channels, [&](int c) {
        return static_cast<Scalar>(widen(x[p + c * stride])) *
               static_cast<Scalar>(widen(grad_y[p + c * stride]));
      });
      correlation[p] = adds ? correlation[p] + sum : sum;
    }
  }

  // The same element by element: of some groups, 0 where not valid.
  CSTA_DEVICE void multiply(const Chunk& chunk, const Span& span, const Element* x,
                            const Element* grad_y, int first, int groups) {
    shift_ = 0;
    const int joints = call_.axes[kJoints].length, width = call_.channels / call_.groups;
    const int positions = span.end - span.begin;
    const bool channels_last = call_.channels_last, everything = real_.all();
    for (int i = thread(); i < groups * positions; i += threads()) {
      const int g = groups == 1 ? 0 : i / positions, p = i - g * positions;
      const int begin = max((first + g) * width, chunk.channel_begin);
      const int count = min((first + g + 1) * width, chunk.channel_end) - begin;
      const int t = call_.by_joints.quotient(span.begin + p);
      Scalar sum = 0;
      if (everything || (real_.frame(t) && real_.joint(span.begin + p - t * joints))) {
        const int stride = channels_last ? 1 : chunk.channel_stride;
        const int at =
            p * chunk.position_stride + (begin - chunk.channel_begin) * chunk.channel_stride;
        // In channels-last memory neighbours start in banks of their own.
        sum = sum_from<Scalar>(channels_last ? p % count : 0, count, [&](int c) {
          return static_cast<Scalar>(widen(x[at + c * stride])) *
                 static_cast<Scalar>(widen(grad_y[at + c * stride]));
        });
      }
      correlation_[i] = sum;
    }
  }

  // Adds what the products of some groups are against the attention of the other axis.
  CSTA_DEVICE void reduce(const Span& span, int first, int groups) const {
    const int joints = call_.axes[kJoints].length, positions = span.end - span.begin;
    const int frames = span.frame_end - span.frame_begin, rows = groups * frames;
    block_barrier();
    for (int i = thread(); i < rows + groups * joints; i += threads()) {
      if (i < rows) {
        const int g = i / frames, t = span.frame_begin + i - g * frames;
        const Run run = Run::of_frame(span, t, joints);
        const Scalar* row =
            correlation_ + shift_ + g * positions + t * joints + run.first - span.begin;
        const Scalar* scaled = &coupling_.scaled_joints.at(first + g, run.first);
        frame_gradients_.at(first + g, t) += sum_from<Scalar>(
            run.stagger(t, joints % 2 == 0), run.count, [&](int k) { return row[k] * scaled[k]; });
      } else {
        const int g = call_.by_joints.quotient(i - rows), v = i - rows - g * joints;
        const Run run = Run::of_joint(call_, span, v, joints);
        const Scalar* column =
            correlation_ + shift_ + g * positions + run.first * joints + v - span.begin;
        const Scalar* attention = &coupling_.frames.at(first + g, run.first);
        joint_gradients_.at(first + g, v) += scale_ * sum_of<Scalar>(run.count, [&](int k) {
                                               return column[k * joints] * attention[k];
                                             });
      }
    }
    block_barrier();
  }

  const CallParams& call_;
  const Valid& real_;
  const Coupling<Scalar>& coupling_;
  Scalar* correlation_;
  Scalar scale_;
  Table<Scalar> frame_gradients_, joint_gradients_;
  int shift_ = 0;   // products begin there, so that packs of them are aligned
  int group_ = -1;  // whose products are not in the gradients yet
  Span span_;
};

}  // namespace csta::cuda
