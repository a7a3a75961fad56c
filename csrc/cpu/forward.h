// Steps 1 to 4 (with heads) or 3 and 4 (with logits) over a batch. A sample's result depends on
// nothing but the sample.
#pragma once

#include "split.h"

namespace csta::CSTA_ISA {

template <class Passes>
class Forward {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;

 public:
  Forward(const Problem& problem, const Scores& scores, const void* x, void* y,
          AttentionOut attention)
      : problem_(problem),
        scores_(scores),
        has_heads_(scores.frame_head != nullptr),
        sizes_(sizes_of<Scalar>(problem, scores, has_heads_)),
        heads_(problem, scores),
        elements_(sample_elements(problem)),
        bytes_asked_for_(bytes_asked_for<Element>(problem)),
        x_(static_cast<const Element*>(x)),
        limit_(x_ + problem.samples * elements_),
        y_(static_cast<Element*>(y)),
        frame_attention_(static_cast<Scalar*>(attention.frames)),
        joint_attention_(static_cast<Scalar*>(attention.joints)) {}

  void run() {
    if (is_empty(problem_)) return clear_attention();
    if constexpr (Passes::kSplits) {
      if (wants_split(problem_)) return run_split();
    }
    for_each(problem_, problem_.samples, elements_, [&](int64_t first, int64_t last) {
      Pipeline<Passes> pipeline(problem_, sizes_, false);
      pipeline.run(
          first, last,
          [&](Stage<Passes>& stage) {
            stage.sample.describe(problem_, stage.n);
            stage.passes.begin(stage.sample, limit_);
          },
          [&](Stage<Passes>& stage, int64_t begin, int64_t end) CSTA_LAMBDA_INLINE {
            if (has_heads_) stage.passes.pool(x_ + stage.n * elements_, stage.sample, begin, end);
          },
          [&](Stage<Passes>& stage, bool more) {
            Soon soon;
            if (more) soon = {x_ + (stage.n + 1) * elements_, nullptr, bytes_asked_for_};
            attend(stage.sample, stage.n, soon);
          },
          [&](Stage<Passes>& stage, int64_t begin, int64_t end) CSTA_LAMBDA_INLINE {
            stage.passes.reweight(x_ + stage.n * elements_, stage.sample,
                                  stage.sample.frames.scores, false, begin, end, {},
                                  y_ + stage.n * elements_);
          },
          [&](Stage<Passes>& stage, Stage<Passes>& next, int64_t begin, int64_t end)
              CSTA_LAMBDA_INLINE { write_and_read(stage, next, begin, end); });
    });
  }

 private:
  // Part of a sample's results and the means of that part of the next.
  CSTA_INLINE void write_and_read(Stage<Passes>& stage, Stage<Passes>& next, int64_t begin,
                                  int64_t end) const {
    const Element *x = x_ + stage.n * elements_, *next_x = x + elements_;
    Element* y = y_ + stage.n * elements_;
    const Scalar* frame_attention = stage.sample.frames.scores;
    if constexpr (Passes::kJoins) {
      if (has_heads_ && stage.passes.can_join(stage.sample, next.sample)) {
        return stage.passes.reweight_and_pool(x, stage.sample, frame_attention, begin, end, y,
                                              next_x, next.sample);
      }
    }
    Ahead<Element> ahead;
    if (has_heads_) ahead = {next_x, nullptr, next.sample.frames.axis.end};
    stage.passes.reweight(x, stage.sample, frame_attention, false, begin, end, ahead, y);
    if (has_heads_) next.passes.pool(next_x, next.sample, begin, end);
  }

  void attend(Sample<Scalar>& sample, int64_t n, Soon& soon) const {
    attend(sample.frames, n, true, soon);
    attend(sample.joints, n, false, soon);
    sample.scale_joints(sample.joints.scores, problem_.groups);
  }

  void run_split() {
    SplitCall<Passes> call(problem_, sizes_, false);
    if (has_heads_) {
      call.for_channels(limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
        passes.pool(x_ + n * elements_, call.sample(n), begin, end);
      });
    }
    call.for_axes([&](int64_t n, bool of_frames) {
      Sample<Scalar>& sample = call.sample(n);
      Soon nothing;
      attend(of_frames ? sample.frames : sample.joints, n, of_frames, nothing);
      if (!of_frames) sample.scale_joints(sample.joints.scores, problem_.groups);
    });
    call.for_channels(limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
      const Sample<Scalar>& sample = call.sample(n);
      passes.reweight(x_ + n * elements_, sample, sample.frames.scores, false, begin, end, {},
                      y_ + n * elements_);
    });
  }

  // Steps 2 and 3 for one axis of sample n.
  void attend(AxisState<Scalar>& state, int64_t n, bool of_frames, Soon& soon) const {
    if (has_heads_) {
      state.evaluate_scores(of_frames ? heads_.frames : heads_.joints, sizes_, soon);
    } else {
      state.read_scores(of_frames ? scores_.frame_logits : scores_.joint_logits, n,
                        problem_.groups);
    }
    state.apply_gates(problem_.gate, n, problem_.groups,
                      of_frames ? frame_attention_ : joint_attention_);
  }

  void clear_attention() const {
    const int64_t rows = problem_.samples * problem_.groups;
    for (int64_t i = 0; i < rows * problem_.frames; ++i) frame_attention_[i] = 0;
    for (int64_t i = 0; i < rows * problem_.joints; ++i) joint_attention_[i] = 0;
  }

  const Problem& problem_;
  const Scores& scores_;
  bool has_heads_;
  Sizes sizes_;
  PackedHeads<Scalar> heads_;
  int64_t elements_;
  int64_t bytes_asked_for_;
  const Element* x_;
  const Element* limit_;  // end of x
  Element* y_;
  Scalar* frame_attention_;
  Scalar* joint_attention_;
};

}  // namespace csta::CSTA_ISA
