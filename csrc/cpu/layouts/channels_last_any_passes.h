// The passes over a sample in channels-last memory, with the scratch they need.
#pragma once

#include "../sample.h"
#include "channels_last_any.h"
#include "contiguous_flat.h"

namespace csta::CSTA_ISA {

template <class ElementType>
class InterleavedPasses {
 public:
  using Element = ElementType;
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr bool kSplits = false;  // a sample's channels lie too close to be split
  static constexpr bool kJoins = false;

  // A sample's parts are its frames.
  static int64_t parts(const Problem& problem) { return problem.frames; }
  static int64_t parts_at_once(const Problem& problem) {
    const int64_t bytes = problem.channels * problem.joints * static_cast<int64_t>(sizeof(Element));
    return larger(1, kPartBytes / larger(bytes, 1));
  }

  CSTA_APART InterleavedPasses(Carver& carver, const Problem& problem, bool stream)
      : problem_(problem), stream_(stream) {
    rows_.channels = problem.channels;
    rows_.joints = problem.joints;
    rows_.row = problem.channels * problem.joints;
    rows_.period = problem.channels;
    while (rows_.period % lanes != 0) rows_.period += problem.channels;
    rows_.last_lanes = first_lanes<Scalar>(rows_.row % lanes);
    const int64_t row = round_up(rows_.row, lanes), period = rows_.period;
    real_lanes_ = carver.take<Mask<Scalar>>(problem.joint_mask == nullptr ? 0 : row / lanes);
    mean_columns_ = carver.take<Scalar>(row);
    block_mean_columns_ = carver.take<Scalar>(row);
    lost_mean_columns_ = carver.take<Scalar>(row);
    product_columns_ = carver.take<Scalar>(row);
    block_product_columns_ = carver.take<Scalar>(row);
    lost_product_columns_ = carver.take<Scalar>(row);
    joint_gains_ = carver.take<Scalar>(row);
    joint_mean_gradients_ = carver.take<Scalar>(row);
    phases_ = carver.take<Scalar>(period);
    frame_phases_ = carver.take<Scalar>(period);
    mean_phases_ = carver.take<Scalar>(period);
    channel_values_ = carver.take<Scalar>(problem.channels);
    const int64_t row_bytes = row * static_cast<int64_t>(sizeof(Element));
    buffer_ = carver.take<char>(larger(row_bytes, LineWriter<Element>::kCapacity) +
                                LineWriter<Element>::kSlack);
  }

  CSTA_APART void begin(const Sample<Scalar>& sample, const Element* limit) {
    rows_.limit = limit;
    rows_.real_lanes = nullptr;
    if (sample.joints.axis.real_count == problem_.joints) return;
    // Without a mask this is a sample of no real frame, whose rows are never computed.
    if (problem_.joint_mask == nullptr) return;
    rows_.real_lanes = real_lanes_;
    for (int64_t i = 0; i < round_up(rows_.row, lanes); ++i) {
      const bool real = i < rows_.row && sample.joints.axis.is_real(i / problem_.channels);
      real_lanes_[i / lanes][i % lanes] = real ? -1 : 0;
    }
  }

  // Means of x, from its frames [begin, end), which are taken in order.
  void pool(const Element* x, Sample<Scalar>& sample, int64_t begin, int64_t end) {
    if (begin == 0) {
      clear(mean_columns_);
      clear(lost_mean_columns_);
    }
    const Axis& frames = sample.frames.axis;
    const int64_t last = smaller(end, frames.end);
    const Scalar share = Scalar{1} / static_cast<Scalar>(larger(sample.joints.axis.real_count, 1));
    for (int64_t t = begin; t < last; ++t) {
      if (starts_block(t)) clear(block_mean_columns_);
      if (frames.is_real(t)) {
        pool_row(rows_, x + t * rows_.row, block_mean_columns_, phases_);
      } else {
        clear_phases();
      }
      add_up_phases(t, problem_.channels, share, sample.frames.means, frames.stride);
      if (ends_block(t, sample)) add(block_mean_columns_, mean_columns_, lost_mean_columns_);
    }
    if (end == problem_.frames) finish_means(sample);
  }

