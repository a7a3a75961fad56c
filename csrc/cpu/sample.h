// State of one sample between the passes over x: valid positions, means, logits, attention and
// their gradients. Heads (step 2) and gates (step 3) use nothing else.
#pragma once

#include <algorithm>

#include "few_channels_head.h"
#include "gates.h"
#include "kernels.h"
#include "scratch.h"

namespace csta::CSTA_ISA {

// Bytes per step of the pipeline: one step written and one read fit in the L2 cache, and the start-
// up cost of a step, when memory is idle, is negligible.
constexpr int64_t kStepBytes = 131072;

struct Sizes {
  int64_t channels, frames, joints, groups;
  int64_t frame_hidden, joint_hidden;  // 0 when logits are given
  int64_t frame_stride, joint_stride;  // row pitch, in scalars
  bool means;                          // whether x is pooled
};

// Converts `count` numbers from `offset` of a tensor of any floating dtype.
template <class Scalar>
void read(Weight from, int64_t offset, int64_t count, Scalar* to) {
  const auto copy = [&](const auto* source) {
    for (int64_t i = 0; i < count; ++i) {
      to[i] = static_cast<Scalar>(to_arithmetic(source[offset + i]));
    }
  };
  switch (from.dtype) {
    case Dtype::float32: return copy(static_cast<const float*>(from.data));
    case Dtype::float64: return copy(static_cast<const double*>(from.data));
    case Dtype::float16: return copy(static_cast<const Half*>(from.data));
    case Dtype::bfloat16: return copy(static_cast<const BFloat16*>(from.data));
  }
}

template <class Scalar>
void write(const Scalar* from, int64_t count, Dtype dtype, void* to) {
  const auto copy = [&](auto* target) {
    using Element = std::remove_reference_t<decltype(*target)>;
    for (int64_t i = 0; i < count; ++i) {
      target[i] = from_arithmetic<Element>(static_cast<Arithmetic<Element>>(from[i]));
    }
  };
  switch (dtype) {
    case Dtype::float32: return copy(static_cast<float*>(to));
    case Dtype::float64: return copy(static_cast<double*>(to));
    case Dtype::float16: return copy(static_cast<Half*>(to));
    case Dtype::bfloat16: return copy(static_cast<BFloat16*>(to));
  }
}

// Weights of one head in the compute dtype, each matrix also transposed.
template <class Scalar>
struct PackedHead {
  int64_t hidden = 0;
  Scalar *w1, *w1_transposed, *b1, *w2, *w2_transposed, *b2;

  PackedHead(Arena& arena, const Head* head, int64_t channels, int64_t groups) {
    if (head == nullptr) return;
    hidden = head->hidden;
    w1 = arena.take<Scalar>(hidden * channels);
    w1_transposed = arena.take<Scalar>(hidden * channels);
    b1 = arena.take<Scalar>(hidden);
    w2 = arena.take<Scalar>(hidden * groups);
    w2_transposed = arena.take<Scalar>(hidden * groups);
    b2 = arena.take<Scalar>(groups);
  }

  void fill(const Head& head, int64_t channels, int64_t groups) {
    read(head.w1, 0, hidden * channels, w1);
    read(head.b1, 0, hidden, b1);
    read(head.w2, 0, hidden * groups, w2);
    read(head.b2, 0, groups, b2);
    transpose(w1, hidden, channels, w1_transposed);
    transpose(w2, groups, hidden, w2_transposed);
  }

 private:
  static void transpose(const Scalar* from, int64_t rows, int64_t columns, Scalar* to) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        to[column * rows + row] = from[row * columns + column];
      }
    }
  }
};

// Sums of the gradients of one head's weights over a run of samples.
template <class Scalar>
struct WeightSums {
  Scalar *w1, *b1, *w2, *b2;

  WeightSums(Arena& arena, int64_t hidden, int64_t channels, int64_t groups)
      : w1(arena.take<Scalar>(hidden * channels)),
        b1(arena.take<Scalar>(hidden)),
        w2(arena.take<Scalar>(hidden * groups)),
        b2(arena.take<Scalar>(groups)) {}
};

// State of one axis of one sample. Rows have axis.stride scalars and are padded with zeros.
template <class Scalar>
struct AxisState {
  Axis axis;
  Scalar* means;       // [C]
  Scalar* grad_means;  // [C], divided by the number of valid positions of the other axis
  Scalar* hidden;      // [H]
  Scalar* grad_hidden;
  // [G] each, views of one buffer: forward computes the attention in place of the logits, backward
  // the logits' gradient in place of the attention's. Backward keeps `attention` apart.
  Scalar *logits, *attention, *grad_attention, *grad_logits;

