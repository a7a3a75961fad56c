// What the operations over a batch share: sharing out work, the packed heads of a call and what a
// thread works with.
#pragma once

#include "cache.h"
#include "weight_sums.h"

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

template <class Scalar>
Sizes sizes_of(const Problem& problem, const Scores& scores, bool means) {
  Sizes sizes{};
  sizes.channels = problem.channels;
  sizes.frames = problem.frames;
  sizes.joints = problem.joints;
  sizes.groups = problem.groups;
  sizes.frame_hidden = scores.frame_head == nullptr ? 0 : scores.frame_head->hidden;
  sizes.joint_hidden = scores.joint_head == nullptr ? 0 : scores.joint_head->hidden;
  sizes.frame_stride = round_up(problem.frames, kRowAlign<Scalar>);
  sizes.joint_stride = round_up(problem.joints, kRowAlign<Scalar>);
  sizes.means = means;
  return sizes;
}

// Both heads in the arithmetic type, for the length of a call.
template <class Scalar>
class PackedHeads {
 public:
  PackedHeads(const Problem& problem, const Scores& scores)
      : scratch_(bytes(problem, scores)),
        carver_(scratch_.memory()),
        frames(carver_, scores.frame_head, problem.channels, problem.groups),
        joints(carver_, scores.joint_head, problem.channels, problem.groups) {
    if (scores.frame_head == nullptr) return;
    frames.fill(*scores.frame_head, problem.channels, problem.groups);
    joints.fill(*scores.joint_head, problem.channels, problem.groups);
  }

 private:
  static int64_t bytes(const Problem& problem, const Scores& scores) {
    Carver carver;
    PackedHead<Scalar>(carver, scores.frame_head, problem.channels, problem.groups);
    PackedHead<Scalar>(carver, scores.joint_head, problem.channels, problem.groups);
    return carver.used();
  }

  Scratch scratch_;
  Carver carver_;

 public:
  PackedHead<Scalar> frames, joints;
};

// Past the caches goes only what would not stay in them.
template <class Element>
bool streams(const Problem& problem) {
  return problem.samples * sample_elements(problem) * static_cast<int64_t>(sizeof(Element)) >
         streaming_threshold();
}

// What one thread works with: the passes, with room for their scratch and for `more` bytes.
template <class Passes>
class PassScratch {
 public:
  explicit PassScratch(const Problem& problem, int64_t more = 0)
      : stream_(streams<typename Passes::Element>(problem)),
        scratch_(bytes(problem) + more),
        carver(scratch_.memory()),
        passes(carver, problem, stream_) {}
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

 public:
  Carver carver;
  Passes passes;
};

// The same and one sample.
template <class Passes>
class Worker {
  using Scalar = typename Passes::Scalar;

 public:
  Worker(const Problem& problem, const Sizes& sizes, bool backward)
      : scratch_(problem, bytes(sizes, backward)),
        passes(scratch_.passes),
        sample(scratch_.carver, sizes, backward) {}

 private:
  static int64_t bytes(const Sizes& sizes, bool backward) {
    Carver carver;
    Sample<Scalar>(carver, sizes, backward);
    return carver.used();
  }

  PassScratch<Passes> scratch_;

 public:
  Passes& passes;
  Sample<Scalar> sample;
};

inline bool is_empty(const Problem& problem) {
  return problem.samples == 0 || problem.frames == 0 || problem.joints == 0;
}

}  // namespace csta::CSTA_ISA
