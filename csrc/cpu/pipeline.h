// What the operations over a batch share: sharing out work, and what a thread works with.
#pragma once

#include <cstdlib>
#include <utility>

#include "attention.h"
#include "cache.h"

namespace csta::CSTA_ISA {

// Work for which another thread is worth waking, in elements of x.
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

// Past the caches goes only what would not stay in them.
template <class Element>
bool bypasses_cache(const Problem& problem) {
  return problem.samples * sample_elements(problem) * static_cast<int64_t>(sizeof(Element)) >
         nontemporal_threshold();
}

// What the heads of one sample ask for of the next: its first part, unless much of that may be
// padding. Results that stay in the caches come from tensors that are there already.
template <class Element>
int64_t prefetch_bytes(const Problem& problem) {
  if (!bypasses_cache<Element>(problem) || problem.lengths != nullptr) return 0;
  return min(kStepBytes, sample_elements(problem) * static_cast<int64_t>(sizeof(Element)));
}

// What one thread works with: the passes, with room for their scratch.
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

// A sample on its way through the passes.
template <class Passes>
struct Stage {
  int64_t n = 0;
  Passes passes;
  Sample<typename Passes::Scalar> sample;

  Stage(Arena& arena, const Problem& problem, const Sizes& sizes, bool backward, bool nontemporal)
      : passes(arena, problem, nontemporal), sample(arena, sizes, backward) {}
};

// Calls function(stage) for every sample, whose positions are known by then: for what goes over a
// sample once. One thread takes all samples of a run.
template <class Passes, class Function>
void for_each_sample(const Problem& problem, const Sizes& sizes, bool backward,
                     const Function& function, int64_t samples_of_a_run = 1) {
  const int64_t runs = (problem.samples + samples_of_a_run - 1) / samples_of_a_run;
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
      stage.sample.describe(problem, stage.n);
      function(stage);
    }
    if (nontemporal) fence_nontemporal_stores();
  });
}

// Two stages of one thread: while one sample's results are written, the next sample is read, part
// by part, so that memory is read and written at the same time.
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

  // Takes samples [first, last) through: start(stage) before anything is read, turn(stage, more)
  // between reading and writing, more telling whether another sample follows. read(stage, begin,
  // end) is for parts of the first sample, write(stage, begin, end) for those of the last, and
  // write_and_read(stage, next stage, begin, end) for those of every sample and the one after it.
  template <class Start, class Read, class Turn, class Write, class WriteAndRead>
  void run(int64_t first, int64_t last, const Start& start, const Read& read, const Turn& turn,
           const Write& write, const WriteAndRead& write_and_read) {
    Stage<Passes>*now = &stages_[0], *next = &stages_[1];
    const auto for_parts = [&](const auto& function) CSTA_LAMBDA_INLINE {
      for (int64_t part = 0; is_part(part); part += step_) {
        function(part, min(units_, part + step_));
      }
    };
    now->n = first;
    start(*now);
    for_parts([&](int64_t begin, int64_t end) CSTA_LAMBDA_INLINE { read(*now, begin, end); });
    for (int64_t n = first; n + 1 < last; ++n) {
      next->n = n + 1;
      start(*next);
      turn(*now, true);
      for_parts([&](int64_t begin, int64_t end)
                    CSTA_LAMBDA_INLINE { write_and_read(*now, *next, begin, end); });
      std::swap(now, next);
    }
    turn(*now, false);
    for_parts([&](int64_t begin, int64_t end) CSTA_LAMBDA_INLINE { write(*now, begin, end); });
  }

 private:
  static int64_t bytes(const Problem& problem, const Sizes& sizes, bool backward) {
    Arena arena;
    Stage<Passes>(arena, problem, sizes, backward, false);
    return 2 * arena.used();
  }

  // A sample without parts is one empty part.
  bool is_part(int64_t part) const { return part < max(1, units_); }

  bool nontemporal_;
  Scratch scratch_;
  Arena arena_;
  Stage<Passes> stages_[2];
  int64_t units_, step_;
};

}  // namespace csta::CSTA_ISA
