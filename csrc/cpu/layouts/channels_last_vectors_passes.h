// Passes over one sample in channels-last memory where groups are whole vectors of channels: x in,
// means, correlations and y (or grad_x) out, frame by frame.
#pragma once

#include "../sample.h"
#include "channels_last_any.h"
#include "channels_last_vectors.h"
#include "contiguous.h"

namespace csta::CSTA_ISA {

template <class ElementType>
class ChannelsLastVectorsPasses {
 public:
  using Element = ElementType;
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr bool kSplits = false;
  static constexpr bool kOverlaps = false;

  static bool fit(const Problem& problem) {
    return problem.channels > 0 && problem.channels / problem.groups % lanes == 0;
  }

  // The unit of the pipeline is a frame.
  static int64_t units(const Problem& problem) { return problem.frames; }
  static int64_t units_per_step(const Problem& problem) {
    const int64_t bytes = problem.channels * problem.joints * static_cast<int64_t>(sizeof(Element));
    return round_up(max(1, kStepBytes / max(bytes, 1)), kFramesAtOnce);
  }

  CSTA_NOINLINE ChannelsLastVectorsPasses(Arena& arena, const Problem& problem, bool nontemporal)
      : problem_(problem),
        nontemporal_(nontemporal),
        row_(problem.joints * problem.channels),
        frame_rows_(round_up(problem.frames, kRowAlign<Scalar>)),
        joint_rows_(round_up(problem.joints, kRowAlign<Scalar>)) {
    plane_rows_.joints = problem.joints;
    plane_rows_.vectors = ceil_div(problem.joints, lanes);
    plane_rows_.joints_masked = false;
    valid_lanes_ = arena.take<Mask<Scalar>>(plane_rows_.vectors);
    plane_rows_.valid_lanes = valid_lanes_;
    contracted_columns_ = arena.take<Vector<Scalar>>(2 * plane_rows_.vectors);
    valid_joints_ = arena.take<int64_t>(problem.joints);
    plane_ = problem.frames * problem.joints + lanes;
    correlation_ = arena.take<Scalar>(problem.groups * plane_ + lanes);
    columns_ = arena.take<Scalar>(row_);
    block_columns_ = arena.take<Scalar>(row_);
    lost_columns_ = arena.take<Scalar>(row_);
    by_frame_ = arena.take<Scalar>(frame_rows_ * problem.channels);
    by_joint_ = arena.take<Scalar>(joint_rows_ * problem.channels);
  }

  void begin(const Sample<Scalar>& sample, const Element*) {
    const Axis& joints = sample.joints.axis;
    plane_rows_.joints_masked = joints.valid_count < problem_.joints;
    valid_count_ = 0;
    for (int64_t v = 0; v < plane_rows_.vectors * lanes; ++v) {
      const bool valid = v < problem_.joints && joints.is_valid(v);
      valid_lanes_[v / lanes][v % lanes] = valid ? -1 : 0;
      if (valid) valid_joints_[valid_count_++] = v;
    }
  }

  // Means of x: adds frames [begin, end), which come in order.
  void pool(const Element* x, Sample<Scalar>& sample, int64_t begin, int64_t end) {
    if (begin == 0) {
      clear(columns_);
      clear(lost_columns_);
    }
    const Axis& frames = sample.frames.axis;
    for (int64_t t = begin; t < min(end, frames.end);) {
      if (t % kChannelsLastBlockRows == 0) clear(block_columns_);
      const int64_t block = t / kChannelsLastBlockRows * kChannelsLastBlockRows;
      const int64_t last =
          min(min(end, frames.end), min(block + kChannelsLastBlockRows, t + kFramesAtOnce));
      if (last - t == kFramesAtOnce && frames.is_valid(t) && frames.is_valid(t + 1)) {
        pool_some<kFramesAtOnce>(x, sample, t);
      } else {
        for (int64_t i = t; i < last; ++i) pool_one(x, sample, i);
      }
      t = last;
      if (t % kChannelsLastBlockRows == 0 || t == frames.end) add_block();
    }
    if (end == problem_.frames) finish_means(sample);
  }

  // Gradients of the attention: adds frames [begin, end), in order; with `pool_too` also the means,
  // while the frames are in cache.
  void correlate(const Element* x, const Element* grad_y, Sample<Scalar>& sample, bool pool_too,
                 int64_t begin, int64_t end) {
    if (pool_too) pool(x, sample, begin, end);
    const int64_t width = problem_.channels / problem_.groups;
    for (int64_t t = begin; t < min(end, sample.frames.axis.end); ++t) {
      for (int64_t group = 0; group < problem_.groups; ++group) {
        const int64_t at = t * row_ + group * width;
        correlate_frame(x + at, grad_y + at, problem_.channels, width, problem_.joints,
                        correlation_ + group * plane_ + t * problem_.joints);
      }
    }
    if (end < problem_.frames) return;
    for (int64_t group = 0; group < problem_.groups; ++group) contract(sample, group);
  }

  void reweight(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                bool with_means, int64_t begin, int64_t end, PrefetchTarget<Element> prefetch,
                Element* out) {
    if (with_means && begin == 0) transpose_gradients(sample);
    const bool nontemporal = nontemporal_ && reinterpret_cast<uintptr_t>(out) % kCacheLine == 0;
    if (with_means) {
      nontemporal
          ? write_frames<true, true, true>(in, sample, frame_attention, begin, end, prefetch, out)
          : write_frames<false, true, true>(in, sample, frame_attention, begin, end, {}, out);
    } else {
      nontemporal
          ? write_frames<true, true, false>(in, sample, frame_attention, begin, end, prefetch, out)
          : write_frames<false, true, false>(in, sample, frame_attention, begin, end, {}, out);
    }
  }