  // Gradients of the attention, from frames [begin, end) in order; with `pool_too`, the means as
  // well, while the frames are in cache.
  void correlate(const Element* x, const Element* u, Sample<Scalar>& sample, bool pool_too,
                 int64_t begin, int64_t end) {
    if (begin == 0) {
      spread_joints(sample);
      clear(product_columns_);
      clear(lost_product_columns_);
    }
    if (pool_too) pool(x, sample, begin, end);
    const int64_t stride = sample.frames.axis.stride;
    const int64_t last = smaller(end, sample.frames.axis.end);
    for (int64_t t = begin; t < last; ++t) {
      if (starts_block(t)) clear(block_product_columns_);
      if (sample.frames.axis.is_real(t)) {
        repeat_attention(sample.frames.attention + t, stride);
        correlate_row(rows_, x + t * rows_.row, u + t * rows_.row, frame_phases_, joint_gains_,
                      block_product_columns_, phases_);
      } else {
        clear_phases();
      }
      add_up_phases(t, problem_.groups, Scalar{1}, sample.frames.scores, stride);
      if (ends_block(t, sample))
        add(block_product_columns_, product_columns_, lost_product_columns_);
    }
    if (end == problem_.frames) finish_joint_gradients(sample);
  }

  void reweight(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                bool with_means, int64_t begin, int64_t end, Ahead<Element> ahead, Element* out) {
    if (begin == 0) {
      spread_joints(sample);
      if (with_means) spread_joint_gradients(sample);
    }
    if (with_means) {
      write_rows<true, true>(in, sample, frame_attention, begin, end, ahead, out);
    } else {
      write_rows<true, false>(in, sample, frame_attention, begin, end, ahead, out);
    }
  }

  // out = the gradients through the means alone, of frames [begin, end).
  void spread_means(const Sample<Scalar>& sample, int64_t begin, int64_t end, Element* out) {
    if (begin == 0) spread_joint_gradients(sample);
    write_rows<false, true>(nullptr, sample, nullptr, begin, end, {}, out);
  }

 private:
  // Sums over frames are taken block by block.
  static bool starts_block(int64_t t) { return t % kInterleavedBlockRows == 0; }
  static bool ends_block(int64_t t, const Sample<Scalar>& sample) {
    return (t + 1) % kInterleavedBlockRows == 0 || t + 1 == sample.frames.axis.end;
  }

  void clear_phases() const { std::fill_n(phases_, rows_.period, Scalar{0}); }

  // out[p * stride + t] = share * the sum of frame t's phases that belong to part p of the
  // channels.
  void add_up_phases(int64_t t, int64_t parts, Scalar share, Scalar* out, int64_t stride) const {
    const int64_t width = parts > 0 ? problem_.channels / parts : 0;
    for (int64_t part = 0; part < parts; ++part) {
      Scalar sum{};
      for (int64_t c = 0; c < width; ++c) sum += rows_.of_channel(phases_, part * width + c);
      out[part * stride + t] = sum * share;
    }
  }

  void finish_means(Sample<Scalar>& sample) {
    const Axis &frames = sample.frames.axis, &joints = sample.joints.axis;
    const Scalar per_frame = Scalar{1} / static_cast<Scalar>(larger(frames.real_count, 1));
    for (int64_t channel = 0; channel < problem_.channels; ++channel) {
      fill_unreal(frames, Scalar{0}, sample.frames.means + channel * frames.stride);
      Scalar* means = sample.joints.means + channel * joints.stride;
      for (int64_t v = 0; v < problem_.joints; ++v) {
        means[v] = mean_columns_[v * problem_.channels + channel] * per_frame;
      }
      for (int64_t v = problem_.joints; v < joints.stride; ++v) means[v] = 0;
    }
  }

