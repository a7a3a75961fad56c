// Step 3: softmax or sigmoid over the valid positions of one row of logits, and its gradient. Rows
// are padded to whole vectors; invalid positions and padding become 0.
#pragma once

#include "kernels.h"
#include "simd/vector_math.h"

namespace csta::CSTA_ISA {

// Valid positions of one axis of one sample: those below `end` where `valid` is set (null: all of
// them).
struct Axis {
  int64_t length;       // T or V
  int64_t end;          // no position from here on is valid
  int64_t stride;       // row pitch, in scalars
  int64_t valid_count;  // T_n or V_n
  const uint8_t* valid;

  bool is_valid(int64_t position) const {
    return position < end && (valid == nullptr || valid[position] != 0);
  }
  bool is_prefix() const { return valid == nullptr; }
};

template <class Scalar>
void fill_invalid(const Axis& axis, Scalar value, Scalar* row) {
  for (int64_t i = axis.end; i < axis.stride; ++i) row[i] = value;
  if (axis.is_prefix()) return;
  for (int64_t i = 0; i < axis.end; ++i) {
    if (axis.valid[i] == 0) row[i] = value;
  }
}

template <class Scalar>
void softmax(const Axis& axis, Scalar* row) {
  constexpr int lanes = kLanes<Scalar>;
  fill_invalid(axis, -static_cast<Scalar>(INFINITY), row);
  Vector<Scalar> largest = load(row);
  for (int64_t i = lanes; i < axis.stride; i += lanes) {
    const Vector<Scalar> value = load(row + i);
    largest = select<Scalar>(value > largest, value, largest);
  }
  const Scalar top = largest_lane<Scalar>(largest);
  Vector<Scalar> sum{}, lost{};
  for (int64_t i = 0; i < axis.stride; i += lanes) {
    const Vector<Scalar> value = exponential(load(row + i) - top);
    store(row + i, value);
    add_compensated<Scalar>(value, sum, lost);
  }
  const Scalar total = sum_lanes<Scalar>(sum);
  for (int64_t i = 0; i < axis.stride; i += lanes) store(row + i, load(row + i) / total);
}

template <class Scalar>
void sigmoid(const Axis& axis, Scalar* row) {
  for (int64_t i = 0; i < axis.stride; i += kLanes<Scalar>) {
    const Vector<Scalar> value = load(row + i);
    const Mask<Scalar> negative = value < Vector<Scalar>{};
    const Vector<Scalar> e = exponential(select<Scalar>(negative, value, -value));
    store(row + i, select<Scalar>(negative, e, splat(Scalar{1})) / (e + Scalar{1}));
  }
}

template <class Scalar>
void apply_gate(Gate gate, const Axis& axis, Scalar* row) {
  if (axis.valid_count > 0) gate == Gate::softmax ? softmax(axis, row) : sigmoid(axis, row);
  fill_invalid(axis, Scalar{0}, row);
}

// Gradient of the logits from that of the attention, in place.
template <class Scalar>
void gate_backward(Gate gate, const Axis& axis, const Scalar* attention, Scalar* row) {
  constexpr int lanes = kLanes<Scalar>;
  fill_invalid(axis, Scalar{0}, row);
  Vector<Scalar> sum{}, lost{};
  if (gate == Gate::softmax) {
    for (int64_t i = 0; i < axis.stride; i += lanes) {
      add_compensated<Scalar>(load(attention + i) * load(row + i), sum, lost);
    }
  }
  const Scalar mean = sum_lanes<Scalar>(sum);
  for (int64_t i = 0; i < axis.stride; i += lanes) {
    const Vector<Scalar> a = load(attention + i), da = load(row + i);
    store(row + i, gate == Gate::softmax ? a * (da - mean) : a * (1 - a) * da);
  }
  fill_invalid(axis, Scalar{0}, row);
}

}  // namespace csta::CSTA_ISA
