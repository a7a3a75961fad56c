// Passes over frames of one sample in channels-last memory (T, V, C) where the channels of every
// group are whole vectors: no vector spans two positions.
#pragma once

#include "../simd/vector_math.h"
#include "contiguous_flat.h"

namespace csta::CSTA_ISA {

constexpr int kFramesAtOnce = 2;
constexpr int kVectorsAtOnce = 4;
// Joints per block of a compensated sum.
constexpr int64_t kBlockJoints = 64;

// Pools kRows frames for kVectors vectors of channels from `channel` on: means over joints into
// means[r], sums over frames into columns [V, C]. `joints` lists the valid joints.
template <int kRows, int kVectors, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE void pool_channels(const Element* const* frames, int64_t channels, int64_t channel,
                               const int64_t* joints, int64_t joint_count, Scalar inverse_count,
                               Scalar* columns, Scalar* const* means) {
  constexpr int lanes = kLanes<Scalar>;
  Vector<Scalar> sums[kRows][kVectors] = {}, lost[kRows][kVectors] = {};
  for (int64_t block = 0; block < joint_count; block += kBlockJoints) {
    Vector<Scalar> partial[kRows][kVectors] = {};
    for (int64_t i = block; i < min(joint_count, block + kBlockJoints); ++i) {
      const int64_t at = joints[i] * channels + channel;
      CSTA_UNROLL
      for (int k = 0; k < kVectors; ++k) {
        Vector<Scalar> total = load(columns + at + k * lanes);
        CSTA_UNROLL
        for (int row = 0; row < kRows; ++row) {
          const Vector<Scalar> value = load(frames[row] + at + k * lanes);
          partial[row][k] += value;
          total += value;
        }
        store(columns + at + k * lanes, total);
      }
    }
    for (int row = 0; row < kRows; ++row) {
      for (int k = 0; k < kVectors; ++k) {
        add_partial<Scalar>(block == 0, partial[row][k], sums[row][k], lost[row][k]);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < kVectors; ++k) {
      store(means[row] + channel + k * lanes, sums[row][k] * inverse_count);
    }
  }
}

template <int kRows, class Element, class Scalar = Arithmetic<Element>>
void pool_frames(const Element* const* frames, int64_t channels, const int64_t* joints,
                 int64_t joint_count, Scalar inverse_count, Scalar* columns, Scalar* const* means) {
  constexpr int lanes = kLanes<Scalar>;
  int64_t c = 0;
  for (; c + kVectorsAtOnce * lanes <= channels; c += kVectorsAtOnce * lanes) {
    pool_channels<kRows, kVectorsAtOnce>(frames, channels, c, joints, joint_count, inverse_count,
                                         columns, means);
  }
  for (; c < channels; c += lanes) {
    pool_channels<kRows, 1>(frames, channels, c, joints, joint_count, inverse_count, columns,
                            means);
  }
}

// correlation[v] = sum of x * grad_y over the channels of one group, for every joint of a frame.
// May overrun V by a vector.
template <class Element, class Scalar = Arithmetic<Element>>
void correlate_frame(const Element* x, const Element* grad_y, int64_t channels, int64_t width,
                     int64_t joints, Scalar* correlation) {
  constexpr int lanes = kLanes<Scalar>;
  for (int64_t v = 0; v < joints; v += lanes) {
    store(correlation + v, sum_each<Scalar>([&](int i) CSTA_LAMBDA_INLINE {
            Vector<Scalar> sum{};
            if (v + i >= joints) return sum;
            const int64_t at = (v + i) * channels;
            for (int64_t c = 0; c < width; c += lanes)
              sum += load(x + at + c) * load(grad_y + at + c);
            return sum;
          }));
  }
}

// Gain and mean gradients of one frame.
template <class Scalar>
struct FrameGain {
  const Scalar* attention;      // [G], attention_stride apart
  const Scalar* scaled_joints;  // [G][joint_stride]
  int64_t attention_stride, joint_stride, groups;
  const Scalar* frame_gradients;  // gradients through the means: [C] of the frame
  const Scalar* joint_gradients;  // and [V, C]
};

// One valid position: out = in * gain if kWithGain, + gradients through the means if kWithMeans.
template <bool kNontemporal, bool kWithGain, bool kWithMeans, class Element,
          class Scalar = Arithmetic<Element>>
CSTA_INLINE void reweight_position(const Element* in, const FrameGain<Scalar>& gain,
                                   Scalar residual, int64_t channels, int64_t joint, Element* out) {
  constexpr int lanes = kLanes<Scalar>;
  const int64_t width = channels / gain.groups;
  const Scalar* joint_gradients = kWithMeans ? gain.joint_gradients + joint * channels : nullptr;
  for (int64_t group = 0, c = 0; group < gain.groups; ++group) {
    Vector<Scalar> factor{};
    if (kWithGain) {
      factor = splat(gain.attention[group * gain.attention_stride] *
                         gain.scaled_joints[group * gain.joint_stride + joint] +
                     residual);
    }
    for (const int64_t end = c + width; c < end; c += lanes) {
      Vector<Scalar> value{};
      if (kWithGain) value = load(in + c) * factor;
      if (kWithMeans) value += load(joint_gradients + c) + load(gain.frame_gradients + c);
      store_vector<kNontemporal>(out + c, value);
    }
  }
}

// Transposes a kLanes × kLanes tile in place.
template <class Scalar, int kHalf = kLanes<Scalar> / 2>
CSTA_INLINE void transpose_tile(Vector<Scalar>* tile) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes<Scalar>>{};
  CSTA_UNROLL
  for (int i = 0; i < kLanes<Scalar>; ++i) {
    if ((i & kHalf) != 0) continue;
    const Vector<Scalar> a = tile[i], b = tile[i + kHalf];
    tile[i] = halves_of<kHalf, 0>(a, b, lanes);
    tile[i + kHalf] = halves_of<kHalf, 1>(a, b, lanes);
  }
  if constexpr (kHalf > 1) transpose_tile<Scalar, kHalf / 2>(tile);
}

// Transposes [rows][columns] to [columns][padded_rows], zero-padded. columns and padded_rows are
// whole vectors.
template <class Scalar>
void transpose(const Scalar* from, int64_t rows, int64_t padded_rows, int64_t columns, Scalar* to) {
  constexpr int lanes = kLanes<Scalar>;
  for (int64_t row = 0; row < padded_rows; row += lanes) {
    for (int64_t column = 0; column < columns; column += lanes) {
      Vector<Scalar> tile[lanes];
      CSTA_UNROLL
      for (int i = 0; i < lanes; ++i) {
        tile[i] = row + i < rows ? load(from + (row + i) * columns + column) : Vector<Scalar>{};
      }
      transpose_tile<Scalar>(tile);
      CSTA_UNROLL
      for (int i = 0; i < lanes; ++i) store(to + (column + i) * padded_rows + row, tile[i]);
    }
  }
}

}  // namespace csta::CSTA_ISA
