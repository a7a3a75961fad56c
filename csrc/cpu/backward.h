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
        attention_(problem, scores, attention, gradients, grad_x != nullptr),
        has_heads_(attention_.has_heads()),
        elements_(sample_elements(problem)),
        bytes_asked_for_(bytes_asked_for<Element>(problem)),
        x_(static_cast<const Element*>(x)),
        u_(static_cast<const Element*>(u)),
        x_limit_(x_ + problem.samples * elements_),
        u_limit_(u_ + problem.samples * elements_),
        grad_x_(static_cast<Element*>(grad_x)) {}

  void run() {
    if (is_empty(problem_)) {
      attention_.clear_logits();
    } else if (!Passes::kSplits || !wants_split(problem_)) {
      const int64_t length = attention_.samples_of_a_run();
      for_each(problem_, attention_.runs(), elements_ * length, [&](int64_t first, int64_t last) {
        run_pipeline(first * length, smaller(problem_.samples, last * length));
      });
    } else if constexpr (Passes::kSplits) {
      run_split();
    }
    attention_.write_weights();
  }

 private:
  void run_pipeline(int64_t first, int64_t last) {
    Pipeline<Passes> pipeline(problem_, attention_.sizes(), true);
    pipeline.run(
        first, last,
        [&](Stage<Passes>& stage) {
          stage.sample.describe(problem_, stage.n);
          attention_.recall(stage.sample, stage.n);
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
          attention_.descend(stage.sample, stage.n, soon);
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
    SplitCall<Passes> call(problem_, attention_.sizes(), true);
    for (int64_t n = 0; n < problem_.samples; ++n) attention_.recall(call.sample(n), n);
    if (has_heads_) {
      call.for_channels(x_limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
        passes.pool(x_ + n * elements_, call.sample(n), begin, end);
      });
    }
    call.correlate(x_, u_, x_limit_);
    call.for_axes(
        [&](int64_t n, bool of_frames) { attention_.descend_axis(call.sample(n), n, of_frames); });
    if (grad_x_ == nullptr) return;
    call.for_channels(u_limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
      const Sample<Scalar>& sample = call.sample(n);
      passes.reweight(u_ + n * elements_, sample, sample.frames.attention, has_heads_, begin, end,
                      {}, grad_x_ + n * elements_);
    });
  }

  const Problem& problem_;
  AttentionBackward<Scalar> attention_;
  bool has_heads_;
  int64_t elements_;
  int64_t bytes_asked_for_;
  const Element* x_;
  const Element* u_;
  const Element* x_limit_;  // ends of x and u
  const Element* u_limit_;
  Element* grad_x_;
};

}  // namespace csta::CSTA_ISA
