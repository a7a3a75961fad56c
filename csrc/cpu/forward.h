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
        attention_(problem, scores, attention),
        has_heads_(attention_.has_heads()),
        elements_(sample_elements(problem)),
        prefetch_bytes_(prefetch_bytes<Element>(problem)),
        x_(static_cast<const Element*>(x)),
        limit_(x_ + problem.samples * elements_),
        y_(static_cast<Element*>(y)) {}

  void run() {
    if (is_empty(problem_)) return attention_.clear();
    if constexpr (Passes::kSplits) {
      if (wants_split(problem_)) return run_split();
    }
    for_each(problem_, problem_.samples, elements_, [&](int64_t first, int64_t last) {
      Pipeline<Passes> pipeline(problem_, attention_.sizes(), false);
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
            Prefetcher prefetcher;
            if (more) prefetcher = {x_ + (stage.n + 1) * elements_, nullptr, prefetch_bytes_};
            attention_.forward(stage.sample, stage.n, prefetcher);
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
    PrefetchTarget<Element> prefetch;
    if (has_heads_) prefetch = {next_x, nullptr, next.sample.frames.axis.end};
    stage.passes.reweight(x, stage.sample, frame_attention, false, begin, end, prefetch, y);
    if (has_heads_) next.passes.pool(next_x, next.sample, begin, end);
  }

  void run_split() {
    SplitCall<Passes> call(problem_, attention_.sizes(), false);
    if (has_heads_) {
      call.for_channels(limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
        passes.pool(x_ + n * elements_, call.sample(n), begin, end);
      });
    }
    call.for_axes(
        [&](int64_t n, bool of_frames) { attention_.forward_axis(call.sample(n), n, of_frames); });
    call.for_channels(limit_, [&](Passes& passes, int64_t n, int64_t begin, int64_t end) {
      const Sample<Scalar>& sample = call.sample(n);
      passes.reweight(x_ + n * elements_, sample, sample.frames.scores, false, begin, end, {},
                      y_ + n * elements_);
    });
  }

  const Problem& problem_;
  AttentionForward<Scalar> attention_;
  bool has_heads_;
  int64_t elements_;
  int64_t prefetch_bytes_;
  const Element* x_;
  const Element* limit_;  // end of x
  Element* y_;
};

}  // namespace csta::CSTA_ISA
