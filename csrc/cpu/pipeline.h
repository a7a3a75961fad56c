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
  const int64_t grain = larger(1, kGrainElements / larger(elements_each, 1));
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
bool streams(const Problem& problem) {
  return problem.samples * sample_elements(problem) * static_cast<int64_t>(sizeof(Element)) >
         streaming_threshold();
}

// What the heads of one sample ask for of the next: its first part, unless much of that may be
// padding. Results that stay in the caches come from tensors that are there already.
template <class Element>
int64_t bytes_asked_for(const Problem& problem) {
  if (!streams<Element>(problem) || problem.lengths != nullptr) return 0;
  return smaller(kPartBytes, sample_elements(problem) * static_cast<int64_t>(sizeof(Element)));
}

// What one thread works with: the passes, with room for their scratch.
template <class Passes>
class PassScratch {
 public:
  explicit PassScratch(const Problem& problem)
      : stream_(streams<typename Passes::Element>(problem)),
        scratch_(bytes(problem)),
        carver_(scratch_.memory()),
        passes(carver_, problem, stream_) {}
  ~PassScratch() {
    if (stream_) finish_streaming();
  }

 private:
  static int64_t bytes(const Problem& problem) {
    Carver carver;
    Passes(carver, problem, false);
    return carver.used();
  }

  bool stream_;
  Scratch scratch_;
  Carver carver_;

 public:
  Passes passes;
};

// A sample on its way through the passes.
template <class Passes>
struct Stage {
  int64_t n = 0;
  Passes passes;
  Sample<typename Passes::Scalar> sample;

  Stage(Carver& carver, const Problem& problem, const Sizes& sizes, bool backward, bool stream)
      : passes(carver, problem, stream), sample(carver, sizes, backward) {}
};

// Calls function(stage) for every sample, whose positions are known by then: for what goes over a
// sample once.
template <class Passes, class Function>
void for_each_sample(const Problem& problem, const Sizes& sizes, bool backward,
                     const Function& function) {
  const bool stream = streams<typename Passes::Element>(problem);
  const auto make = [&](Carver& carver) {
    return Stage<Passes>(carver, problem, sizes, backward, stream);
  };
  for_each(problem, problem.samples, sample_elements(problem), [&](int64_t first, int64_t last) {
    Carver ruler;
    make(ruler);
    Scratch scratch(ruler.used());
    Carver carver(scratch.memory());
    Stage<Passes> stage = make(carver);
    for (stage.n = first; stage.n < last; ++stage.n) {
      stage.sample.describe(problem, stage.n);
      function(stage);
    }
    if (stream) finish_streaming();
  });
}

// Two stages of one thread: while one sample's results are written, the next sample is read, part
// by part, so that memory is read and written at the same time.
template <class Passes>
class Pipeline {
 public:
  Pipeline(const Problem& problem, const Sizes& sizes, bool backward)
      : stream_(streams<typename Passes::Element>(problem)),
        scratch_(bytes(problem, sizes, backward)),
        carver_(scratch_.memory()),
        stages_{{carver_, problem, sizes, backward, stream_},
                {carver_, problem, sizes, backward, stream_}},
        parts_(Passes::parts(problem)),
        step_(Passes::parts_at_once(problem)) {}
  ~Pipeline() {
    if (stream_) finish_streaming();
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
        function(part, smaller(parts_, part + step_));
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
    Carver carver;
    Stage<Passes>(carver, problem, sizes, backward, false);
    return 2 * carver.used();
  }

  // A sample without parts is one empty part.
  bool is_part(int64_t part) const { return part < larger(1, parts_); }

  bool stream_;
  Scratch scratch_;
  Carver carver_;
  Stage<Passes> stages_[2];
  int64_t parts_, step_;
};

}  // namespace csta::CSTA_ISA
