// Passes over one sample in channels-last memory for any number of channels: x in, means,
// correlations and y (or grad_x) out, row by row.
#pragma once

#include "../sample.h"
#include "channels_last_any.h"
#include "contiguous_flat.h"

namespace csta::CSTA_ISA {

template <class ElementType>
class ChannelsLastAnyPasses {
 public:
  using Element = ElementType;
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr bool kSplits = false;  // channels share cache lines
  static constexpr bool kOverlaps = false;

  // The unit of the pipeline is a frame.
  static int64_t units(const Problem& problem) { return problem.frames; }
  static int64_t units_per_step(const Problem& problem) {
    const int64_t bytes = problem.channels * problem.joints * static_cast<int64_t>(sizeof(Element));
    return max(1, kStepBytes / max(bytes, 1));
  }

  CSTA_NOINLINE ChannelsLastAnyPasses(Arena& arena, const Problem& problem, bool nontemporal)
      : problem_(problem), nontemporal_(nontemporal) {
    rows_.channels = problem.channels;
    rows_.joints = problem.joints;
    rows_.row = problem.channels * problem.joints;
    rows_.period = problem.channels;
    while (rows_.period % lanes != 0) rows_.period += problem.channels;
    rows_.last_lanes = first_lanes<Scalar>(rows_.row % lanes);
    const int64_t row = round_up(rows_.row, lanes), period = rows_.period;
    valid_lanes_ = arena.take<Mask<Scalar>>(problem.joint_mask == nullptr ? 0 : row / lanes);
    mean_columns_ = arena.take<Scalar>(row);
    block_mean_columns_ = arena.take<Scalar>(row);
    lost_mean_columns_ = arena.take<Scalar>(row);
    correlation_columns_ = arena.take<Scalar>(row);
    block_correlation_columns_ = arena.take<Scalar>(row);
    lost_correlation_columns_ = arena.take<Scalar>(row);
    joint_gains_ = arena.take<Scalar>(row);
    joint_grad_means_ = arena.take<Scalar>(row);
    phases_ = arena.take<Scalar>(period);
    frame_phases_ = arena.take<Scalar>(period);
    mean_phases_ = arena.take<Scalar>(period);
    channel_values_ = arena.take<Scalar>(problem.channels);
    const int64_t row_bytes = row * static_cast<int64_t>(sizeof(Element));
    buffer_ = arena.take<char>(max(row_bytes, LineWriter<Element>::kCapacity) +
                               LineWriter<Element>::kSlack);
  }

  CSTA_NOINLINE void begin(const Sample<Scalar>& sample, const Element* limit) {
    rows_.limit = limit;
    rows_.valid_lanes = nullptr;
    if (sample.joints.axis.valid_count == problem_.joints) return;
    // No mask, yet joints are invalid: the sample has no valid frame, and no row is computed.
    if (problem_.joint_mask == nullptr) return;
    rows_.valid_lanes = valid_lanes_;
    for (int64_t i = 0; i < round_up(rows_.row, lanes); ++i) {
      const bool valid = i < rows_.row && sample.joints.axis.is_valid(i / problem_.channels);
      valid_lanes_[i / lanes][i % lanes] = valid ? -1 : 0;
    }
  }

  // Means of x: adds frames [begin, end), which come in order.
  void pool(const Element* x, Sample<Scalar>& sample, int64_t begin, int64_t end) {
    if (begin == 0) {
      clear(mean_columns_);
      clear(lost_mean_columns_);
    }
    const Axis& frames = sample.frames.axis;
    const int64_t last = min(end, frames.end);
    const Scalar inverse_count =
        Scalar{1} / static_cast<Scalar>(max(sample.joints.axis.valid_count, 1));
    for (int64_t t = begin; t < last; ++t) {
      if (starts_block(t)) clear(block_mean_columns_);
      if (frames.is_valid(t)) {
        pool_row(rows_, x + t * rows_.row, block_mean_columns_, phases_);
      } else {
        clear_phases();
      }
      add_up_phases(t, problem_.channels, inverse_count, sample.frames.means, frames.stride);
      if (ends_block(t, sample)) add(block_mean_columns_, mean_columns_, lost_mean_columns_);
    }
    if (end == problem_.frames) finish_means(sample);
  }

