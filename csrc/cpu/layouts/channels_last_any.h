// Passes over rows of one sample in channels-last memory (T, V, C), for any number of channels. A
// row of V * C elements is one flat run. Values per channel repeat along it with period C; `period`
// is the first multiple of C that is whole vectors, so that a vector's offset in the period
// determines its channels.
#pragma once

#include "../gates.h"
#include "../simd/line_writer.h"
#include "../simd/vector_math.h"

namespace csta::CSTA_ISA {

// Rows per block: sums over frames in blocks bound the rounding error.
constexpr int64_t kChannelsLastBlockRows = 16;

template <class Element>
struct ChannelsLastRows {
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;

  int64_t channels;
  int64_t joints;
  int64_t row;                      // joints * channels
  int64_t period;                   // scalars
  const Mask<Scalar>* valid_lanes;  // [row], null if every joint is valid
  Mask<Scalar> last_lanes;          // lanes of the last vector of a row
  const Element* limit;             // end of the tensor being read

  // Calls function(i, k, count) for each vector of a row: its offset i in the row and k in the
  // period, and its number of elements.
  template <class Function>
  CSTA_INLINE void for_each_vector(const Function& function) const {
    int64_t i = 0, k = 0;
    for (; i + lanes <= row; i += lanes) {
      function(i, k, int64_t{lanes});
      k += lanes;
      if (k == period) k = 0;
    }
    if (i < row) function(i, k, row - i);
  }
  // Whether a whole vector may be loaded: the lanes beyond the row's end are inside the tensor.
  CSTA_INLINE bool may_overrun(const Element* at) const { return at + lanes <= limit; }
  CSTA_INLINE Vector<Scalar> load_vector(const Element* at, int64_t count, bool overrun) const {
    return count == lanes || overrun ? load(at) : load_some(at, count);
  }
  CSTA_INLINE Vector<Scalar> zero_invalid(Vector<Scalar> value, int64_t i, int64_t count) const {
    if (valid_lanes != nullptr) return zero_unless<Scalar>(valid_lanes[i / lanes], value);
    return count == lanes ? value : zero_unless<Scalar>(last_lanes, value);
  }

  // Sum over the period of one channel's partial sums.
  CSTA_INLINE Scalar of_channel(const Scalar* phases, int64_t channel) const {
    Scalar sum = phases[channel];
    for (int64_t k = channel + channels; k < period; k += channels) sum += phases[k];
    return sum;
  }
  // Broadcasts values[channel * stride] along the period.
  CSTA_INLINE void repeat(const Scalar* values, int64_t stride, Scalar* phases) const {
    for (int64_t channel = 0; channel < channels; ++channel) {
      phases[channel] = values[channel * stride];
    }
    for (int64_t k = channels; k < period; ++k) phases[k] = phases[k - channels];
  }
  // Expands values [groups][stride] to a row, zero-padded to whole vectors: out[v * C + c] =
  // values[group of c][v].
  void expand(const Scalar* values, int64_t stride, int64_t groups, Scalar* out) const {
    const int64_t width = groups > 0 ? channels / groups : 0;
    for (int64_t joint = 0; joint < joints; ++joint) {
      for (int64_t group = 0; group < groups; ++group) {
        const Scalar value = values[group * stride + joint];
        for (int64_t i = 0; i < width; ++i) *out++ = value;
      }
    }
    for (int64_t i = row; i % lanes != 0; ++i) *out++ = 0;
  }
};

// Pools one row: adds it to the sums over frames `columns` [row] and writes its sums over joints,
// by phase of the period.
template <class Element, class Scalar = Arithmetic<Element>>
void pool_row(const ChannelsLastRows<Element>& rows, const Element* x, Scalar* columns,
              Scalar* phases) {
  for (int64_t k = 0; k < rows.period; k += rows.lanes) store(phases + k, Vector<Scalar>{});
  rows.for_each_vector([&](int64_t i, int64_t k, int64_t count) CSTA_LAMBDA_INLINE {
    const bool overrun = rows.may_overrun(x + i);
    const Vector<Scalar> value =
        rows.zero_invalid(rows.load_vector(x + i, count, overrun), i, count);
    store(columns + i, load(columns + i) + value);
    store(phases + k, load(phases + k) + value);
  });
}

// Correlates one row: adds to the joints' gradients `columns` [row], by channel and unscaled, and
// writes the frame's gradient, by phase of the period.
template <class Element, class Scalar = Arithmetic<Element>>
void correlate_row(const ChannelsLastRows<Element>& rows, const Element* x, const Element* grad_y,
                   const Scalar* frame_phases, const Scalar* scaled_joints, Scalar* columns,
                   Scalar* phases) {
  for (int64_t k = 0; k < rows.period; k += rows.lanes) store(phases + k, Vector<Scalar>{});
  rows.for_each_vector([&](int64_t i, int64_t k, int64_t count) CSTA_LAMBDA_INLINE {
    const bool overrun = rows.may_overrun(x + i);
    const Vector<Scalar> product = rows.zero_invalid(
        rows.load_vector(x + i, count, overrun) * rows.load_vector(grad_y + i, count, overrun), i,
        count);
    store(columns + i, load(columns + i) + product * load(frame_phases + k));
    store(phases + k, load(phases + k) + product * load(scaled_joints + i));
  });
}

// One row of out = in * (residual + frame_phases * scaled_joints) if kWithGain, + gradients through
// the means if kWithMeans. The frame is valid; joints may be masked. `out` may be overrun by a
// vector.
template <bool kWithGain, bool kWithMeans, class Element, class Scalar = Arithmetic<Element>>
void reweight_row(const ChannelsLastRows<Element>& rows, const Element* in,
                  const Scalar* frame_phases, const Scalar* scaled_joints,
                  const Scalar* mean_phases, const Scalar* joint_means, bool residual,
                  Element* out) {
  const Scalar residual_gain = residual ? Scalar{1} : Scalar{0};
  rows.for_each_vector([&](int64_t i, int64_t k, int64_t count) CSTA_LAMBDA_INLINE {
    Vector<Scalar> value{}, result{};
    if (kWithGain) {
      value = rows.load_vector(in + i, count, rows.may_overrun(in + i));
      result = value * (load(frame_phases + k) * load(scaled_joints + i) + residual_gain);
    }
    if (kWithMeans) result += load(joint_means + i) + load(mean_phases + k);
    if (rows.valid_lanes != nullptr) {
      const Vector<Scalar> untouched = residual ? value : Vector<Scalar>{};
      result = select<Scalar>(rows.valid_lanes[i / rows.lanes], result, untouched);
    }
    store(out + i, result);
  });
}

}  // namespace csta::CSTA_ISA
