// Gradients of steps 1 to 4 (with heads) or 3 and 4 (with logits) over a batch: one pass over x and
// the upstream gradient grad_y for the attention's gradients, one over grad_y for grad_x. The means
// are taken again in the first pass rather than kept from forward. Without grad_y (null) only what
// comes from above to the attention goes on, through the heads.
#pragma once

#include "split.h"

namespace csta::CSTA_ISA {

template <class Passes>
class Backward {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;

 public:
  Backward(const Problem& problem, const Scores& scores, const void* x, const void* grad_y,
           AttentionIn attention, void* grad_x, const ScoreGradients& gradients)
      : problem_(problem),
        attention_(problem, scores, attention, gradients, grad_y != nullptr, grad_x != nullptr),
        has_heads_(attention_.has_heads()),
        elements_(sample_elements(problem)),
        prefetch_bytes_(prefetch_bytes<Element>(problem)),
        x_(static_cast<const Element*>(x)),
        grad_y_(static_cast<const Element*>(grad_y)),
        x_limit_(x_ + problem.samples * elements_),
        grad_y_limit_(grad_y == nullptr ? nullptr : grad_y_ + problem.samples * elements_),
        grad_x_(static_cast<Element*>(grad_x)) {}

  void run() {
    if (is_empty(problem_)) {
      attention_.clear_logits();
    } else if (grad_y_ == nullptr) {
      run_without_u();
    } else if (!Passes::kSplits || !wants_split(problem_)) {
      const int64_t length = attention_.samples_of_a_run();
      for_each(problem_, attention_.runs(), elements_ * length, [&](int64_t first, int64_t last) {
        run_pipeline(first * length, min(problem_.samples, last * length));
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
          attention_.load_attention(stage.sample, stage.n);
          stage.passes.begin(stage.sample, x_limit_);
          if (problem_.channels == 0) stage.sample.clear_scores(problem_.groups);
        },
        [&](Stage<Passes>& stage, int64_t begin, int64_t end) CSTA_LAMBDA_INLINE {
          const int64_t at = stage.n * elements_;
          stage.passes.correlate(x_ + at, grad_y_ + at, stage.sample, has_heads_, begin, end);
        },
        [&](Stage<Passes>& stage, bool more) {
          Prefetcher prefetcher;
          const int64_t then = (stage.n + 1) * elements_;
          if (more) prefetcher = {x_ + then, grad_y_ + then, prefetch_bytes_};
          attention_.backward(stage.sample, stage.n, prefetcher);
          stage.passes.begin(stage.sample, grad_y_limit_);
        },
        [&](Stage<Passes>& stage, int64_t begin, int64_t end)
            CSTA_LAMBDA_INLINE { write(stage, begin, end, {}); },
        [&](Stage<Passes>& stage, Stage<Passes>& next, int64_t begin, int64_t end)
            CSTA_LAMBDA_INLINE {
              const int64_t at = next.n * elements_;
              write(stage, begin, end, {x_ + at, grad_y_ + at, next.sample.frames.axis.end});
              next.passes.correlate(x_ + at, grad_y_ + at, next.sample, has_heads_, begin, end);
            });
  }

  void run_without_u() {
    const int64_t parts = Passes::units(problem_);
    Problem problem = problem_;
    problem.residual = false;  // it copies grad_y
    const auto run = [&](Stage<Passes>& stage) {
      Sample<Scalar>& sample = stage.sample;
      const int64_t at = stage.n * elements_;
      attention_.load_attention(sample, stage.n);
      sample.clear_scores(problem_.groups);
      stage.passes.begin(sample, x_limit_);
      if (has_heads_) stage.passes.pool(x_ + at, sample, 0, parts);
      attention_.backward(sample, stage.n, {});
      if (grad_x_ == nullptr) return;
      if (has_heads_) {
        stage.passes.begin(sample, nullptr);
        stage.passes.pool_backward(sample, 0, parts, grad_x_ + at);
      } else {
        std::memset(static_cast<void*>(grad_x_ + at), 0, elements_ * sizeof(Element));
      }
    };
    for_each_sample<Passes>(problem, attention_.sizes(), true, run, attention_.samples_of_a_run());
  }

  // Part of a sample's gradient of x.
  CSTA_INLINE void write(Stage<Passes>& stage, int64_t begin, int64_t end,
                         PrefetchTarget<Element> prefetch) const {
    if (grad_x_ == nullptr) return;
    const int64_t at = stage.n * elements_;
    stage.passes.reweight(grad_y_ + at, stage.sample, stage.sample.frames.attention, has_heads_,
                          begin, end, prefetch, grad_x_ + at);
  }

  void run_split() {
    SplitCall<Passes> call(problem_, attention_.sizes(), true);
    for (int64_t n = 0; n < problem_.samples; ++n) attention_.load_attention(call.sample(n), n);
    if (has_heads_) {
      call.for_channels(x_limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
        passes.pool(x_ + n * elements_, call.sample(n), begin, end);
      });
    }
    call.correlate(x_, grad_y_, x_limit_);
    call.for_axes(
        [&](int64_t n, bool of_frames) { attention_.backward_axis(call.sample(n), n, of_frames); });
    if (grad_x_ == nullptr) return;
    call.for_channels(grad_y_limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
      const Sample<Scalar>& sample = call.sample(n);
      passes.reweight(grad_y_ + n * elements_, sample, sample.frames.attention, has_heads_, begin,
                      end, {}, grad_x_ + n * elements_);
    });
  }

  const Problem& problem_;
  AttentionBackward<Scalar> attention_;
  bool has_heads_;
  int64_t elements_;
  int64_t prefetch_bytes_;
  const Element* x_;
  const Element* grad_y_;
  const Element* x_limit_;  // ends of x and grad_y
  const Element* grad_y_limit_;
  Element* grad_x_;
};

}  // namespace csta::CSTA_ISA