  // Gradients of the attention: adds frames [begin, end), in order; with `pool_too` also the means,
  // while the frames are in cache.
  void correlate(const Element* x, const Element* grad_y, Sample<Scalar>& sample, bool pool_too,
                 int64_t begin, int64_t end) {
    if (begin == 0) {
      expand_joint_gains(sample);
      clear(correlation_columns_);
      clear(lost_correlation_columns_);
    }
    if (pool_too) pool(x, sample, begin, end);
    const int64_t stride = sample.frames.axis.stride;
    const int64_t last = min(end, sample.frames.axis.end);
    for (int64_t t = begin; t < last; ++t) {
      if (starts_block(t)) clear(block_correlation_columns_);
      if (sample.frames.axis.is_valid(t)) {
        repeat_attention(sample.frames.attention + t, stride);
        correlate_row(rows_, x + t * rows_.row, grad_y + t * rows_.row, frame_phases_, joint_gains_,
                      block_correlation_columns_, phases_);
      } else {
        clear_phases();
      }
      add_up_phases(t, problem_.groups, Scalar{1}, sample.frames.grad_attention, stride);
      if (ends_block(t, sample))
        add(block_correlation_columns_, correlation_columns_, lost_correlation_columns_);
    }
    if (end == problem_.frames) finish_joint_gradients(sample);
  }

  void reweight(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                bool with_means, int64_t begin, int64_t end, PrefetchTarget<Element> prefetch,
                Element* out) {
    if (begin == 0) {
      expand_joint_gains(sample);
      if (with_means) expand_joint_grad_means(sample);
    }
    if (with_means) {
      write_rows<true, true>(in, sample, frame_attention, begin, end, prefetch, out);
    } else {
      write_rows<true, false>(in, sample, frame_attention, begin, end, prefetch, out);
    }
  }

  // out = gradients through the means only, for frames [begin, end).
  void pool_backward(const Sample<Scalar>& sample, int64_t begin, int64_t end, Element* out) {
    if (begin == 0) expand_joint_grad_means(sample);
    write_rows<false, true>(nullptr, sample, nullptr, begin, end, {}, out);
  }

 private:
  // Blocks of the sums over frames.
  static bool starts_block(int64_t t) { return t % kChannelsLastBlockRows == 0; }
  static bool ends_block(int64_t t, const Sample<Scalar>& sample) {
    return (t + 1) % kChannelsLastBlockRows == 0 || t + 1 == sample.frames.axis.end;
  }

  void clear_phases() const { std::fill_n(phases_, rows_.period, Scalar{0}); }

  // out[s * stride + t] = inverse_count * sum of frame t's phases in section s of the channels.
  void add_up_phases(int64_t t, int64_t sections, Scalar inverse_count, Scalar* out,
                     int64_t stride) const {
    const int64_t width = sections > 0 ? problem_.channels / sections : 0;
    for (int64_t section = 0; section < sections; ++section) {
      Scalar sum{};
      for (int64_t c = 0; c < width; ++c) sum += rows_.of_channel(phases_, section * width + c);
      out[section * stride + t] = sum * inverse_count;
    }
  }

  void finish_means(Sample<Scalar>& sample) {
    const Axis &frames = sample.frames.axis, &joints = sample.joints.axis;
    const Scalar inverse_frames = Scalar{1} / static_cast<Scalar>(max(frames.valid_count, 1));
    for (int64_t channel = 0; channel < problem_.channels; ++channel) {
      fill_invalid(frames, Scalar{0}, sample.frames.means + channel * frames.stride);
      Scalar* means = sample.joints.means + channel * joints.stride;
      for (int64_t v = 0; v < problem_.joints; ++v) {
        means[v] = mean_columns_[v * problem_.channels + channel] * inverse_frames;
      }
      for (int64_t v = problem_.joints; v < joints.stride; ++v) means[v] = 0;
    }
  }

