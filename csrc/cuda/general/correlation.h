// Gradients of the attention: S = sum of grad_y * x over the channels of a group, then S times the
// attention of the other axis. x and grad_y are chunks in shared memory.
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

  // Adds a chunk. Called by all threads, like finish(); no thread may still be in either for
  // another chunk.
  CSTA_DEVICE void add(const Chunk& chunk, const Element* x, const Element* grad_y) {
    const Span span(call_, chunk, real_);
    if (span.frame_end <= span.frame_begin) return;
    const int first_group = call_.by_width.quotient(chunk.channel_begin);
    const int last_group = call_.by_width.quotient(chunk.channel_end - 1);
    if (first_group == last_group && lies_in_vectors(x, grad_y)) {
      if (first_group != group_) finish();
      multiply_vectors(chunk, x, grad_y, span.end - span.begin, group_ == first_group);
      group_ = first_group;
      span_ = span;
      return;
    }
    finish();
    const int at_once = max(1, call_.plan.correlation_scalars / (span.end - span.begin));
    for (int g = first_group; g <= last_group; g += at_once) {
      const int groups = min(at_once, last_group + 1 - g);
      multiply(chunk, span, x, grad_y, g, groups);
      reduce(span, g, groups);
    }
  }

  // Adds the pending sums of whole planes to the gradients; more chunks may follow.
  CSTA_DEVICE void finish() {
    if (group_ < 0) return;
    reduce(span_, group_, 1);
    group_ = -1;
  }

 private:
  // Whether chunks are whole planes whose vectors hold the same positions in every chunk.
  CSTA_DEVICE bool lies_in_vectors(const Element* x, const Element* grad_y) const {
    const int plane = call_.axes[kFrames].length * call_.axes[kJoints].length;
    return real_.all() && !call_.channels_last && call_.plan.chunks_per_plane == 1 &&
           plane % Vec16<Element>::kCount == 0 &&
           Vec16<Element>::prefix(x) == Vec16<Element>::prefix(grad_y);
  }

  // S of a chunk's channels by vectors; `adds` to the S in memory.
  CSTA_DEVICE void multiply_vectors(const Chunk& chunk, const Element* x, const Element* grad_y,
                                    int positions, bool adds) {
    using Sums = Vec<Scalar, Vec16<Element>::kCount>;
    constexpr int kCount = Sums::kCount;
    const int channels = chunk.channels(), stride = chunk.channel_stride;
    const int prefix = min(Vec16<Element>::prefix(x), positions);
    const int vectors = (positions - prefix) / kCount, edges = positions - vectors * kCount;
    shift_ = (kCount - prefix) % kCount;
    Scalar* correlation = correlation_ + shift_;
    for (int i = thread(); i < vectors; i += threads()) {
      const int p = prefix + i * kCount;
      const Element *from_x = x + p, *from_grad_y = grad_y + p;
      Sums sums{};
      if (adds) sums = Sums::load(correlation + p);
      for (int left = channels; left > 0; left -= 8) {
        Scalar partial[kCount] = {};
#pragma unroll 1
        for (int c = 0; c < min(left, 8); ++c) {
          const Vec16<Element> a = Vec16<Element>::load(from_x),
                               b = Vec16<Element>::load(from_grad_y);
#pragma unroll
          for (int k = 0; k < kCount; ++k) {
            partial[k] +=
                static_cast<Scalar>(widen(a.values[k])) * static_cast<Scalar>(widen(b.values[k]));
          }
          from_x += stride;
          from_grad_y += stride;
        }
#pragma unroll
        for (int k = 0; k < kCount; ++k) sums.values[k] += partial[k];
      }
      sums.store(correlation + p);
    }
    for (int i = thread(); i < edges; i += threads()) {
      const int p = i < prefix ? i : i + vectors * kCount;
      const Scalar sum = sum_of<Scalar>(channels, [&](int c) {
        return static_cast<Scalar>(widen(x[p + c * stride])) *
               static_cast<Scalar>(widen(grad_y[p + c * stride]));
      });
      correlation[p] = adds ? correlation[p] + sum : sum;
    }
  }

  // S of some groups element by element, 0 at invalid positions.
  CSTA_DEVICE void multiply(const Chunk& chunk, const Span& span, const Element* x,
                            const Element* grad_y, int first_group, int groups) {
    shift_ = 0;
    const int joints = call_.axes[kJoints].length, width = call_.channels / call_.groups;
    const int positions = span.end - span.begin;
    const bool channels_last = call_.channels_last, everything = real_.all();
    for (int i = thread(); i < groups * positions; i += threads()) {
      const int g = groups == 1 ? 0 : i / positions, p = i - g * positions;
      const int begin = max((first_group + g) * width, chunk.channel_begin);
      const int count = min((first_group + g + 1) * width, chunk.channel_end) - begin;
      const int t = call_.by_joints.quotient(span.begin + p);
      Scalar sum = 0;
      if (everything || (real_.frame(t) && real_.joint(span.begin + p - t * joints))) {
        const int stride = channels_last ? 1 : chunk.channel_stride;
        const int at =
            p * chunk.position_stride + (begin - chunk.channel_begin) * chunk.channel_stride;
        // Channels-last: neighbouring threads start at different channels to avoid bank conflicts.
        sum = sum_from<Scalar>(channels_last ? p % count : 0, count, [&](int c) {
          return static_cast<Scalar>(widen(x[at + c * stride])) *
                 static_cast<Scalar>(widen(grad_y[at + c * stride]));
        });
      }
      correlation_[i] = sum;
    }
  }

  // Adds S of some groups times the attention of the other axis to the gradients.
  CSTA_DEVICE void reduce(const Span& span, int first_group, int groups) const {
    const int joints = call_.axes[kJoints].length, positions = span.end - span.begin;
    const int frames = span.frame_end - span.frame_begin, rows = groups * frames;
    block_barrier();
    for (int i = thread(); i < rows + groups * joints; i += threads()) {
      if (i < rows) {
        const int g = i / frames, t = span.frame_begin + i - g * frames;
        const Run run = Run::of_frame(span, t, joints);
        const Scalar* row =
            correlation_ + shift_ + g * positions + t * joints + run.first - span.begin;
        const Scalar* scaled = &coupling_.scaled_joints.at(first_group + g, run.first);
        frame_gradients_.at(first_group + g, t) += sum_from<Scalar>(
            run.stagger(t, joints % 2 == 0), run.count, [&](int k) { return row[k] * scaled[k]; });
      } else {
        const int g = call_.by_joints.quotient(i - rows), v = i - rows - g * joints;
        const Run run = Run::of_joint(call_, span, v, joints);
        const Scalar* column =
            correlation_ + shift_ + g * positions + run.first * joints + v - span.begin;
        const Scalar* attention = &coupling_.frames.at(first_group + g, run.first);
        joint_gradients_.at(first_group + g, v) += scale_ * sum_of<Scalar>(run.count, [&](int k) {
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
  int shift_ = 0;   // offset of S, which aligns its vectors
  int group_ = -1;  // group of the pending S, or -1
  Span span_;
};

}  // namespace csta::cuda
