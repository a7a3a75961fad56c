// First pass over a chunk of x in shared memory: sums over joints and over frames.
#pragma once

#include "sample.h"

namespace csta::cuda {

// Valid frames and positions of a chunk.
struct Span {
  int begin, end;  // positions
  int frame_begin, frame_end;

  CSTA_DEVICE Span() : begin(0), end(0), frame_begin(0), frame_end(0) {}
  CSTA_DEVICE Span(const CallParams& call, const Chunk& chunk, const Valid& valid)
      : begin(chunk.position_begin),
        end(min(chunk.position_end, valid.frame_end * call.axes[kJoints].length)),
        frame_begin(call.by_joints.quotient(chunk.position_begin)),
        frame_end(begin < end ? call.by_joints.quotient(end - 1) + 1 : frame_begin) {}
};

// Contiguous run of a chunk: the joints of a frame t, or the frames of a joint v.
struct Run {
  int first, count;

  static CSTA_DEVICE Run of_frame(const Span& span, int t, int joints) {
    const int first = max(span.begin - t * joints, 0);
    return {first, min(span.end - t * joints, joints) - first};
  }
  static CSTA_DEVICE Run of_joint(const CallParams& call, const Span& span, int v, int joints) {
    const int first = span.frame_begin + (span.frame_begin * joints + v < span.begin ? 1 : 0);
    const int left = span.end - 1 - (first * joints + v);
    return {first, left < 0 ? 0 : call.by_joints.quotient(left) + 1};
  }
  // First term of a frame's sum. With an even number of joints every frame starts at another one:
  // otherwise neighbouring threads would conflict on shared-memory banks.
  CSTA_DEVICE int stagger(int t, bool staggered) const { return staggered ? t % count : 0; }
};

// Adds a chunk to the sums over joints and over frames. Called by all threads.
template <bool kMasked, class Element, class Scalar>
CSTA_DEVICE void pool(const CallParams& call, const Chunk& chunk, const Element* x,
                      const Valid& valid, const Table<Scalar>& frame_sums,
                      const Table<Scalar>& joint_sums) {
  const int joints = call.axes[kJoints].length, channels = chunk.channels();
  const Span span(call, chunk, valid);
  const int frames = span.frame_end - span.frame_begin;
  if (frames <= 0) return;
  const bool channels_last = call.channels_last;
  const int rows = channels * frames, columns = channels * joints;
  const int step = channels_last ? chunk.position_stride : 1;
  const auto at = [&](int c, int t, int v) {
    return x + c * chunk.channel_stride + (t * joints + v - chunk.position_begin) * step;
  };
  for (int i = thread(); i < rows + columns; i += threads()) {
    if (i < rows) {
      const int quotient = channels_last ? call.by_channels.quotient(i) : i / frames;
      const int c = channels_last ? i - quotient * channels : quotient;
      const int t = span.frame_begin + (channels_last ? quotient : i - quotient * frames);
      if (kMasked && !valid.frame(t)) continue;
      const Run run = Run::of_frame(span, t, joints);
      const Element* row = at(c, t, run.first);
      const auto element = [&](int k) {
        if (kMasked && !valid.joint(run.first + k)) return Scalar{0};
        return static_cast<Scalar>(widen(row[k * step]));
      };
      const int first = run.stagger(t, joints % 2 == 0 && !channels_last);
      frame_sums.at(chunk.channel_begin + c, t) += sum_from<Scalar>(first, run.count, element);
    } else {
      const int j = i - rows;
      const int quotient =
          channels_last ? call.by_channels.quotient(j) : call.by_joints.quotient(j);
      const int c = channels_last ? j - quotient * channels : quotient;
      const int v = channels_last ? quotient : j - quotient * joints;
      if (kMasked && !valid.joint(v)) continue;
      const Run run = Run::of_joint(call, span, v, joints);
      const Element* column = at(c, run.first, v);
      joint_sums.at(chunk.channel_begin + c, v) += sum_of<Scalar>(run.count, [&](int k) {
        if (kMasked && !valid.frame(run.first + k)) return Scalar{0};
        return static_cast<Scalar>(widen(column[k * joints * step]));
      });
    }
  }
}
template <class Element, class Scalar>
CSTA_DEVICE void pool(const CallParams& call, const Chunk& chunk, const Element* x,
                      const Valid& valid, const Table<Scalar>& frame_sums,
                      const Table<Scalar>& joint_sums) {
  if (valid.all()) {
    pool<false>(call, chunk, x, valid, frame_sums, joint_sums);
  } else {
    pool<true>(call, chunk, x, valid, frame_sums, joint_sums);
  }
}

// Attention of the slice's groups, as the passes read it.
template <class Scalar>
struct Coupling {
  Table<Scalar> frames;         // attention
  Table<Scalar> scaled_joints;  // scale * attention
};

}  // namespace csta::cuda
