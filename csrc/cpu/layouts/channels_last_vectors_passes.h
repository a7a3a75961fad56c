// The passes over a sample in channels-last memory of whole vectors of channels, with the scratch
// they need.
#pragma once

#include "../sample.h"
#include "channels_last_any.h"
#include "channels_last_vectors.h"
#include "contiguous.h"

namespace csta::CSTA_ISA {

template <class ElementType>
class InterleavedVectorPasses {
 public:
  using Element = ElementType;
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr bool kSplits = false;
  static constexpr bool kJoins = false;

  static bool fit(const Problem& problem) {
    return problem.channels > 0 && problem.channels / problem.groups % lanes == 0;
  }

  // A sample's parts are its frames.
  static int64_t parts(const Problem& problem) { return problem.frames; }
  static int64_t parts_at_once(const Problem& problem) {
    const int64_t bytes = problem.channels * problem.joints * static_cast<int64_t>(sizeof(Element));
    return round_up(larger(1, kPartBytes / larger(bytes, 1)), kFramesAtOnce);
  }

  CSTA_APART InterleavedVectorPasses(Carver& carver, const Problem& problem, bool stream)
      : problem_(problem),
        stream_(stream),
        row_(problem.joints * problem.channels),
        frame_rows_(round_up(problem.frames, kRowAlign<Scalar>)),
        joint_rows_(round_up(problem.joints, kRowAlign<Scalar>)) {
    plane_rows_.joints = problem.joints;
    plane_rows_.vectors = (problem.joints + lanes - 1) / lanes;
    plane_rows_.joints_masked = false;
    real_lanes_ = carver.take<Mask<Scalar>>(plane_rows_.vectors);
    plane_rows_.real_lanes = real_lanes_;
    contracted_columns_ = carver.take<Vector<Scalar>>(2 * plane_rows_.vectors);
    real_joints_ = carver.take<int64_t>(problem.joints);
    plane_ = problem.frames * problem.joints + lanes;
    products_ = carver.take<Scalar>(problem.groups * plane_ + lanes);
    columns_ = carver.take<Scalar>(row_);
    block_columns_ = carver.take<Scalar>(row_);
    lost_columns_ = carver.take<Scalar>(row_);
    by_frame_ = carver.take<Scalar>(frame_rows_ * problem.channels);
    by_joint_ = carver.take<Scalar>(joint_rows_ * problem.channels);
  }

  void begin(const Sample<Scalar>& sample, const Element*) {
    const Axis& joints = sample.joints.axis;
    plane_rows_.joints_masked = joints.real_count < problem_.joints;
    real_count_ = 0;
    for (int64_t v = 0; v < plane_rows_.vectors * lanes; ++v) {
      const bool real = v < problem_.joints && joints.is_real(v);
      real_lanes_[v / lanes][v % lanes] = real ? -1 : 0;
      if (real) real_joints_[real_count_++] = v;
    }
  }

  // Means of x, from its frames [begin, end), which are taken in order.
  void pool(const Element* x, Sample<Scalar>& sample, int64_t begin, int64_t end) {
    if (begin == 0) {
      clear(columns_);
      clear(lost_columns_);
    }
    const Axis& frames = sample.frames.axis;
    for (int64_t t = begin; t < smaller(end, frames.end);) {
      if (t % kInterleavedBlockRows == 0) clear(block_columns_);
      const int64_t block = t / kInterleavedBlockRows * kInterleavedBlockRows;
      const int64_t last = smaller(smaller(end, frames.end),
                                   smaller(block + kInterleavedBlockRows, t + kFramesAtOnce));
      if (last - t == kFramesAtOnce && frames.is_real(t) && frames.is_real(t + 1)) {
        pool_some<kFramesAtOnce>(x, sample, t);
      } else {
        for (int64_t i = t; i < last; ++i) pool_one(x, sample, i);
      }
      t = last;
      if (t % kInterleavedBlockRows == 0 || t == frames.end) add_block();
    }
    if (end == problem_.frames) finish_means(sample);
  }

  // Gradients of the attention, from frames [begin, end) in order; with `pool_too`, the means as
  // well, while the frames are in cache.
  void correlate(const Element* x, const Element* u, Sample<Scalar>& sample, bool pool_too,
                 int64_t begin, int64_t end) {
    if (pool_too) pool(x, sample, begin, end);
    const int64_t width = problem_.channels / problem_.groups;
    for (int64_t t = begin; t < smaller(end, sample.frames.axis.end); ++t) {
      for (int64_t group = 0; group < problem_.groups; ++group) {
        const int64_t at = t * row_ + group * width;
        correlate_frame(x + at, u + at, problem_.channels, width, problem_.joints,
                        products_ + group * plane_ + t * problem_.joints);
      }
    }
    if (end < problem_.frames) return;
    for (int64_t group = 0; group < problem_.groups; ++group) contract(sample, group);
  }

