// Steps 2 and 3 of a sample: heads and gates, forward and backward, between the two passes over x.
// Nothing here depends on the dtype or layout of x, so that all of them share one machine code.
#pragma once

#include "weight_sums.h"

namespace csta::CSTA_ISA {

template <class Scalar>
Sizes sizes_of(const Problem& problem, const LogitSource& source, bool means) {
  Sizes sizes{};
  sizes.channels = problem.channels;
  sizes.frames = problem.frames;
  sizes.joints = problem.joints;
  sizes.groups = problem.groups;
  sizes.frame_hidden = source.frame_head == nullptr ? 0 : source.frame_head->hidden;
  sizes.joint_hidden = source.joint_head == nullptr ? 0 : source.joint_head->hidden;
  sizes.frame_stride = round_up(problem.frames, kRowAlign<Scalar>);
  sizes.joint_stride = round_up(problem.joints, kRowAlign<Scalar>);
  sizes.means = means;
  return sizes;
}

inline bool is_empty(const Problem& problem) {
  return problem.samples == 0 || problem.frames == 0 || problem.joints == 0;
}

// Weights of both heads in the compute dtype, for the duration of a call.
template <class Scalar>
class PackedHeads {
 public:
  PackedHeads(const Problem& problem, const LogitSource& source)
      : scratch_(bytes(problem, source)),
        arena_(scratch_.memory()),
        frames(arena_, source.frame_head, problem.channels, problem.groups),
        joints(arena_, source.joint_head, problem.channels, problem.groups) {
    if (source.frame_head == nullptr) return;
    frames.fill(*source.frame_head, problem.channels, problem.groups);
    joints.fill(*source.joint_head, problem.channels, problem.groups);
  }

 private:
  static int64_t bytes(const Problem& problem, const LogitSource& source) {
    Arena arena;
    PackedHead<Scalar>(arena, source.frame_head, problem.channels, problem.groups);
    PackedHead<Scalar>(arena, source.joint_head, problem.channels, problem.groups);
    return arena.used();
  }

  Scratch scratch_;
  Arena arena_;

 public:
  PackedHead<Scalar> frames, joints;
};

template <class Scalar>
class AttentionForward {
 public:
  AttentionForward(const Problem& problem, const LogitSource& source, AttentionOut attention)
      : problem_(problem),
        source_(source),
        has_heads_(source.frame_head != nullptr),
        sizes_(sizes_of<Scalar>(problem, source, has_heads_)),
        heads_(problem, source),
        frame_attention_(static_cast<Scalar*>(attention.frames)),
        joint_attention_(static_cast<Scalar*>(attention.joints)) {}

  bool has_heads() const { return has_heads_; }
  const Sizes& sizes() const { return sizes_; }

  // Attention of both axes of sample n. Prefetches the next sample meanwhile.
  CSTA_NOINLINE void forward(Sample<Scalar>& sample, int64_t n, Prefetcher prefetcher) const {
    forward(sample.frames, n, true, prefetcher);
    forward(sample.joints, n, false, prefetcher);
    sample.scale_joints(problem_.groups);
  }

  // Attention of one axis of sample n.
  CSTA_NOINLINE void forward_axis(Sample<Scalar>& sample, int64_t n, bool of_frames) const {
    Prefetcher nothing;
    forward(of_frames ? sample.frames : sample.joints, n, of_frames, nothing);
    if (!of_frames) sample.scale_joints(problem_.groups);
  }

  CSTA_NOINLINE void clear() const {
    const int64_t rows = problem_.samples * problem_.groups;
    std::fill_n(frame_attention_, rows * problem_.frames, Scalar{0});
    std::fill_n(joint_attention_, rows * problem_.joints, Scalar{0});
  }

 private:
  void forward(AxisState<Scalar>& state, int64_t n, bool of_frames, Prefetcher& prefetcher) const {
    if (has_heads_) {
      state.evaluate_logits(of_frames ? heads_.frames : heads_.joints, sizes_, prefetcher);
    } else {
      state.load_logits(of_frames ? source_.frame_logits : source_.joint_logits, n,
                        problem_.groups);
    }
    state.apply_gates(problem_.gate, n, problem_.groups,
                      of_frames ? frame_attention_ : joint_attention_);
  }

