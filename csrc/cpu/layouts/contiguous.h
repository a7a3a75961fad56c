// Passes over planes of one sample in contiguous memory (C, T, V): planes of T rows of V joints.
//
// V is rarely a multiple of the vector width. Loads overrun a row into the next one, and the
// surplus lanes are masked; stores overrun into a buffer, where the next row overwrites them. A
// load is partial only where it would pass the end of the tensor. kVectors is the number of vectors
// in a row, or 0 if known at run time only.
#pragma once

#include <type_traits>

#include "../gates.h"
#include "../simd/line_writer.h"

namespace csta::CSTA_ISA {

// Rows per block: sums over frames in blocks bound the rounding error.
constexpr int64_t kBlockRows = 64;
constexpr int64_t kCorrelatedChannels = 4;

// Shape of a row of a plane.
template <class Scalar>
struct RowShape {
  int64_t joints;
  int64_t vectors;                  // of a row
  const Mask<Scalar>* valid_lanes;  // [vectors]: valid joints; false beyond V
  bool joints_masked;

  static constexpr int lanes = kLanes<Scalar>;
};

template <class Element>
struct ContiguousRows : RowShape<Arithmetic<Element>> {
  using Scalar = Arithmetic<Element>;
  using Shape = RowShape<Scalar>;
  using Shape::joints, Shape::vectors, Shape::lanes;

  const Element* limit;  // end of the tensor being read

