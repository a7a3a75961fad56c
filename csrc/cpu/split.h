// Forward, backward and pool of fewer samples than threads: the threads share each sample's
// channels, phase by phase. Every sum has the order of a single thread.
#pragma once

#include "layouts/contiguous_flat.h"
#include "pipeline.h"

namespace csta::CSTA_ISA {

// Elements of the correlation plane that one thread sums over all channels: whole cache lines.
constexpr int64_t kCorrelationTile = 256;
constexpr int64_t kMostSplitSamples = 64;

inline bool wants_split(const Problem& problem) {
  return problem.samples < min(problem.parallel.threads, kMostSplitSamples) &&
         problem.samples * sample_elements(problem) >= 2 * kGrainElements;
}

// State of all samples of a call.
template <class Passes>
class SplitCall {
  using Element = typename Passes::Element;
  using Scalar = typename Passes::Scalar;

 public:
  SplitCall(const Problem& problem, const Sizes& sizes, bool backward)
      : problem_(problem),
        sizes_(sizes),
        plane_(problem.frames * problem.joints),
        scratch_(bytes(problem, sizes, backward)) {
    Arena arena(scratch_.memory());
    for (int64_t n = 0; n < problem.samples; ++n) {
      samples_[n] = Sample<Scalar>(arena, sizes, backward);
      samples_[n].find_valid(problem, n);
      correlation_[n] = arena.take<Scalar>(backward ? plane_ + kCorrelationTile : 0);
    }
  }

  Sample<Scalar>& sample(int64_t n) { return samples_[n]; }

  // Calls function(passes, n, begin, end) for ranges of channels of one sample.
  template <class Function>
  void for_channels(const Element* limit, const Function& function) {
    const int64_t channels = problem_.channels;
    for_each(problem_, problem_.samples * channels, plane_, [&](int64_t first, int64_t last) {
      PassScratch<Passes> scratch(problem_);
      while (first < last) {
        const int64_t n = first / channels;
        const int64_t end = min(last, (n + 1) * channels);
        scratch.passes.begin(samples_[n], limit);
        function(scratch.passes, n, first - n * channels, end - n * channels);
        first = end;
      }
    });
  }

  // Calls function(n, of_frames) for both axes of all samples.
  template <class Function>
  void for_axes(const Function& function) {
    const int64_t work =
        problem_.channels * (problem_.frames + problem_.joints) * max(1, sizes_.frame_hidden) / 2;
    for_each(problem_, 2 * problem_.samples, work, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) function(i / 2, i % 2 == 0);
    });
  }

  // Gradients of the attention of all samples.
  void correlate(const Element* x, const Element* grad_y, const Element* limit) {
    const int64_t elements = sample_elements(problem_), groups = problem_.groups;
    const int64_t width = problem_.channels / groups;
    if (groups > 1) {
      for_each(problem_, problem_.samples * groups, elements / groups,
               [&](int64_t first, int64_t last) {
                 PassScratch<Passes> scratch(problem_);
                 for (int64_t i = first; i < last; ++i) {
                   const int64_t n = i / groups;
                   scratch.passes.begin(samples_[n], limit);
                   scratch.passes.correlate(x + n * elements, grad_y + n * elements, samples_[n],
                                            false, i % groups * width, (i % groups + 1) * width);
                 }
               });
      return;
    }
    const int64_t tiles = ceil_div(plane_, kCorrelationTile);
    for_each(problem_, problem_.samples * tiles, kCorrelationTile * problem_.channels,
             [&](int64_t first, int64_t last) {
               PassScratch<Passes> scratch(problem_);
               for (int64_t i = first; i < last; ++i) {
                 const int64_t n = i / tiles, begin = i % tiles * kCorrelationTile;
                 const int64_t valid = samples_[n].frames.axis.end * problem_.joints;
                 if (begin >= valid) continue;
                 scratch.passes.correlate_tile(x + n * elements, grad_y + n * elements, begin,
                                               min(valid, begin + kCorrelationTile),
                                               correlation_[n]);
               }
             });
    PassScratch<Passes> scratch(problem_);
    for (int64_t n = 0; n < problem_.samples; ++n) {
      scratch.passes.begin(samples_[n], limit);
      scratch.passes.contract(samples_[n], 0, correlation_[n]);
    }
  }

 private:
  static int64_t bytes(const Problem& problem, const Sizes& sizes, bool backward) {
    Arena arena;
    Sample<Scalar>(arena, sizes, backward);
    arena.take<Scalar>(backward ? problem.frames * problem.joints + kCorrelationTile : 0);
    return arena.used() * problem.samples;
  }

  const Problem& problem_;
  const Sizes& sizes_;
  int64_t plane_;
  Scratch scratch_;
  Sample<Scalar> samples_[kMostSplitSamples];
  Scalar* correlation_[kMostSplitSamples];
};

}  // namespace csta::CSTA_ISA
