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

// The joints that a chunk has of frame t, and the frames that it has of joint v.
struct Run {
  int first, count;

  static CSTA_DEVICE Run of_frame(const Span& span, int t, int joints) {
    const int first = larger(span.begin - t * joints, 0);
    return {first, smaller(span.end - t * joints, joints) - first};
  }
  static CSTA_DEVICE Run of_joint(const Call& call, const Span& span, int v, int joints) {
    const int first = span.frame_begin + (span.frame_begin * joints + v < span.begin ? 1 : 0);
    const int left = span.end - 1 - (first * joints + v);
    return {first, left < 0 ? 0 : call.by_joints.quotient(left) + 1};
  }
  // Where a frame's sum begins. Frames with an even number of joints each begin at another one:
  // elements of neighbouring frames would lie in the same bank.
  CSTA_DEVICE int stagger(int t, bool staggered) const { return staggered ? t % count : 0; }
};

// Adds a chunk's part of the sums over joints and over frames. For all threads.
template <bool kMasked, class Element, class Scalar>
CSTA_DEVICE void pool(const Call& call, const Chunk& chunk, const Element* x, const Real& real,
                      const Table<Scalar>& frame_sums, const Table<Scalar>& joint_sums) {
  const int joints = call.axes[kJoints].length, channels = chunk.channels();
  const Span span(call, chunk, real);
  const int frames = span.frame_end - span.frame_begin;
  if (frames <= 0) return;
  const bool last = call.channels_last;
  const int rows = channels * frames, columns = channels * joints;
  const int step = last ? chunk.position_stride : 1;
  const auto at = [&](int c, int t, int v) {
    return x + c * chunk.channel_stride + (t * joints + v - chunk.position_begin) * step;
  };
  for (int i = thread(); i < rows + columns; i += threads()) {
    if (i < rows) {
      const int quotient = last ? call.by_channels.quotient(i) : i / frames;
      const int c = last ? i - quotient * channels : quotient;
      const int t = span.frame_begin + (last ? quotient : i - quotient * frames);
      if (kMasked && !real.frame(t)) continue;
      const Run run = Run::of_frame(span, t, joints);
      const Element* row = at(c, t, run.first);
      const auto element = [&](int k) {
        if (kMasked && !real.joint(run.first + k)) return Scalar{0};
        return static_cast<Scalar>(widen(row[k * step]));
      };
      const int first = run.stagger(t, joints % 2 == 0 && !last);
      frame_sums.at(chunk.channel_begin + c, t) += sum_from<Scalar>(first, run.count, element);
    } else {
      const int j = i - rows;
      const int quotient = last ? call.by_channels.quotient(j) : call.by_joints.quotient(j);
      const int c = last ? j - quotient * channels : quotient;
      const int v = last ? quotient : j - quotient * joints;
      if (kMasked && !real.joint(v)) continue;
      const Run run = Run::of_joint(call, span, v, joints);
      const Element* column = at(c, run.first, v);
      joint_sums.at(chunk.channel_begin + c, v) += sum_of<Scalar>(run.count, [&](int k) {
        if (kMasked && !real.frame(run.first + k)) return Scalar{0};
        return static_cast<Scalar>(widen(column[k * joints * step]));
      });
    }
  }
}
template <class Element, class Scalar>
CSTA_DEVICE void pool(const Call& call, const Chunk& chunk, const Element* x, const Real& real,
                      const Table<Scalar>& frame_sums, const Table<Scalar>& joint_sums) {
  if (real.everything()) {
    pool<false>(call, chunk, x, real, frame_sums, joint_sums);
  } else {
    pool<true>(call, chunk, x, real, frame_sums, joint_sums);
  }
}

// What the passes know of a sample's attention; tables by the slice's own groups.
template <class Scalar>
struct Coupling {
  Table<Scalar> frames;         // attention
  Table<Scalar> scaled_joints;  // kappa times the attention
};

