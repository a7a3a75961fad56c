// Steps 2 and 3 of a call: from means or logits to attention, and back. Nothing here depends on the
// type of x or on how it lies in memory, and all that differ in those share one machine code.
#pragma once

#include "weight_sums.h"

namespace csta::CSTA_ISA {

template <class Scalar>
Sizes sizes_of(const Problem& problem, const Scores& scores, bool means) {
  Sizes sizes{};
  sizes.channels = problem.channels;
  sizes.frames = problem.frames;
  sizes.joints = problem.joints;
  sizes.groups = problem.groups;
  sizes.frame_hidden = scores.frame_head == nullptr ? 0 : scores.frame_head->hidden;
  sizes.joint_hidden = scores.joint_head == nullptr ? 0 : scores.joint_head->hidden;
  sizes.frame_stride = round_up(problem.frames, kRowAlign<Scalar>);
  sizes.joint_stride = round_up(problem.joints, kRowAlign<Scalar>);
  sizes.means = means;
  return sizes;
}

inline bool is_empty(const Problem& problem) {
  return problem.samples == 0 || problem.frames == 0 || problem.joints == 0;
}

// Both heads in the arithmetic type, for the length of a call.
template <class Scalar>
class PackedHeads {
 public:
  PackedHeads(const Problem& problem, const Scores& scores)
      : scratch_(bytes(problem, scores)),
        arena_(scratch_.memory()),
        frames(arena_, scores.frame_head, problem.channels, problem.groups),
        joints(arena_, scores.joint_head, problem.channels, problem.groups) {
    if (scores.frame_head == nullptr) return;
    frames.fill(*scores.frame_head, problem.channels, problem.groups);
    joints.fill(*scores.joint_head, problem.channels, problem.groups);
  }

 private:
  static int64_t bytes(const Problem& problem, const Scores& scores) {
    Arena arena;
    PackedHead<Scalar>(arena, scores.frame_head, problem.channels, problem.groups);
    PackedHead<Scalar>(arena, scores.joint_head, problem.channels, problem.groups);
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
  AttentionForward(const Problem& problem, const Scores& scores, AttentionOut attention)
      : problem_(problem),
        scores_(scores),
        has_heads_(scores.frame_head != nullptr),
        sizes_(sizes_of<Scalar>(problem, scores, has_heads_)),
        heads_(problem, scores),
        frame_attention_(static_cast<Scalar*>(attention.frames)),
        joint_attention_(static_cast<Scalar*>(attention.joints)) {}

  bool has_heads() const { return has_heads_; }
  const Sizes& sizes() const { return sizes_; }

  // Of sample n, asking for what will be read soon.
  CSTA_NOINLINE void forward(Sample<Scalar>& sample, int64_t n, Prefetcher prefetcher) const {
    forward(sample.frames, n, true, prefetcher);
    forward(sample.joints, n, false, prefetcher);
    sample.scale_joints(sample.joints.scores, problem_.groups);
  }

  // Of one axis of sample n.
  CSTA_NOINLINE void forward_axis(Sample<Scalar>& sample, int64_t n, bool of_frames) const {
    Prefetcher nothing;
    forward(of_frames ? sample.frames : sample.joints, n, of_frames, nothing);
    if (!of_frames) sample.scale_joints(sample.joints.scores, problem_.groups);
  }

  CSTA_NOINLINE void clear() const {
    const int64_t rows = problem_.samples * problem_.groups;
    std::fill_n(frame_attention_, rows * problem_.frames, Scalar{0});
    std::fill_n(joint_attention_, rows * problem_.joints, Scalar{0});
  }

 private:
  void forward(AxisState<Scalar>& state, int64_t n, bool of_frames, Prefetcher& prefetcher) const {
    if (has_heads_) {
      state.evaluate_scores(of_frames ? heads_.frames : heads_.joints, sizes_, prefetcher);
    } else {
      state.read_scores(of_frames ? scores_.frame_logits : scores_.joint_logits, n,
                        problem_.groups);
    }
    state.apply_gates(problem_.gate, n, problem_.groups,
                      of_frames ? frame_attention_ : joint_attention_);
  }

  const Problem& problem_;
  const Scores& scores_;
  bool has_heads_;
  Sizes sizes_;
  PackedHeads<Scalar> heads_;
  Scalar* frame_attention_;
  Scalar* joint_attention_;
};

template <class Scalar>
class AttentionBackward {
 public:
  // through_y: whether there is a gradient of y; with_means: whether those of the means are wanted.
  AttentionBackward(const Problem& problem, const Scores& scores, AttentionIn attention,
                    const ScoreGradients& gradients, bool through_y, bool with_means)
      : problem_(problem),
        scores_(scores),
        has_heads_(scores.frame_head != nullptr),
        through_y_(through_y),
        with_means_(with_means),
        sizes_(sizes_of<Scalar>(problem, scores, has_heads_)),
        heads_(problem, scores),
        sums_(sizes_, is_empty(problem) ? 0 : problem.samples),
        attention_(attention),
        gradients_(gradients) {}