  bool may_overrun(const Element* row, int64_t rows) const {
    return row + (rows - 1) * joints + vectors * lanes <= limit;
  }
  CSTA_INLINE Vector<Scalar> load_vector(const Element* row, int64_t k, bool whole) const {
    return whole || k + 1 < vectors ? load(row + k * lanes)
                                    : load_some(row + k * lanes, joints - k * lanes);
  }
};

// Calls function with the number of vectors as a constant for common skeletons in float32: up to 20
// joints (MSR-Action3D, NW-UCLA, COCO) or up to 25 (Kinect v2, NTU). Else with 0.
template <class Scalar, class Function>
CSTA_INLINE void with_vectors(const RowShape<Scalar>& rows, const Function& function) {
  constexpr int few = ceil_div(20, rows.lanes);
  constexpr int many = ceil_div(25, rows.lanes);
  if constexpr (sizeof(Scalar) == 4) {
    if (!rows.joints_masked && rows.vectors == many) {
      return function(std::integral_constant<int, many>{});
    }
    if (!rows.joints_masked && rows.vectors == few) {
      return function(std::integral_constant<int, few>{});
    }
  }
  return function(std::integral_constant<int, 0>{});
}

// correlation[f] (+)= sum over kChannels planes of x[f] * grad_y[f], for f in [begin, end) of the
// plane; begin is a multiple of the vector width.
template <int kChannels, class Element, class Scalar = Arithmetic<Element>>
void correlate_planes(const Element* x, const Element* grad_y, int64_t plane, int64_t begin,
                      int64_t end, Scalar* correlation, bool overwrite) {
  constexpr int lanes = kLanes<Scalar>;
  int64_t f = begin;
  for (; f + lanes <= end; f += lanes) {
    Vector<Scalar> sum = load(x + f) * load(grad_y + f);
    CSTA_UNROLL
    for (int i = 1; i < kChannels; ++i)
      sum += load(x + i * plane + f) * load(grad_y + i * plane + f);
    store(correlation + f, overwrite ? sum : load(correlation + f) + sum);
  }
  if (f == end) return;
  const int64_t some = end - f;
  Vector<Scalar> sum = load_some(x + f, some) * load_some(grad_y + f, some);
  for (int i = 1; i < kChannels; ++i) {
    sum += load_some(x + i * plane + f, some) * load_some(grad_y + i * plane + f, some);
  }
  store(correlation + f, overwrite ? sum : load(correlation + f) + sum);
}

template <class Element, class Scalar = Arithmetic<Element>>
void correlate_planes(const Element* x, const Element* grad_y, int64_t plane, int64_t channels,
                      int64_t begin, int64_t end, Scalar* correlation, bool overwrite) {
  switch (channels) {
    case 1: return correlate_planes<1>(x, grad_y, plane, begin, end, correlation, overwrite);
    case 2: return correlate_planes<2>(x, grad_y, plane, begin, end, correlation, overwrite);
    case 3: return correlate_planes<3>(x, grad_y, plane, begin, end, correlation, overwrite);
    default: return correlate_planes<4>(x, grad_y, plane, begin, end, correlation, overwrite);
  }
}

// grad_frames[t] = sum_v correlation[t, v] scaled_joints[v] and grad_joints[v] = scale sum_t
// correlation[t, v] attention_frames[t], over valid positions.
template <int kVectors, class Scalar>
void contract_plane(const RowShape<Scalar>& rows, const Axis& frames, const Scalar* correlation,
                    const Scalar* attention_frames, const Scalar* scaled_joints, Scalar scale,
                    Vector<Scalar>* columns, Scalar* grad_frames, Scalar* grad_joints) {
  constexpr int lanes = kLanes<Scalar>;
  const int64_t vectors = kVectors > 0 ? kVectors : rows.vectors;
  auto* lost = reinterpret_cast<Scalar*>(columns + vectors);
  for (int64_t k = 0; k < vectors; ++k) {
    store(grad_joints + k * lanes, Vector<Scalar>{});
    store(lost + k * lanes, Vector<Scalar>{});
  }
  for (int64_t block = 0; block < frames.end; block += kBlockRows) {
    for (int64_t k = 0; k < vectors; ++k) columns[k] = Vector<Scalar>{};
    const int64_t block_end = min(frames.end, block + kBlockRows);
    for (int64_t t = block; t < block_end; t += lanes) {
      const Vector<Scalar> sums = sum_each<Scalar>([&](int i) {
        Vector<Scalar> sum{};
        if (t + i >= block_end || !frames.is_valid(t + i)) return sum;
        const Scalar* row = correlation + (t + i) * rows.joints;
        const Scalar frame = attention_frames[t + i];
        for_count<kVectors>(vectors, [&](int64_t k) CSTA_LAMBDA_INLINE {
          const Vector<Scalar> value =
              zero_unless<Scalar>(rows.valid_lanes[k], load(row + k * lanes));
          columns[k] += value * frame;
          sum += value * load(scaled_joints + k * lanes);
        });
        return sum;
      });
      store(grad_frames + t, sums);
    }
    for (int64_t k = 0; k < vectors; ++k) {
      add_compensated<Scalar>(columns[k] * scale, grad_joints + k * lanes, lost + k * lanes);
    }
  }
}

// gain[t, v] = residual + attention_frames[t] scaled_joints[v] for the first frames.end rows,
// followed by one cache line of the plane's start, so that a flat walk may read across the seam of
// two planes.
template <class Element, class Scalar = Arithmetic<Element>>
void build_gain(const ContiguousRows<Element>& rows, const Axis& frames,
                const Scalar* attention_frames, const Scalar* scaled_joints, Scalar residual,
                Scalar* gain) {
  constexpr int lanes = kLanes<Scalar>;
  for (int64_t t = 0; t < frames.end; ++t) {
    const Vector<Scalar> frame = splat(attention_frames[t]);
    for (int64_t k = 0; k < rows.vectors; ++k) {
      store(gain + t * rows.joints + k * lanes, frame * load(scaled_joints + k * lanes) + residual);
    }
  }
  // In order: in a plane of less than a line, the repeated elements repeat in turn.
  constexpr int64_t per_line = kCacheLine / static_cast<int64_t>(sizeof(Element));
  const int64_t plane = frames.end * rows.joints;
  for (int64_t i = 0; i < per_line && plane > 0; ++i) gain[plane + i] = gain[i];
}

// Gradients through the means of one channel.
template <class Scalar>
struct GradMeans {
  const Scalar* frames;  // [T], already divided by V_n
  const Scalar* joints;  // [V padded], already divided by T_n
};

// Rows [begin, end) of one plane: out = in * gain if kWithGain, + frames[t] + joints[v] if
// kWithMeans, at valid positions; residual * in elsewhere. `out` may be overrun by a vector.
template <bool kWithGain, bool kWithMeans, class Element, class Scalar = Arithmetic<Element>>
void reweight_rows(const ContiguousRows<Element>& rows, const Axis& frames, const Element* in,
                   const Scalar* gain, GradMeans<Scalar> means, bool residual, int64_t begin,
                   int64_t end, Element* out) {
  constexpr int lanes = kLanes<Scalar>;
  for (int64_t t = begin; t < end; ++t, out += rows.joints) {
    const Element* row = in + t * rows.joints;
    if (!frames.is_valid(t)) {
      if (residual) {
        std::memcpy(out, row, static_cast<size_t>(rows.joints) * sizeof(Element));
      } else {
        std::memset(out, 0, static_cast<size_t>(rows.joints) * sizeof(Element));
      }
      continue;
    }
    const bool whole = kWithGain && rows.may_overrun(row, 1);
    const Scalar frame = kWithMeans ? means.frames[t] : Scalar{0};
    for (int64_t k = 0; k < rows.vectors; ++k) {
      Vector<Scalar> value{}, result{};
      if (kWithGain) {
        value = rows.load_vector(row, k, whole);
        result = value * load(gain + t * rows.joints + k * lanes);
      }
      if (kWithMeans) result += load(means.joints + k * lanes) + frame;
      const Vector<Scalar> untouched = residual ? value : Vector<Scalar>{};
      result = select<Scalar>(rows.valid_lanes[k], result, untouched);
      store(out + k * lanes, result);
    }
  }
}

}  // namespace csta::CSTA_ISA
