// Gradients of the heads' weights: sums over samples, in an order fixed by the shape alone.
#pragma once

#include "sample.h"

namespace csta::CSTA_ISA {

// Two-level sum: one thread sums a run of samples in order, then the runs are added in order.
template <class Scalar>
class RunSums {
 public:
  RunSums(const Sizes& sizes, int64_t samples)
      : sizes_(sizes),
        samples_of_a_run_(max(1, ceil_div(samples, kMostRuns))),
        runs_(ceil_div(samples, samples_of_a_run_)),
        scratch_(bytes_of_a_run() * max(runs_, 1)) {
    if (sizes_.means) {
      std::memset(scratch_.memory(), 0, static_cast<size_t>(bytes_of_a_run() * max(runs_, 1)));
    }
  }

  int64_t runs() const { return runs_; }
  int64_t samples_of_a_run() const { return samples_of_a_run_; }

  WeightSums<Scalar> frames(int64_t run) const {
    Arena arena(scratch_.memory() + run * bytes_of_a_run());
    return WeightSums<Scalar>(arena, sizes_.frame_hidden, sizes_.channels, sizes_.groups);
  }
  WeightSums<Scalar> joints(int64_t run) const {
    Arena arena(scratch_.memory() + run * bytes_of_a_run());
    WeightSums<Scalar>(arena, sizes_.frame_hidden, sizes_.channels, sizes_.groups);
    return WeightSums<Scalar>(arena, sizes_.joint_hidden, sizes_.channels, sizes_.groups);
  }

  // Adds all runs to the first and writes the totals, each in its weight's dtype.
  void write(const Head& frame_head, const HeadGradients& frame_gradients, const Head& joint_head,
             const HeadGradients& joint_gradients) {
    auto* total = reinterpret_cast<Scalar*>(scratch_.memory());
    const int64_t count = bytes_of_a_run() / static_cast<int64_t>(sizeof(Scalar));
    for (int64_t run = 1; run < runs_; ++run) {
      const Scalar* partial = total + run * count;
      for (int64_t i = 0; i < count; i += kLanes<Scalar>) {
        store(total + i, load(total + i) + load(partial + i));
      }
    }
    write_head(frames(0), frame_head, frame_gradients);
    write_head(joints(0), joint_head, joint_gradients);
  }

 private:
  static constexpr int64_t kMostRuns = 64;

  int64_t bytes_of_a_run() const {
    if (!sizes_.means) return 0;
    Arena arena;
    WeightSums<Scalar>(arena, sizes_.frame_hidden, sizes_.channels, sizes_.groups);
    WeightSums<Scalar>(arena, sizes_.joint_hidden, sizes_.channels, sizes_.groups);
    return arena.used();
  }

  void write_head(const WeightSums<Scalar>& sums, const Head& head,
                  const HeadGradients& gradients) const {
    const int64_t hidden = head.hidden;
    csta::CSTA_ISA::write(sums.w1, hidden * sizes_.channels, head.w1.dtype, gradients.w1);
    csta::CSTA_ISA::write(sums.b1, hidden, head.b1.dtype, gradients.b1);
    csta::CSTA_ISA::write(sums.w2, hidden * sizes_.groups, head.w2.dtype, gradients.w2);
    csta::CSTA_ISA::write(sums.b2, sizes_.groups, head.b2.dtype, gradients.b2);
  }

  Sizes sizes_;
  int64_t samples_of_a_run_;
  int64_t runs_;
  Scratch scratch_;
};

}  // namespace csta::CSTA_ISA