// Sums of u x over the channels of a chunk, of one group and all real, at its first positions:
// packs of positions at a time. False, and nothing done, where x and u do not lie alike.
template <class Element, class Scalar>
CSTA_DEVICE bool multiply_packs(const Chunk& chunk, const Element* x, const Element* u,
                                int positions, Scalar* products) {
  constexpr int kCount = Pack<Element>::kCount;
  const int channels = chunk.channels(), stride = chunk.channel_stride;
  const int head = smaller(Pack<Element>::before(x), positions);
  if (Pack<Element>::before(x) != Pack<Element>::before(u)) return false;
  if (channels > 1 && stride % kCount != 0) return false;
  const int packs = (positions - head) / kCount, rest = positions - packs * kCount;
  for (int i = thread(); i < packs; i += threads()) {
    const int p = head + i * kCount;
    const Element *from_x = x + p, *from_u = u + p;
    Scalar sums[kCount] = {};
    for (int left = channels; left > 0; left -= 8) {
      Scalar parts[kCount] = {};
#pragma unroll 1
      for (int c = 0; c < smaller(left, 8); ++c) {
        const Pack<Element> a = Pack<Element>::at(from_x), b = Pack<Element>::at(from_u);
#pragma unroll
        for (int k = 0; k < kCount; ++k) {
          parts[k] +=
              static_cast<Scalar>(widen(a.elements[k])) * static_cast<Scalar>(widen(b.elements[k]));
        }
        from_x += stride;
        from_u += stride;
      }
#pragma unroll
      for (int k = 0; k < kCount; ++k) sums[k] += parts[k];
    }
#pragma unroll
    for (int k = 0; k < kCount; ++k) products[p + k] = sums[k];
  }
  for (int i = thread(); i < rest; i += threads()) {
    const int p = i < head ? i : i + packs * kCount;
    products[p] = sum_of<Scalar>(channels, [&](int c) {
      return static_cast<Scalar>(widen(x[p + c * stride])) *
             static_cast<Scalar>(widen(u[p + c * stride]));
    });
  }
  return true;
}

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
  const bool last = call.channels_last, everything = real.everything();
  const int first_group = call.by_width.quotient(chunk.channel_begin);
  const int last_group = call.by_width.quotient(chunk.channel_end - 1);
  const int at_once = larger(1, call.plan.products / positions);
  for (int first = first_group; first <= last_group; first += at_once) {
    const int groups = smaller(at_once, last_group + 1 - first);
    const bool packed = everything && !last && first_group == last_group &&
                        multiply_packs(chunk, x, u, positions, products);
    for (int i = thread(); !packed && i < groups * positions; i += threads()) {
      const int g = groups == 1 ? 0 : i / positions, p = i - g * positions;
      const int begin = larger((first + g) * width, chunk.channel_begin);
      const int count = smaller((first + g + 1) * width, chunk.channel_end) - begin;
      const int t = call.by_joints.quotient(span.begin + p);
      Scalar sum = 0;
      if (everything || (real.frame(t) && real.joint(span.begin + p - t * joints))) {
        const int stride = last ? 1 : chunk.channel_stride;
        const int at =
            p * chunk.position_stride + (begin - chunk.channel_begin) * chunk.channel_stride;
        // In channels-last memory neighbours start in banks of their own.
        sum = sum_from<Scalar>(last ? p % count : 0, count, [&](int c) {
          return static_cast<Scalar>(widen(x[at + c * stride])) *
                 static_cast<Scalar>(widen(u[at + c * stride]));
        });
      }
      products[i] = sum;
    }
    block_barrier();
    const int rows = groups * frames;
    for (int i = thread(); i < rows + groups * joints; i += threads()) {
      if (i < rows) {
        const int g = i / frames, t = span.frame_begin + i % frames;
        const Run run = Run::of_frame(span, t, joints);
        const Scalar* row = products + g * positions + t * joints + run.first - span.begin;
        const Scalar* scaled = &coupling.scaled_joints.at(first + g, run.first);
        frame_gradients.at(first + g, t) += sum_from<Scalar>(
            run.stagger(t, joints % 2 == 0), run.count, [&](int k) { return row[k] * scaled[k]; });
      } else {
        const int g = (i - rows) / joints, v = (i - rows) % joints;
        const Run run = Run::of_joint(call, span, v, joints);
        const Scalar* column = products + g * positions + run.first * joints + v - span.begin;
        const Scalar* attention = &coupling.frames.at(first + g, run.first);
        joint_gradients.at(first + g, v) += kappa * sum_of<Scalar>(run.count, [&](int k) {
                                              return column[k * joints] * attention[k];
                                            });
      }
    }
    block_barrier();
  }
}

}  // namespace csta::cuda