  // out = gradients through the means only, for frames [begin, end).
  void pool_backward(const Sample<Scalar>& sample, int64_t begin, int64_t end, Element* out) {
    if (begin == 0) transpose_gradients(sample);
    write_frames<false, false, true>(nullptr, sample, nullptr, begin, end, {}, out);
  }

 private:
  void pool_one(const Element* x, const Sample<Scalar>& sample, int64_t t) {
    if (sample.frames.axis.is_valid(t)) return pool_some<1>(x, sample, t);
    std::fill_n(by_frame_ + t * problem_.channels, problem_.channels, Scalar{0});
  }

  template <int kRows>
  void pool_some(const Element* x, const Sample<Scalar>& sample, int64_t t) {
    const Element* frames[kRows];
    Scalar* means[kRows];
    for (int row = 0; row < kRows; ++row) {
      frames[row] = x + (t + row) * row_;
      means[row] = by_frame_ + (t + row) * problem_.channels;
    }
    const Scalar inverse_count =
        Scalar{1} / static_cast<Scalar>(max(sample.joints.axis.valid_count, 1));
    pool_frames<kRows>(frames, problem_.channels, valid_joints_, valid_count_, inverse_count,
                       block_columns_, means);
  }

  void finish_means(Sample<Scalar>& sample) {
    const Axis &frames = sample.frames.axis, &joints = sample.joints.axis;
    const Scalar inverse_count = Scalar{1} / static_cast<Scalar>(max(frames.valid_count, 1));
    for (int64_t i = 0; i < row_; i += lanes)
      store(columns_ + i, load(columns_ + i) * inverse_count);
    transpose(by_frame_, frames.end, frames.stride, problem_.channels, sample.frames.means);
    transpose(columns_, problem_.joints, joints.stride, problem_.channels, sample.joints.means);
  }

  void contract(Sample<Scalar>& sample, int64_t group) {
    const int64_t frame_row = group * sample.frames.axis.stride;
    const int64_t joint_row = group * sample.joints.axis.stride;
    with_vectors(plane_rows_, [&](auto vectors) {
      contract_plane<vectors.value>(plane_rows_, sample.frames.axis, correlation_ + group * plane_,
                                    sample.frames.attention + frame_row,
                                    sample.scaled_joints + joint_row, sample.scale,
                                    contracted_columns_, sample.frames.grad_attention + frame_row,
                                    sample.joints.grad_attention + joint_row);
    });
  }

  void transpose_gradients(const Sample<Scalar>& sample) {
    const int64_t channels = problem_.channels;
    transpose(sample.frames.grad_means, channels, channels, frame_rows_, by_frame_);
    transpose(sample.joints.grad_means, channels, channels, joint_rows_, by_joint_);
  }

  template <bool kNontemporal, bool kWithGain, bool kWithMeans>
  void write_frames(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                    int64_t begin, int64_t end, PrefetchTarget<Element> prefetch, Element* out) {
    const int64_t channels = problem_.channels;
    const Scalar residual = problem_.residual ? Scalar{1} : Scalar{0};
    FrameGain<Scalar> gain{nullptr,
                           sample.scaled_joints,
                           sample.frames.axis.stride,
                           sample.joints.axis.stride,
                           problem_.groups,
                           nullptr,
                           by_joint_};
    for (int64_t t = begin; t < end; ++t) {
      const bool valid = sample.frames.axis.is_valid(t);
      gain.attention = frame_attention + t;
      gain.frame_gradients = by_frame_ + t * channels;
      for (int64_t v = 0; v < problem_.joints; ++v) {
        const int64_t at = t * row_ + v * channels;
        for (int64_t c = 0; kNontemporal && c < channels; c += per_line) prefetch.fetch(at + c);
        if (valid && sample.joints.axis.is_valid(v)) {
          reweight_position<kNontemporal, kWithGain, kWithMeans>(in + at, gain, residual, channels,
                                                                 v, out + at);
        } else if (kWithGain && problem_.residual) {
          std::memcpy(out + at, in + at, static_cast<size_t>(channels) * sizeof(Element));
        } else {
          std::memset(out + at, 0, static_cast<size_t>(channels) * sizeof(Element));
        }
      }
    }
  }

  void clear(Scalar* row) const { std::fill_n(row, row_, Scalar{0}); }
  void add_block() const {
    for (int64_t i = 0; i < row_; i += lanes) {
      add_compensated<Scalar>(load(block_columns_ + i), columns_ + i, lost_columns_ + i);
    }
  }

  static constexpr int64_t per_line = kCacheLine / static_cast<int64_t>(sizeof(Element));

  const Problem& problem_;
  bool nontemporal_;
  int64_t row_, plane_;
  int64_t frame_rows_, joint_rows_;       // T and V, padded
  ContiguousRows<Element> plane_rows_{};  // rows of the correlation planes
  Mask<Scalar>* valid_lanes_;
  Vector<Scalar>* contracted_columns_;
  int64_t* valid_joints_;
  int64_t valid_count_ = 0;
  Scalar* correlation_;               // [G] planes
  Scalar *columns_, *block_columns_;  // [V, C]: sums over frames, and over a block of them
  Scalar* lost_columns_;              // [V, C]: rounding errors of columns_
  Scalar *by_frame_, *by_joint_;      // [T, C], [V, C]: means or their gradients
};

}  // namespace csta::CSTA_ISA
