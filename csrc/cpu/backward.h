// Backward over a batch. Per sample: x and grad_y come from memory in a first pass (gradients of
// the attention, and the means again), then heads and gates, then a second pass over grad_y writes
// grad_x. Without grad_y (null) only the attention's upstream gradients pass, through the heads.
#pragma once

#include "split.h"

namespace csta::CSTA_ISA {

template <class Passes>
class Backward {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;

 public:
  Backward(const Problem& problem, const LogitSource& source, const void* x, const void* grad_y,
           AttentionIn attention, void* grad_x, const LogitGradients& gradients)
      : problem_(problem),
        attention_(problem, source, attention, gradients, grad_y != nullptr, grad_x != nullptr),
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
      run_without_grad_y();
    } else if (!Passes::kSplits || !wants_split(problem_)) {
      const int64_t length = attention_.samples_of_a_run();
      for_each(problem_, attention_.runs(), elements_ * length, [&](int64_t first, int64_t last) {
        Pipeline<Passes>(problem_, attention_.sizes(), true)
            .run(first * length, min(problem_.samples, last * length), *this);
      });
    } else if constexpr (Passes::kSplits) {
      run_split();
    }
    attention_.write_weights();
  }

 private:
  friend class Pipeline<Passes>;

  void begin_sample(Stage<Passes>& stage) const {
    stage.sample.find_valid(problem_, stage.n);
    attention_.load_attention(stage.sample, stage.n);
    stage.passes.begin(stage.sample, x_limit_);
    if (problem_.channels == 0) stage.sample.clear_grad_attention(problem_.groups);
  }

  // grad_y is null: grad_x is the gradient through the means alone.
  void run_without_grad_y() {
    const int64_t units = Passes::units(problem_);
    Problem problem = problem_;
    problem.residual = false;  // it copies grad_y
    const auto run = [&](Stage<Passes>& stage) {
      Sample<Scalar>& sample = stage.sample;
      const int64_t at = stage.n * elements_;
      attention_.load_attention(sample, stage.n);
      sample.clear_grad_attention(problem_.groups);
      stage.passes.begin(sample, x_limit_);
      if (has_heads_) stage.passes.pool(x_ + at, sample, 0, units);
      attention_.backward(sample, stage.n, {});
      if (grad_x_ == nullptr) return;
      if (has_heads_) {
        stage.passes.begin(sample, nullptr);
        stage.passes.pool_backward(sample, 0, units, grad_x_ + at);
      } else {
        std::memset(static_cast<void*>(grad_x_ + at), 0, elements_ * sizeof(Element));
      }
    };
    for_each_sample<Passes>(problem, attention_.sizes(), true, run, attention_.samples_of_a_run());
  }

  CSTA_INLINE void read(Stage<Passes>& stage, int64_t begin, int64_t end) const {
    const int64_t at = stage.n * elements_;
    stage.passes.correlate(x_ + at, grad_y_ + at, stage.sample, has_heads_, begin, end);
  }

  void between_passes(Stage<Passes>& stage, bool has_next) const {
    Prefetcher prefetcher;
    const int64_t next = (stage.n + 1) * elements_;
    if (has_next) prefetcher = {x_ + next, grad_y_ + next, prefetch_bytes_};
    attention_.backward(stage.sample, stage.n, prefetcher);
    stage.passes.begin(stage.sample, grad_y_limit_);
  }

  CSTA_INLINE void write(Stage<Passes>& stage, int64_t begin, int64_t end) const {
    write(stage, begin, end, {});
  }

  CSTA_INLINE void write_and_read(Stage<Passes>& stage, Stage<Passes>& next, int64_t begin,
                                  int64_t end) const {
    const int64_t at = next.n * elements_;
    write(stage, begin, end, {x_ + at, grad_y_ + at, next.sample.frames.axis.end});
    next.passes.correlate(x_ + at, grad_y_ + at, next.sample, has_heads_, begin, end);
  }

  // Writes grad_x of one sample for units [begin, end).
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
