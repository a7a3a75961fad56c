// Gradients of steps 1 to 4 (with heads) or 3 and 4 (with logits) over a batch: one pass over x and
// the upstream gradient u for the attention's gradients, one over u for grad_x. The means are taken
// again in the first pass rather than kept from forward.
#pragma once

#include "split.h"

namespace csta::CSTA_ISA {

template <class Passes>
class Backward {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;

 public:
  Backward(const Problem& problem, const Scores& scores, const void* x, const void* u,
           AttentionIn attention, void* grad_x, const ScoreGradients& gradients)
      : problem_(problem),
        scores_(scores),
        has_heads_(scores.frame_head != nullptr),
        sizes_(sizes_of<Scalar>(problem, scores, has_heads_)),
        heads_(problem, scores),
        sums_(sizes_, is_empty(problem) ? 0 : problem.samples),
        elements_(sample_elements(problem)),
        bytes_asked_for_(bytes_asked_for<Element>(problem)),
        x_(static_cast<const Element*>(x)),
        u_(static_cast<const Element*>(u)),
        x_limit_(x_ + problem.samples * elements_),
        u_limit_(u_ + problem.samples * elements_),
        attention_(attention),
        grad_x_(static_cast<Element*>(grad_x)),
        gradients_(gradients) {}

  void run() {
    if (is_empty(problem_)) {
      clear_logit_gradients();
    } else if (!Passes::kSplits || !wants_split(problem_)) {
      const int64_t length = sums_.samples_of_a_run();
      for_each(problem_, sums_.runs(), elements_ * length, [&](int64_t first, int64_t last) {
        run_pipeline(first * length, smaller(problem_.samples, last * length));
      });
    } else if constexpr (Passes::kSplits) {
      run_split();
    }
    if (has_heads_) {
      sums_.write(*scores_.frame_head, gradients_.frame_head, *scores_.joint_head,
                  gradients_.joint_head);
    }
  }

 private:
  void run_pipeline(int64_t first, int64_t last) {
    Pipeline<Passes> pipeline(problem_, sizes_, true);
    pipeline.run(
        first, last,
        [&](Stage<Passes>& stage) {
          stage.sample.describe(problem_, stage.n);
          recall_attention(stage.sample, stage.n);
          stage.passes.begin(stage.sample, x_limit_);
          if (problem_.channels == 0) stage.sample.clear_scores(problem_.groups);
        },
        [&](Stage<Passes>& stage, int64_t begin, int64_t end) CSTA_LAMBDA_INLINE {
          const int64_t at = stage.n * elements_;
          stage.passes.correlate(x_ + at, u_ + at, stage.sample, has_heads_, begin, end);
        },
        [&](Stage<Passes>& stage, bool more) {
          Soon soon;
          const int64_t then = (stage.n + 1) * elements_;
          if (more) soon = {x_ + then, u_ + then, bytes_asked_for_};
          score_backward(stage.sample, stage.n, true, soon);
          score_backward(stage.sample, stage.n, false, soon);
          stage.passes.begin(stage.sample, u_limit_);
        },
        [&](Stage<Passes>& stage, int64_t begin, int64_t end)
            CSTA_LAMBDA_INLINE { write(stage, begin, end, {}); },
        [&](Stage<Passes>& stage, Stage<Passes>& next, int64_t begin, int64_t end)
            CSTA_LAMBDA_INLINE {
              const int64_t at = next.n * elements_;
              write(stage, begin, end, {x_ + at, u_ + at, next.sample.frames.axis.end});
              next.passes.correlate(x_ + at, u_ + at, next.sample, has_heads_, begin, end);
            });
  }

  // Part of a sample's gradient of x.
  CSTA_INLINE void write(Stage<Passes>& stage, int64_t begin, int64_t end,
                         Ahead<Element> ahead) const {
    if (grad_x_ == nullptr) return;
    const int64_t at = stage.n * elements_;
    stage.passes.reweight(u_ + at, stage.sample, stage.sample.frames.attention, has_heads_, begin,
                          end, ahead, grad_x_ + at);
  }

  void run_split() {
    SplitCall<Passes> call(problem_, sizes_, true);
    for (int64_t n = 0; n < problem_.samples; ++n) recall_attention(call.sample(n), n);
    if (has_heads_) {
      call.for_channels(x_limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
        passes.pool(x_ + n * elements_, call.sample(n), begin, end);
      });
    }
    call.correlate(x_, u_, x_limit_);
    call.for_axes([&](int64_t n, bool of_frames) {
      Soon nothing;
      score_backward(call.sample(n), n, of_frames, nothing);
    });
    if (grad_x_ == nullptr) return;
    call.for_channels(u_limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
      const Sample<Scalar>& sample = call.sample(n);
      passes.reweight(u_ + n * elements_, sample, sample.frames.attention, has_heads_, begin, end,
                      {}, grad_x_ + n * elements_);
    });
  }

  void recall_attention(Sample<Scalar>& sample, int64_t n) const {
    sample.frames.read_attention(static_cast<const Scalar*>(attention_.frames), n, problem_.groups);
    sample.joints.read_attention(static_cast<const Scalar*>(attention_.joints), n, problem_.groups);
    sample.scale_joints(sample.joints.attention, problem_.groups);
  }

  // Steps 3 and 2 backward for one axis of sample n.
  void score_backward(Sample<Scalar>& sample, int64_t n, bool of_frames, Soon& soon) const {
    AxisState<Scalar>& state = of_frames ? sample.frames : sample.joints;
    const void* upstream = of_frames ? attention_.grad_frames : attention_.grad_joints;
    state.gates_backward(problem_.gate, static_cast<const Scalar*>(upstream), n, problem_.groups);
    if (!has_heads_) {
      state.write_scores(n, problem_.groups,
                         of_frames ? gradients_.frame_logits : gradients_.joint_logits);
      return;
    }
    const int64_t run = n / sums_.samples_of_a_run();
    const Axis& other = of_frames ? sample.joints.axis : sample.frames.axis;
    state.head_backward(of_frames ? heads_.frames : heads_.joints, sizes_, other.real_count,
                        of_frames ? sums_.frames(run) : sums_.joints(run), grad_x_ != nullptr,
                        soon);
  }

  void clear_logit_gradients() const {
    if (has_heads_) return;
    const int64_t rows = problem_.samples * problem_.groups;
    auto* frames = static_cast<Scalar*>(gradients_.frame_logits);
    auto* joints = static_cast<Scalar*>(gradients_.joint_logits);
    for (int64_t i = 0; i < rows * problem_.frames; ++i) frames[i] = 0;
    for (int64_t i = 0; i < rows * problem_.joints; ++i) joints[i] = 0;
  }

  const Problem& problem_;
  const Scores& scores_;
  bool has_heads_;
  Sizes sizes_;
  PackedHeads<Scalar> heads_;
  RunSums<Scalar> sums_;
  int64_t elements_;
  int64_t bytes_asked_for_;
  const Element* x_;
  const Element* u_;
  const Element* x_limit_;  // ends of x and u
  const Element* u_limit_;
  AttentionIn attention_;
  Element* grad_x_;
  const ScoreGradients& gradients_;
};

}  // namespace csta::CSTA_ISA
