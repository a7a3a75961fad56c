// Parallel loops over samples, and the software pipeline of one thread: x of the next sample is
// read while y (or grad_x) of this one is written.
#pragma once

#include <cstdlib>
#include <utility>

#include "attention.h"
#include "cache.h"

namespace csta::CSTA_ISA {

// Least work of a thread, in elements of x.
constexpr int64_t kGrainElements = 32768;

template <class Function>
void for_each(const Problem& problem, int64_t end, int64_t elements_each,
              const Function& function) {
  const int64_t grain = max(1, kGrainElements / max(elements_each, 1));
  problem.parallel.for_each(
      end, grain,
      [](int64_t first, int64_t last, void* context) {
        (*static_cast<const Function*>(context))(first, last);
      },
      const_cast<void*>(static_cast<const void*>(&function)));
}

inline int64_t sample_elements(const Problem& problem) {
  return problem.channels * problem.frames * problem.joints;
}

// Nontemporal stores are used only for results that would not stay in the caches.
template <class Element>
bool bypasses_cache(const Problem& problem) {
  return problem.samples * sample_elements(problem) * static_cast<int64_t>(sizeof(Element)) >
         nontemporal_threshold();
}

// Bytes of the next sample that are prefetched while the heads run: one step, or none where much of
// it may be padding or the tensors stay in the caches.
template <class Element>
int64_t prefetch_bytes(const Problem& problem) {
  if (!bypasses_cache<Element>(problem) || problem.lengths != nullptr) return 0;
  return min(kStepBytes, sample_elements(problem) * static_cast<int64_t>(sizeof(Element)));
}

// A thread's Passes and their scratch memory.
template <class Passes>
class PassScratch {
 public:
  explicit PassScratch(const Problem& problem)
      : nontemporal_(bypasses_cache<typename Passes::Element>(problem)),
        scratch_(bytes(problem)),
        arena_(scratch_.memory()),
        passes(arena_, problem, nontemporal_) {}
  ~PassScratch() {
    if (nontemporal_) fence_nontemporal_stores();
  }

 private:
  static int64_t bytes(const Problem& problem) {
    Arena arena;
    Passes(arena, problem, false);
    return arena.used();
  }

  bool nontemporal_;
  Scratch scratch_;
  Arena arena_;

 public:
  Passes passes;
};

// One sample in the pipeline, with the Passes that work on it.
template <class Passes>
struct Stage {
  int64_t n = 0;
  Passes passes;
  Sample<typename Passes::Scalar> sample;

  Stage(Arena& arena, const Problem& problem, const Sizes& sizes, bool backward, bool nontemporal)
      : passes(arena, problem, nontemporal), sample(arena, sizes, backward) {}
};

// Loop over samples that need a single pass: calls function(stage), with the valid positions known.
// One thread takes all samples of a run.
template <class Passes, class Function>
void for_each_sample(const Problem& problem, const Sizes& sizes, bool backward,
                     const Function& function, int64_t samples_of_a_run = 1) {
  const int64_t runs = ceil_div(problem.samples, samples_of_a_run);
  const bool nontemporal = bypasses_cache<typename Passes::Element>(problem);
  const auto make = [&](Arena& arena) {
    return Stage<Passes>(arena, problem, sizes, backward, nontemporal);
  };
  const int64_t elements = sample_elements(problem) * samples_of_a_run;
  for_each(problem, runs, elements, [&](int64_t first, int64_t last) {
    Arena ruler;
    make(ruler);
    Scratch scratch(ruler.used());
    Arena arena(scratch.memory());
    Stage<Passes> stage = make(arena);
    const int64_t end = min(problem.samples, last * samples_of_a_run);
    for (stage.n = first * samples_of_a_run; stage.n < end; ++stage.n) {
      stage.sample.find_valid(problem, stage.n);
      function(stage);
    }
    if (nontemporal) fence_nontemporal_stores();
  });
}

// Software pipeline of one thread over two stages: writes one sample and reads the next, step by
// step, so that loads and stores overlap.
template <class Passes>
class Pipeline {
 public:
  Pipeline(const Problem& problem, const Sizes& sizes, bool backward)
      : nontemporal_(bypasses_cache<typename Passes::Element>(problem)),
        scratch_(bytes(problem, sizes, backward)),
        arena_(scratch_.memory()),
        stages_{{arena_, problem, sizes, backward, nontemporal_},
                {arena_, problem, sizes, backward, nontemporal_}},
        units_(Passes::units(problem)),
        step_(Passes::units_per_step(problem)) {}
  ~Pipeline() {
    if (nontemporal_) fence_nontemporal_stores();
  }

  // Takes samples [first, end) through the methods of Work:
  //   begin_sample(stage)                   before anything of the sample is read
  //   read(stage, begin, end)               first pass over units [begin, end)
  //   between_passes(stage, has_next)       heads and gates
  //   write(stage, begin, end)              last pass
  //   write_and_read(stage, next, begin, end)   last pass of a sample, first pass of the next
  template <class Work>
  void run(int64_t first, int64_t end, const Work& work) {
    Stage<Passes>*now = &stages_[0], *next = &stages_[1];
    now->n = first;
    work.begin_sample(*now);
    for (int64_t unit = 0; is_unit(unit); unit += step_) work.read(*now, unit, unit_end(unit));
    for (int64_t n = first + 1; n < end; ++n) {
      next->n = n;
      work.begin_sample(*next);
      work.between_passes(*now, true);
      for (int64_t unit = 0; is_unit(unit); unit += step_) {
        work.write_and_read(*now, *next, unit, unit_end(unit));
      }
      std::swap(now, next);
    }
    work.between_passes(*now, false);
    for (int64_t unit = 0; is_unit(unit); unit += step_) work.write(*now, unit, unit_end(unit));
  }

 private:
  static int64_t bytes(const Problem& problem, const Sizes& sizes, bool backward) {
    Arena arena;
    Stage<Passes>(arena, problem, sizes, backward, false);
    return 2 * arena.used();
  }

  // A sample without units still takes one empty step.
  bool is_unit(int64_t unit) const { return unit < max(1, units_); }
  int64_t unit_end(int64_t unit) const { return min(units_, unit + step_); }

  bool nontemporal_;
  Scratch scratch_;
  Arena arena_;
  Stage<Passes> stages_[2];
  int64_t units_, step_;
};

}  // namespace csta::CSTA_ISA