  void finish_joint_gradients(Sample<Scalar>& sample) {
    const int64_t width = problem_.channels / problem_.groups;
    for (int64_t group = 0; group < problem_.groups; ++group) {
      for (int64_t v = 0; v < problem_.joints; ++v) {
        const Scalar* correlation = correlation_columns_ + v * problem_.channels + group * width;
        Scalar sum{};
        for (int64_t c = 0; c < width; ++c) sum += correlation[c];
        sample.joints.grad_attention[group * sample.joints.axis.stride + v] = sum * sample.scale;
      }
    }
  }

  template <bool kWithGain, bool kWithMeans>
  void write_rows(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                  int64_t begin, int64_t end, PrefetchTarget<Element> prefetch, Element* out) {
    LineWriter<Element> writer(buffer_, out + begin * rows_.row, nontemporal_);
    const int64_t row_bytes = rows_.row * static_cast<int64_t>(sizeof(Element));
    const int64_t at_once = max(1, LineWriter<Element>::kCapacity / max(row_bytes, 1));
    for (int64_t t = begin; t < end; t += at_once) {
      const int64_t last = min(end, t + at_once);
      for (int64_t row = t; row < last; ++row) {
        for (int64_t i = 0; nontemporal_ && i < rows_.row; i += per_line)
          prefetch.fetch(row * rows_.row + i);
        write_row<kWithGain, kWithMeans>(in + row * rows_.row, sample, frame_attention, row,
                                         writer.position() + (row - t) * rows_.row);
      }
      writer.advance((last - t) * rows_.row);
    }
    writer.finish();
  }

  template <bool kWithGain, bool kWithMeans>
  void write_row(const Element* row, const Sample<Scalar>& sample, const Scalar* frame_attention,
                 int64_t t, Element* out) {
    const int64_t stride = sample.frames.axis.stride;
    if (!sample.frames.axis.is_valid(t)) {
      const size_t bytes = static_cast<size_t>(rows_.row) * sizeof(Element);
      problem_.residual ? std::memcpy(out, row, bytes) : std::memset(out, 0, bytes);
      return;
    }
    if (kWithGain) repeat_attention(frame_attention + t, stride);
    if (kWithMeans) rows_.repeat(sample.frames.grad_means + t, stride, mean_phases_);
    reweight_row<kWithGain, kWithMeans>(rows_, row, frame_phases_, joint_gains_, mean_phases_,
                                        joint_grad_means_, problem_.residual, out);
  }

  // Broadcasts the attention of one frame along the period, by group.
  void repeat_attention(const Scalar* attention, int64_t stride) {
    const int64_t width = problem_.channels / problem_.groups;
    for (int64_t group = 0; group < problem_.groups; ++group) {
      for (int64_t i = 0; i < width; ++i) {
        channel_values_[group * width + i] = attention[group * stride];
      }
    }
    rows_.repeat(channel_values_, 1, frame_phases_);
  }

  void expand_joint_gains(const Sample<Scalar>& sample) {
    rows_.expand(sample.scaled_joints, sample.joints.axis.stride, problem_.groups, joint_gains_);
  }

  void expand_joint_grad_means(const Sample<Scalar>& sample) {
    rows_.expand(sample.joints.grad_means, sample.joints.axis.stride, problem_.channels,
                 joint_grad_means_);
  }

  void clear(Scalar* row) const {
    for (int64_t i = 0; i < rows_.row; i += lanes) store(row + i, Vector<Scalar>{});
  }
  void add(const Scalar* block, Scalar* total, Scalar* lost) const {
    for (int64_t i = 0; i < rows_.row; i += lanes) {
      add_compensated<Scalar>(load(block + i), total + i, lost + i);
    }
  }

  static constexpr int64_t per_line = kCacheLine / static_cast<int64_t>(sizeof(Element));

  const Problem& problem_;
  bool nontemporal_;
  ChannelsLastRows<Element> rows_{};
  Mask<Scalar>* valid_lanes_;
  Scalar *mean_columns_, *block_mean_columns_, *lost_mean_columns_;
  Scalar *correlation_columns_, *block_correlation_columns_, *lost_correlation_columns_;
  Scalar *joint_gains_, *joint_grad_means_;
  Scalar *phases_, *frame_phases_, *mean_phases_, *channel_values_;
  char* buffer_;
};

}  // namespace csta::CSTA_ISA