  AxisState() = default;
  AxisState(Arena& arena, const Sizes& sizes, int64_t length, int64_t stride, int64_t hidden_width,
            bool backward)
      : axis{length, length, stride, length, nullptr} {
    const int64_t mean_rows = sizes.means ? sizes.channels : 0;
    means = arena.take<Scalar>(mean_rows * stride);
    hidden = arena.take<Scalar>(hidden_width * stride);
    logits = attention = grad_attention = grad_logits = arena.take<Scalar>(sizes.groups * stride);
    if (!backward) return;
    grad_means = arena.take<Scalar>(mean_rows * stride + 1);
    grad_hidden = arena.take<Scalar>(hidden_width * stride);
    attention = arena.take<Scalar>(sizes.groups * stride);
  }

  void evaluate_hidden(const PackedHead<Scalar>& head, int64_t channels, Prefetcher& prefetcher) {
    product<true>(head.w1_transposed, means, head.hidden, channels, head.b1, hidden, axis.stride,
                  prefetcher);
  }

  void evaluate_logits(const PackedHead<Scalar>& head, const Sizes& sizes, Prefetcher& prefetcher) {
    if (is_few(sizes)) {
      return with_channels<kMostHeadChannels>(sizes.channels, [&](auto channels) {
        few_channels_logits<channels.value>(head, means, axis.stride, logits, prefetcher);
      });
    }
    evaluate_hidden(head, sizes.channels, prefetcher);
    product<false>(head.w2_transposed, hidden, sizes.groups, head.hidden, head.b2, logits,
                   axis.stride, prefetcher);
  }

  void load_logits(Weight given, int64_t sample, int64_t groups) {
    for (int64_t group = 0; group < groups; ++group) {
      read(given, (sample * groups + group) * axis.length, axis.length,
           logits + group * axis.stride);
    }
  }

  // Gates: logits to attention, also written to out [N, G, length].
  void apply_gates(Gate gate, int64_t sample, int64_t groups, Scalar* out) {
    for (int64_t group = 0; group < groups; ++group) {
      Scalar* row = logits + group * axis.stride;
      apply_gate(gate, axis, row);
      std::memcpy(out + (sample * groups + group) * axis.length, row,
                  static_cast<size_t>(axis.length) * sizeof(Scalar));
    }
  }

  void read_attention(const Scalar* from, int64_t sample, int64_t groups) {
    for (int64_t group = 0; group < groups; ++group) {
      std::memcpy(attention + group * axis.stride, from + (sample * groups + group) * axis.length,
                  static_cast<size_t>(axis.length) * sizeof(Scalar));
      fill_invalid(axis, Scalar{0}, attention + group * axis.stride);
    }
  }

  // Gradient of the logits from that of the attention plus `upstream` (or null), in place.
  void gates_backward(Gate gate, const Scalar* upstream, int64_t sample, int64_t groups) {
    for (int64_t group = 0; group < groups; ++group) {
      Scalar* row = grad_attention + group * axis.stride;
      if (upstream != nullptr) {
        const Scalar* given = upstream + (sample * groups + group) * axis.length;
        for (int64_t i = 0; i < axis.length; ++i) row[i] += given[i];
      }
      gate_backward(gate, axis, attention + group * axis.stride, row);
    }
  }

  void clear_grad_means(const Sizes& sizes) {
    std::fill_n(grad_means, sizes.channels * axis.stride, Scalar{0});
  }

  void store_grad_logits(int64_t sample, int64_t groups, void* to) const {
    for (int64_t group = 0; group < groups; ++group) {
      std::memcpy(static_cast<Scalar*>(to) + (sample * groups + group) * axis.length,
                  grad_logits + group * axis.stride,
                  static_cast<size_t>(axis.length) * sizeof(Scalar));
    }
  }