  void reweight(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                bool with_means, int64_t begin, int64_t end, Ahead<Element> ahead, Element* out) {
    if (with_means && begin == 0) transpose_gradients(sample);
    const bool streams = stream_ && reinterpret_cast<uintptr_t>(out) % kLine == 0;
    if (with_means) {
      streams ? write_frames<true, true, true>(in, sample, frame_attention, begin, end, ahead, out)
              : write_frames<false, true, true>(in, sample, frame_attention, begin, end, {}, out);
    } else {
      streams ? write_frames<true, true, false>(in, sample, frame_attention, begin, end, ahead, out)
              : write_frames<false, true, false>(in, sample, frame_attention, begin, end, {}, out);
    }
  }

  // out = the gradients through the means alone, of frames [begin, end).
  void spread_means(const Sample<Scalar>& sample, int64_t begin, int64_t end, Element* out) {
    if (begin == 0) transpose_gradients(sample);
    write_frames<false, false, true>(nullptr, sample, nullptr, begin, end, {}, out);
  }

 private:
  void pool_one(const Element* x, const Sample<Scalar>& sample, int64_t t) {
    if (sample.frames.axis.is_real(t)) return pool_some<1>(x, sample, t);
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
    const Scalar share = Scalar{1} / static_cast<Scalar>(larger(sample.joints.axis.real_count, 1));
    pool_frames<kRows>(frames, problem_.channels, real_joints_, real_count_, share, block_columns_,
                       means);
  }

  void finish_means(Sample<Scalar>& sample) {
    const Axis &frames = sample.frames.axis, &joints = sample.joints.axis;
    const Scalar share = Scalar{1} / static_cast<Scalar>(larger(frames.real_count, 1));
    for (int64_t i = 0; i < row_; i += lanes) store(columns_ + i, load(columns_ + i) * share);
    transpose(by_frame_, frames.end, frames.stride, problem_.channels, sample.frames.means);
    transpose(columns_, problem_.joints, joints.stride, problem_.channels, sample.joints.means);
  }

  void contract(Sample<Scalar>& sample, int64_t group) {
    const int64_t frame_row = group * sample.frames.axis.stride;
    const int64_t joint_row = group * sample.joints.axis.stride;
    with_vectors(plane_rows_, [&](auto vectors) {
      contract_plane<vectors.value>(
          plane_rows_, sample.frames.axis, products_ + group * plane_,
          sample.frames.attention + frame_row, sample.scaled_joints + joint_row, sample.kappa,
          contracted_columns_, sample.frames.scores + frame_row, sample.joints.scores + joint_row);
    });
  }

  void transpose_gradients(const Sample<Scalar>& sample) {
    const int64_t channels = problem_.channels;
    transpose(sample.frames.mean_gradients, channels, channels, frame_rows_, by_frame_);
    transpose(sample.joints.mean_gradients, channels, channels, joint_rows_, by_joint_);
  }

  template <bool kStream, bool kProduct, bool kMeans>
  void write_frames(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                    int64_t begin, int64_t end, Ahead<Element> ahead, Element* out) {
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
      const bool real = sample.frames.axis.is_real(t);
      gain.attention = frame_attention + t;
      gain.frame_gradients = by_frame_ + t * channels;
      for (int64_t v = 0; v < problem_.joints; ++v) {
        const int64_t at = t * row_ + v * channels;
        for (int64_t c = 0; kStream && c < channels; c += per_line) ahead.fetch(at + c);
        if (real && sample.joints.axis.is_real(v)) {
          reweight_position<kStream, kProduct, kMeans>(in + at, gain, residual, channels, v,
                                                       out + at);
        } else if (kProduct && problem_.residual) {
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

  static constexpr int64_t per_line = kLine / static_cast<int64_t>(sizeof(Element));

  const Problem& problem_;
  bool stream_;
  int64_t row_, plane_;
  int64_t frame_rows_, joint_rows_;   // T and V, padded
  PlanarRows<Element> plane_rows_{};  // of the planes of products
  Mask<Scalar>* real_lanes_;
  Vector<Scalar>* contracted_columns_;
  int64_t* real_joints_;
  int64_t real_count_ = 0;
  Scalar* products_;                  // [G] planes
  Scalar *columns_, *block_columns_;  // [V, C]: sums over frames, and over a block of them
  Scalar* lost_columns_;              // [V, C]: what rounding took off the former
  Scalar *by_frame_, *by_joint_;      // [T, C], [V, C]: means or their gradients
};

}  // namespace csta::CSTA_ISA