  bool has_heads() const { return has_heads_; }
  const Sizes& sizes() const { return sizes_; }
  int64_t runs() const { return sums_.runs(); }
  int64_t samples_of_a_run() const { return sums_.samples_of_a_run(); }

  // What forward found for sample n.
  CSTA_NOINLINE void load_attention(Sample<Scalar>& sample, int64_t n) const {
    sample.frames.read_attention(static_cast<const Scalar*>(attention_.frames), n, problem_.groups);
    sample.joints.read_attention(static_cast<const Scalar*>(attention_.joints), n, problem_.groups);
    sample.scale_joints(sample.joints.attention, problem_.groups);
  }

  // From the gradients of the attention of sample n to those of the logits and, with heads, of the
  // means and weights; asks for what will be read soon.
  CSTA_NOINLINE void backward(Sample<Scalar>& sample, int64_t n, Prefetcher prefetcher) const {
    backward(sample, n, true, prefetcher);
    backward(sample, n, false, prefetcher);
  }

  // The same of one axis.
  CSTA_NOINLINE void backward_axis(Sample<Scalar>& sample, int64_t n, bool of_frames) const {
    Prefetcher nothing;
    backward(sample, n, of_frames, nothing);
  }

  // The gradients of the weights, once all samples have been gone through.
  CSTA_NOINLINE void write_weights() {
    if (!has_heads_) return;
    sums_.write(*scores_.frame_head, gradients_.frame_head, *scores_.joint_head,
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
    // Nothing comes back to this axis, and nothing it is, not even from NaN.
    const bool nothing = !through_y_ && upstream == nullptr;
    if (!nothing) {
      state.gates_backward(problem_.gate, static_cast<const Scalar*>(upstream), n, problem_.groups);
    } else if (has_heads_) {
      return state.clear_mean_gradients(sizes_);
    }
    if (!has_heads_) {
      state.write_scores(n, problem_.groups,
                         of_frames ? gradients_.frame_logits : gradients_.joint_logits);
      return;
    }
    const int64_t run = n / sums_.samples_of_a_run();
    const Axis& other = of_frames ? sample.joints.axis : sample.frames.axis;
    state.head_backward(of_frames ? heads_.frames : heads_.joints, sizes_, other.valid_count,
                        of_frames ? sums_.frames(run) : sums_.joints(run), with_means_, prefetcher);
  }

  const Problem& problem_;
  const Scores& scores_;
  bool has_heads_;
  bool through_y_;
  bool with_means_;
  Sizes sizes_;
  PackedHeads<Scalar> heads_;
  RunSums<Scalar> sums_;
  AttentionIn attention_;
  const ScoreGradients& gradients_;
};

}  // namespace csta::CSTA_ISA
