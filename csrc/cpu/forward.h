// Forward over a batch. Per sample: x comes from memory in a first pass (means), then heads and
// gates, then a second pass over x, which is still in cache, writes y. A sample's result depends on
// that sample alone.
#pragma once

#include "split.h"

namespace csta::CSTA_ISA {

template <class Passes>
class Forward {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;

 public:
  Forward(const Problem& problem, const LogitSource& source, const void* x, void* y,
          AttentionOut attention)
      : problem_(problem),
        attention_(problem, source, attention),
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
      Pipeline<Passes>(problem_, attention_.sizes(), false).run(first, last, *this);
    });
  }

 private:
  friend class Pipeline<Passes>;

  void begin_sample(Stage<Passes>& stage) const {
    stage.sample.find_valid(problem_, stage.n);
    stage.passes.begin(stage.sample, limit_);
  }

  CSTA_INLINE void read(Stage<Passes>& stage, int64_t begin, int64_t end) const {
    if (has_heads_) stage.passes.pool(x_ + stage.n * elements_, stage.sample, begin, end);
  }

  void between_passes(Stage<Passes>& stage, bool has_next) const {
    Prefetcher prefetcher;
    if (has_next) prefetcher = {x_ + (stage.n + 1) * elements_, nullptr, prefetch_bytes_};
    attention_.forward(stage.sample, stage.n, prefetcher);
  }

  CSTA_INLINE void write(Stage<Passes>& stage, int64_t begin, int64_t end) const {
    stage.passes.reweight(x_ + stage.n * elements_, stage.sample, stage.sample.frames.attention,
                          false, begin, end, {}, y_ + stage.n * elements_);
  }

  // Writes y of one sample for units [begin, end) and takes the means of the same units of the
  // next.
  CSTA_INLINE void write_and_read(Stage<Passes>& stage, Stage<Passes>& next, int64_t begin,
                                  int64_t end) const {
    const Element *x = x_ + stage.n * elements_, *next_x = x + elements_;
    Element* y = y_ + stage.n * elements_;
    const Scalar* frame_attention = stage.sample.frames.attention;
    if constexpr (Passes::kOverlaps) {
      if (has_heads_ && stage.passes.can_overlap(stage.sample, next.sample)) {
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
      passes.reweight(x_ + n * elements_, sample, sample.frames.attention, false, begin, end, {},
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
