// Passes over one sample in channels-last memory of few channels: x is deinterleaved into planes
// that stay in the caches, and computed as contiguous memory; y (or grad_x) is interleaved again.
#pragma once

#include "../pipeline.h"
#include "contiguous_passes.h"
#include "deinterleave.h"

namespace csta::CSTA_ISA {

// Most bytes of a sample's planes. A thread has four sets, x and grad_y of two samples, and keeps
// them between calls (scratch.cpp).
constexpr int64_t kMostPlanesBytes = int64_t{3} << 19;

template <class ElementType>
class FewChannelsPasses {
 public:
  using Element = ElementType;
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr bool kSplits = false;
  static constexpr bool kOverlaps = false;

  // Larger samples would leave the caches and grow the scratch: channels_last_any_passes.h serves
  // them.
  static bool fit(const Problem& problem) {
    const int64_t bytes = sample_elements(problem) * static_cast<int64_t>(sizeof(Scalar));
    return problem.channels > 0 && problem.channels <= kFewChannels && bytes <= kMostPlanesBytes;
  }

  // The unit of the pipeline is a sample.
  static int64_t units(const Problem&) { return 1; }
  static int64_t units_per_step(const Problem&) { return 1; }

  CSTA_NOINLINE FewChannelsPasses(Arena& arena, const Problem& problem, bool nontemporal)
      : problem_(problem),
        row_(problem.joints * problem.channels),
        plane_(problem.frames * problem.joints),
        nontemporal_(nontemporal),
        contiguous_(arena, problem, false) {
    const int64_t vectors = round_up(problem.joints, lanes) + lanes;  // loads overrun rows
    x_.values = arena.take<Scalar>(problem.channels * plane_ + vectors);
    grad_y_.values = arena.take<Scalar>(problem.channels * plane_ + vectors);
    limit_ = grad_y_.values + problem.channels * plane_ + vectors;
    buffer_ = arena.take<char>(LineWriter<Element>::kCapacity + LineWriter<Element>::kSlack);
  }

  void begin(const Sample<Scalar>& sample, const Element*) { contiguous_.begin(sample, limit_); }

  void pool(const Element* x, Sample<Scalar>& sample, int64_t, int64_t) {
    contiguous_.pool(deinterleave(x, sample, x_), sample, 0, problem_.channels);
  }

  void correlate(const Element* x, const Element* grad_y, Sample<Scalar>& sample, bool pool_too,
                 int64_t, int64_t) {
    const Scalar* x_planes = deinterleave(x, sample, x_);
    const Scalar* grad_y_planes = deinterleave(grad_y, sample, grad_y_);
    contiguous_.correlate(x_planes, grad_y_planes, sample, pool_too, 0, problem_.channels);
  }

  // In place, in the planes that hold `in`.
  void reweight(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                bool with_means, int64_t, int64_t, PrefetchTarget<Element> prefetch, Element* out) {
    Planes& planes = grad_y_.of == in ? grad_y_ : x_;
    deinterleave(in, sample, planes);
    planes.of = nullptr;
    contiguous_.reweight(planes.values, sample, frame_attention, with_means, 0, problem_.channels,
                         {}, planes.values);
    interleave(planes.values, prefetch, out);
  }

  void pool_backward(const Sample<Scalar>& sample, int64_t, int64_t, Element* out) {
    contiguous_.pool_backward(sample, 0, problem_.channels, x_.values);
    interleave(x_.values, {}, out);
  }

 private:
  struct Planes {
    Scalar* values = nullptr;     // [C, T, V]
    const Element* of = nullptr;  // the sample in them
  };

  // Planes of a sample. Padding is read only if it reaches the result.
  const Scalar* deinterleave(const Element* from, const Sample<Scalar>& sample, Planes& planes) {
    if (planes.of == from) return planes.values;
    planes.of = from;
    const int64_t frames = problem_.residual ? problem_.frames : sample.frames.axis.end;
    const int64_t positions = frames * problem_.joints;
    with_channels<kFewChannels>(problem_.channels, [&](auto channels) {
      constexpr int count = channels.value;
      int64_t p = 0;
      for (; p + lanes <= positions; p += lanes) {
        deinterleave_block<count>(from + p * count, planes.values + p, plane_);
      }
      if (p == positions) return;
      // The last block in a buffer: it would overrun into the next plane and beyond the tensor.
      const size_t rest = static_cast<size_t>(positions - p);
      Element block[count * lanes] = {};
      Scalar parted[count * lanes];
      std::memcpy(block, from + p * count, rest * count * sizeof(Element));
      deinterleave_block<count>(block, parted, lanes);
      for (int channel = 0; channel < count; ++channel) {
        std::memcpy(planes.values + channel * plane_ + p, parted + channel * lanes,
                    rest * sizeof(Scalar));
      }
    });
    return planes.values;
  }

  void interleave(const Scalar* planes, PrefetchTarget<Element> prefetch, Element* out) {
    if (!nontemporal_) prefetch = {};
    prefetch.limit = prefetch.frames * row_;
    LineWriter<Element> writer(buffer_, out, nontemporal_);
    with_channels<kFewChannels>(problem_.channels, [&](auto channels) {
      constexpr int64_t count = channels.value, bytes = count * sizeof(Element);
      constexpr int64_t at_once = LineWriter<Element>::kCapacity / bytes / lanes * lanes;
      for (int64_t p = 0; p < plane_; p += at_once) {
        const int64_t end = min(plane_, p + at_once);
        prefetch.fetch(p * count, (end - p) * count);
        Element* to = writer.position();
        for (int64_t q = p; q < end; q += lanes, to += count * lanes) {
          interleave_block<count>(planes + q, plane_, to);
        }
        writer.advance((end - p) * count);
      }
    });
    writer.finish();
  }

  const Problem& problem_;
  int64_t row_, plane_;
  bool nontemporal_;
  ContiguousPasses<Scalar> contiguous_;
  Planes x_, grad_y_;
  const Scalar* limit_;
  char* buffer_;
};

}  // namespace csta::CSTA_ISA
