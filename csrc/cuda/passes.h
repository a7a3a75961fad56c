// What touches x and u: one chunk at a time, in shared memory.
#pragma once

#include "sample.h"

namespace csta::cuda {

// The frames that a chunk has positions of, and its last position + 1, up to where x is real.
struct Span {
  int begin, end;  // positions
  int frame_begin, frame_end;

  CSTA_DEVICE Span(const Call& call, const Chunk& chunk, const Real& real)
      : begin(chunk.position_begin),
        end(smaller(chunk.position_end, real.frame_end * call.axes[kJoints].length)),
        frame_begin(call.by_joints.quotient(chunk.position_begin)),
        frame_end(begin < end ? call.by_joints.quotient(end - 1) + 1 : frame_begin) {}
};

// Adds up over the joints of a frame, in a row of which `stride` separates two. A row whose stride
// is even starts anywhere else in each frame: its neighbours' elements would lie in the same bank.
template <class Scalar, class Term>
CSTA_DEVICE Scalar sum_over_joints(const Span& span, int t, int joints, bool staggered,
                                   const Term& term) {
  const int begin = larger(span.begin - t * joints, 0);
  const int count = smaller(span.end - t * joints, joints) - begin;
  int v = staggered ? t % count : 0;
  Sum<Scalar> sum;
  for (int i = 0; i < count; ++i) {
    sum.add(term(begin + v));
    if (++v == count) v = 0;
  }
  return sum.value();
}

template <class Scalar, class Term>
CSTA_DEVICE Scalar sum_over_frames(const Span& span, int v, int joints, const Term& term) {
  Sum<Scalar> sum;
  const int first = span.frame_begin + (span.frame_begin * joints + v < span.begin ? 1 : 0);
  for (int t = first; t * joints + v < span.end; ++t) sum.add(term(t));
  return sum.value();
}

// Adds a chunk's part of the sums over joints and over frames. For all threads.
template <class Element, class Scalar>
CSTA_DEVICE void pool(const Call& call, const Chunk& chunk, const Element* x, const Real& real,
                      const Table<Scalar>& frame_sums, const Table<Scalar>& joint_sums) {
  const int joints = call.axes[kJoints].length, channels = chunk.channels();
  const Span span(call, chunk, real);
  const int frames = span.frame_end - span.frame_begin;
  if (frames <= 0) return;
  const bool staggered = joints % 2 == 0 && !call.channels_last;
  const int rows = channels * frames, columns = channels * joints;
  const auto element = [&](int c, int t, int v) {
    const int position = t * joints + v - chunk.position_begin;
    return static_cast<Scalar>(
        widen(x[c * chunk.channel_stride + position * chunk.position_stride]));
  };
  for (int i = thread(); i < rows + columns; i += threads()) {
    if (i < rows) {
      const Item item(i, channels, frames, call.channels_last);
      const int t = span.frame_begin + item.column;
      if (!real.frame(t)) continue;
      frame_sums.at(chunk.channel_begin + item.row, t) += sum_over_joints<Scalar>(
          span, t, joints, staggered,
          [&](int v) { return real.joint(v) ? element(item.row, t, v) : Scalar{0}; });
    } else {
      const Item item(i - rows, channels, joints, call.channels_last);
      const int v = item.column;
      if (!real.joint(v)) continue;
      joint_sums.at(chunk.channel_begin + item.row, v) += sum_over_frames<Scalar>(
          span, v, joints,
          [&](int t) { return real.frame(t) ? element(item.row, t, v) : Scalar{0}; });
    }
  }
}

// What the passes know of a sample's attention; tables by the slice's own groups.
template <class Scalar>
struct Coupling {
  Table<Scalar> frames;         // attention
  Table<Scalar> scaled_joints;  // kappa times the attention
};

// Adds a chunk's part of the attention's gradients: S = sum of u x over the channels of a group,
// then S against the attention of the other axis. For all threads.
template <class Element, class Scalar>
CSTA_DEVICE void correlate(const Call& call, const Chunk& chunk, const Element* x, const Element* u,
                           const Real& real, const Coupling<Scalar>& coupling, Scalar* products,
                           Scalar kappa, const Table<Scalar>& frame_gradients,
                           const Table<Scalar>& joint_gradients) {
  const int joints = call.axes[kJoints].length, width = call.channels / call.groups;
  const Span span(call, chunk, real);
  const int frames = span.frame_end - span.frame_begin, positions = span.end - span.begin;
  if (frames <= 0) return;
  const int last_group = call.by_width.quotient(chunk.channel_end - 1);
  const int at_once = larger(1, call.plan.products / positions);
  for (int first = call.by_width.quotient(chunk.channel_begin); first <= last_group;
       first += at_once) {
    const int groups = smaller(at_once, last_group + 1 - first);
    for (int i = thread(); i < groups * positions; i += threads()) {
      const int g = i / positions, p = i % positions;
      const int t = call.by_joints.quotient(span.begin + p);
      const int begin = larger((first + g) * width, chunk.channel_begin);
      const int count = smaller((first + g + 1) * width, chunk.channel_end) - begin;
      Scalar sum = 0;
      if (real.frame(t) && real.joint(span.begin + p - t * joints)) {
        const int at = p * chunk.position_stride;
        int c = call.channels_last ? p % count : 0;  // neighbours start in banks of their own
        Sum<Scalar> total;
        for (int k = 0; k < count; ++k) {
          const int element = at + (begin - chunk.channel_begin + c) * chunk.channel_stride;
          total.add(static_cast<Scalar>(widen(x[element])) *
                    static_cast<Scalar>(widen(u[element])));
          if (++c == count) c = 0;
        }
        sum = total.value();
      }
      products[i] = sum;
    }
    block_barrier();
    const int rows = groups * frames;
    for (int i = thread(); i < rows + groups * joints; i += threads()) {
      if (i < rows) {
        const int g = i / frames, t = span.frame_begin + i % frames;
        const Scalar* row = products + g * positions + t * joints - span.begin;
        frame_gradients.at(first + g, t) += sum_over_joints<Scalar>(
            span, t, joints, joints % 2 == 0,
            [&](int v) { return row[v] * coupling.scaled_joints.at(first + g, v); });
      } else {
        const int g = (i - rows) / joints, v = (i - rows) % joints;
        const Scalar* column = products + g * positions + v - span.begin;
        joint_gradients.at(first + g, v) +=
            kappa * sum_over_frames<Scalar>(span, v, joints, [&](int t) {
              return column[t * joints] * coupling.frames.at(first + g, t);
            });
      }
    }
    block_barrier();
  }
}

}  // namespace csta::cuda