  void head_backward(const PackedHead<Scalar>& head, const Sizes& sizes, int64_t other_count,
                     const WeightSums<Scalar>& sums, bool input_gradient, Prefetcher& prefetcher) {
    const int64_t stride = axis.stride;
    const Scalar inverse_count = Scalar{1} / static_cast<Scalar>(max(other_count, 1));
    add_row_sums(grad_logits, sizes.groups, stride, sums.b2);
    if (is_few(sizes)) {
      return with_channels<kMostHeadChannels>(sizes.channels, [&](auto channels) {
        few_channels_backward<channels.value>(head, means, grad_logits, stride, inverse_count, sums,
                                              grad_means, prefetcher);
      });
    }
    evaluate_hidden(head, sizes.channels, prefetcher);
    add_outer_product(grad_logits, hidden, sizes.groups, head.hidden, stride, sums.w2, prefetcher);
    product<false, Scalar>(head.w2, grad_logits, head.hidden, sizes.groups, nullptr, grad_hidden,
                           stride, prefetcher);
    relu_backward(grad_hidden, hidden, head.hidden * stride);
    add_row_sums(grad_hidden, head.hidden, stride, sums.b1);
    add_outer_product(grad_hidden, means, head.hidden, sizes.channels, stride, sums.w1, prefetcher);
    if (!input_gradient) return;
    for (int64_t i = 0; i < head.hidden * stride; i += kLanes<Scalar>) {
      store(grad_hidden + i, load(grad_hidden + i) * inverse_count);
    }
    product<false, Scalar>(head.w1, grad_hidden, sizes.channels, head.hidden, nullptr, grad_means,
                           stride, prefetcher);
  }

 private:
  static bool is_few(const Sizes& sizes) {
    return sizes.groups == 1 && sizes.channels > 0 && sizes.channels <= kMostHeadChannels;
  }
};

template <class Scalar>
struct Sample {
  AxisState<Scalar> frames, joints;
  Scalar* scaled_joints = nullptr;  // [G][joint stride]: scale times the joints' attention
  Scalar scale = 1;

  Sample() = default;
  CSTA_NOINLINE Sample(Arena& arena, const Sizes& sizes, bool backward)
      : frames(arena, sizes, sizes.frames, sizes.frame_stride, sizes.frame_hidden, backward),
        joints(arena, sizes, sizes.joints, sizes.joint_stride, sizes.joint_hidden, backward),
        scaled_joints(arena.take<Scalar>(sizes.groups * sizes.joint_stride)) {}

  // Sets the valid positions and the scale of sample n.
  CSTA_NOINLINE void find_valid(const Problem& problem, int64_t n) {
    const uint8_t* frame_mask =
        problem.frame_mask == nullptr ? nullptr : problem.frame_mask + n * problem.frames;
    const uint8_t* joint_mask = problem.joint_mask == nullptr
                                    ? nullptr
                                    : problem.joint_mask + n * problem.joint_mask_stride;
    const int64_t length = problem.lengths == nullptr ? problem.frames : problem.lengths[n];
    find_valid_axis(length, frame_mask, frames.axis);
    find_valid_axis(problem.joints, joint_mask, joints.axis);
    if (frames.axis.valid_count == 0 || joints.axis.valid_count == 0) {
      frames.axis.end = frames.axis.valid_count = joints.axis.end = joints.axis.valid_count = 0;
    }
    if (!problem.scale_by_mean) {
      scale = static_cast<Scalar>(problem.scale);
    } else if (problem.gate == Gate::softmax) {
      scale = static_cast<Scalar>(frames.axis.valid_count * joints.axis.valid_count);
    } else {
      scale = 1;
    }
  }

  // Gradients of the attention when C = 0: no pass writes them.
  void clear_grad_attention(int64_t groups) {
    for (AxisState<Scalar>* state : {&frames, &joints}) {
      std::fill_n(state->grad_attention, groups * state->axis.stride, Scalar{0});
    }
  }

  void scale_joints(int64_t groups) {
    for (int64_t i = 0; i < groups * joints.axis.stride; i += kLanes<Scalar>) {
      store(scaled_joints + i, load(joints.attention + i) * scale);
    }
  }

 private:
  static void find_valid_axis(int64_t length, const uint8_t* mask, Axis& axis) {
    axis.end = axis.valid_count = length;
    axis.valid = nullptr;
    if (mask == nullptr) return;
    axis.end = axis.valid_count = 0;
    for (int64_t i = 0; i < length; ++i) {
      if (mask[i] == 0) continue;
      axis.end = i + 1;
      ++axis.valid_count;
    }
    if (axis.valid_count < axis.end) axis.valid = mask;
  }
};

}  // namespace csta::CSTA_ISA