  void finish_joint_gradients(Sample<Scalar>& sample) {
    const int64_t width = problem_.channels / problem_.groups;
    for (int64_t group = 0; group < problem_.groups; ++group) {
      for (int64_t v = 0; v < problem_.joints; ++v) {
        const Scalar* products = product_columns_ + v * problem_.channels + group * width;
        Scalar sum{};
        for (int64_t c = 0; c < width; ++c) sum += products[c];
        sample.joints.scores[group * sample.joints.axis.stride + v] = sum * sample.kappa;
      }
    }
  }

  template <bool kProduct, bool kMeans>
  void write_rows(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                  int64_t begin, int64_t end, Ahead<Element> ahead, Element* out) {
    LineWriter<Element> writer(buffer_, out + begin * rows_.row, stream_);
    const int64_t row_bytes = rows_.row * static_cast<int64_t>(sizeof(Element));
    const int64_t at_once = larger(1, LineWriter<Element>::kCapacity / larger(row_bytes, 1));
    for (int64_t t = begin; t < end; t += at_once) {
      const int64_t last = smaller(end, t + at_once);
      for (int64_t row = t; row < last; ++row) {
        for (int64_t i = 0; stream_ && i < rows_.row; i += per_line)
          ahead.fetch(row * rows_.row + i);
        write_row<kProduct, kMeans>(in + row * rows_.row, sample, frame_attention, row,
                                    writer.position() + (row - t) * rows_.row);
      }
      writer.advance((last - t) * rows_.row);
    }
    writer.finish();
  }

  template <bool kProduct, bool kMeans>
  void write_row(const Element* row, const Sample<Scalar>& sample, const Scalar* frame_attention,
                 int64_t t, Element* out) {
    const int64_t stride = sample.frames.axis.stride;
    if (!sample.frames.axis.is_real(t)) {
      const size_t bytes = static_cast<size_t>(rows_.row) * sizeof(Element);
      problem_.residual ? std::memcpy(out, row, bytes) : std::memset(out, 0, bytes);
      return;
    }
    if (kProduct) repeat_attention(frame_attention + t, stride);
    if (kMeans) rows_.repeat(sample.frames.mean_gradients + t, stride, mean_phases_);
    reweight_row<kProduct, kMeans>(rows_, row, frame_phases_, joint_gains_, mean_phases_,
                                   joint_mean_gradients_, problem_.residual, out);
  }

  // The attention of one frame, group by group, along the period.
  void repeat_attention(const Scalar* attention, int64_t stride) {
    const int64_t width = problem_.channels / problem_.groups;
    for (int64_t group = 0; group < problem_.groups; ++group) {
      for (int64_t i = 0; i < width; ++i) {
        channel_values_[group * width + i] = attention[group * stride];
      }
    }
    rows_.repeat(channel_values_, 1, frame_phases_);
  }

  void spread_joints(const Sample<Scalar>& sample) {
    rows_.spread(sample.scaled_joints, sample.joints.axis.stride, problem_.groups, joint_gains_);
  }

  void spread_joint_gradients(const Sample<Scalar>& sample) {
    rows_.spread(sample.joints.mean_gradients, sample.joints.axis.stride, problem_.channels,
                 joint_mean_gradients_);
  }

  void clear(Scalar* row) const {
    for (int64_t i = 0; i < rows_.row; i += lanes) store(row + i, Vector<Scalar>{});
  }
  void add(const Scalar* block, Scalar* total, Scalar* lost) const {
    for (int64_t i = 0; i < rows_.row; i += lanes) {
      add_compensated<Scalar>(load(block + i), total + i, lost + i);
    }
  }

  static constexpr int64_t per_line = kLine / static_cast<int64_t>(sizeof(Element));

  const Problem& problem_;
  bool stream_;
  InterleavedRows<Element> rows_{};
  Mask<Scalar>* real_lanes_;
  Scalar *mean_columns_, *block_mean_columns_, *lost_mean_columns_;
  Scalar *product_columns_, *block_product_columns_, *lost_product_columns_;
  Scalar *joint_gains_, *joint_mean_gradients_;
  Scalar *phases_, *frame_phases_, *mean_phases_, *channel_values_;
  char* buffer_;
};

}  // namespace csta::CSTA_ISA