  const Problem& problem_;
  const LogitSource& source_;
  bool has_heads_;
  Sizes sizes_;
  PackedHeads<Scalar> heads_;
  Scalar* frame_attention_;
  Scalar* joint_attention_;
};

template <class Scalar>
class AttentionBackward {
 public:
  // `through_y`: there is a gradient of y. `with_means`: compute the gradients of the means.
  AttentionBackward(const Problem& problem, const LogitSource& source, AttentionIn attention,
                    const LogitGradients& gradients, bool through_y, bool with_means)
      : problem_(problem),
        source_(source),
        has_heads_(source.frame_head != nullptr),
        through_y_(through_y),
        with_means_(with_means),
        sizes_(sizes_of<Scalar>(problem, source, has_heads_)),
        heads_(problem, source),
        sums_(sizes_, is_empty(problem) ? 0 : problem.samples),
        attention_(attention),
        gradients_(gradients) {}

  bool has_heads() const { return has_heads_; }
  const Sizes& sizes() const { return sizes_; }
  int64_t runs() const { return sums_.runs(); }
  int64_t samples_of_a_run() const { return sums_.samples_of_a_run(); }

  // Loads the attention that forward wrote for sample n.
  CSTA_NOINLINE void load_attention(Sample<Scalar>& sample, int64_t n) const {
    sample.frames.read_attention(static_cast<const Scalar*>(attention_.frames), n, problem_.groups);
    sample.joints.read_attention(static_cast<const Scalar*>(attention_.joints), n, problem_.groups);
    sample.scale_joints(problem_.groups);
  }

  // Gradients of the logits of sample n from those of the attention and, with heads, of the means
  // and weights. Prefetches the next sample meanwhile.
  CSTA_NOINLINE void backward(Sample<Scalar>& sample, int64_t n, Prefetcher prefetcher) const {
    backward(sample, n, true, prefetcher);
    backward(sample, n, false, prefetcher);
  }

  // The same for one axis.
  CSTA_NOINLINE void backward_axis(Sample<Scalar>& sample, int64_t n, bool of_frames) const {
    Prefetcher nothing;
    backward(sample, n, of_frames, nothing);
  }

  // Writes the weights' gradients, after the last sample.
  CSTA_NOINLINE void write_weights() {
    if (!has_heads_) return;
    sums_.write(*source_.frame_head, gradients_.frame_head, *source_.joint_head,
                gradients_.joint_head);
  }

  CSTA_NOINLINE void clear_logits() const {
    if (has_heads_) return;
    const int64_t rows = problem_.samples * problem_.groups;
    std::fill_n(static_cast<Scalar*>(gradients_.frame_logits), rows * problem_.frames, Scalar{0});
    std::fill_n(static_cast<Scalar*>(gradients_.joint_logits), rows * problem_.joints, Scalar{0});
  }

 private:
  void backward(Sample<Scalar>& sample, int64_t n, bool of_frames, Prefetcher& prefetcher) const {
    AxisState<Scalar>& state = of_frames ? sample.frames : sample.joints;
    const void* upstream = of_frames ? attention_.grad_frames : attention_.grad_joints;
    // No gradient reaches this axis: exactly 0, even where the forward has NaN.
    const bool nothing = !through_y_ && upstream == nullptr;
    if (!nothing) {
      state.gates_backward(problem_.gate, static_cast<const Scalar*>(upstream), n, problem_.groups);
    } else if (has_heads_) {
      return state.clear_grad_means(sizes_);
    }
    if (!has_heads_) {
      state.store_grad_logits(n, problem_.groups,
                              of_frames ? gradients_.frame_logits : gradients_.joint_logits);
      return;
    }
    const int64_t run = n / sums_.samples_of_a_run();
    const Axis& other = of_frames ? sample.joints.axis : sample.frames.axis;
    state.head_backward(of_frames ? heads_.frames : heads_.joints, sizes_, other.valid_count,
                        of_frames ? sums_.frames(run) : sums_.joints(run), with_means_, prefetcher);
  }

  const Problem& problem_;
  const LogitSource& source_;
  bool has_heads_;
  bool through_y_;
  bool with_means_;
  Sizes sizes_;
  PackedHeads<Scalar> heads_;
  RunSums<Scalar> sums_;
  AttentionIn attention_;
  const LogitGradients& gradients_;
};

}  // namespace csta::CSTA_ISA
