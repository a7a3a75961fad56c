// Passes over one sample in contiguous memory: x in, means, correlations and y (or grad_x) out,
// plane by plane.
#pragma once

#include "../sample.h"
#include "contiguous.h"
#include "contiguous_flat.h"
#include "contiguous_pool.h"

namespace csta::CSTA_ISA {

template <class ElementType>
class ContiguousPasses {
 public:
  using Element = ElementType;
  using Scalar = Arithmetic<Element>;
  static constexpr int lanes = kLanes<Scalar>;
  static constexpr bool kSplits = true;    // threads can share a sample's channels
  static constexpr bool kOverlaps = true;  // one loop can write a sample and pool the next

  // The unit of the pipeline is a channel; a step is whole blocks of correlated channels.
  static int64_t units(const Problem& problem) { return problem.channels; }
  static int64_t units_per_step(const Problem& problem) {
    const int64_t bytes = problem.frames * problem.joints * static_cast<int64_t>(sizeof(Element));
    const int64_t blocks = kStepBytes / max(bytes * kCorrelatedChannels, 1);
    return max(1, blocks) * kCorrelatedChannels;
  }

  CSTA_NOINLINE ContiguousPasses(Arena& arena, const Problem& problem, bool nontemporal)
      : problem_(problem),
        plane_(problem.frames * problem.joints),
        nontemporal_(nontemporal),
        flat_gradient_(arena, problem.joints) {
    rows_.joints = problem.joints;
    rows_.vectors = ceil_div(problem.joints, lanes);
    const int64_t row_bytes = rows_.vectors * lanes * static_cast<int64_t>(sizeof(Element));
    rows_.valid_lanes = valid_lanes_ = arena.take<Mask<Scalar>>(rows_.vectors);
    columns_ = arena.take<Vector<Scalar>>(3 * rows_.vectors);
    gain_ = arena.take<Scalar>(plane_ + kCacheLine + lanes);
    correlation_ = arena.take<Scalar>(plane_ + 2 * lanes);
    buffer_ = arena.take<char>(max(row_bytes, LineWriter<Element>::kCapacity) +
                               LineWriter<Element>::kSlack);
  }

  CSTA_NOINLINE void begin(const Sample<Scalar>& sample, const Element* limit) {
    rows_.limit = limit;
    gain_group_ = -1;
    const bool masked = sample.joints.axis.valid_count < problem_.joints;
    if (!masked && plain_lanes_) return;
    rows_.joints_masked = masked;
    for (int64_t k = 0; k < rows_.vectors; ++k) {
      for (int lane = 0; lane < lanes; ++lane) {
        valid_lanes_[k][lane] = sample.joints.axis.is_valid(k * lanes + lane) ? -1 : 0;
      }
    }
    plain_lanes_ = !masked;
    flat_gradient_.begin();
  }

  void pool(const Element* x, Sample<Scalar>& sample, int64_t begin, int64_t end) {
    with_vectors(rows_, [&](auto vectors) {
      for (int64_t channel = begin; channel < end; ++channel) {
        pool_channel<vectors.value>(x, sample, channel, [](int64_t) {});
      }
    });
  }

  // Gradients of the attention, from blocks of channels that begin in [begin, end); the means, too,
  // if `pool_too`, while the channels are in cache.
  void correlate(const Element* x, const Element* grad_y, Sample<Scalar>& sample, bool pool_too,
                 int64_t begin, int64_t end) {
    const int64_t width = problem_.channels / problem_.groups;
    const int64_t valid = sample.frames.axis.end * problem_.joints;
    for (int64_t channel = begin; channel < end;) {
      const int64_t group = channel / width, place = channel % width;
      const int64_t block = round_up(place, kCorrelatedChannels);
      const int64_t block_end = channel - place + min(width, block + kCorrelatedChannels);
      if (block == place) {
        const int64_t at = channel * plane_;
        correlate_planes(x + at, grad_y + at, plane_, block_end - channel, 0, valid, correlation_,
                         place == 0);
        if (pool_too) pool(x, sample, channel, block_end);
        if (block_end % width == 0) contract(sample, group, correlation_);
        channel = block_end;
      } else {
        channel += min(width, block) - place;
      }
    }
  }

  // Elements [begin, end) of the correlation plane of a sample of one group.
  void correlate_tile(const Element* x, const Element* grad_y, int64_t begin, int64_t end,
                      Scalar* correlation) {
    for (int64_t c = 0; c < problem_.channels; c += kCorrelatedChannels) {
      const int64_t at = c * plane_, channels = min(problem_.channels - c, kCorrelatedChannels);
      correlate_planes(x + at, grad_y + at, plane_, channels, begin, end, correlation, c == 0);
    }
  }

  void contract(Sample<Scalar>& sample, int64_t group, const Scalar* correlation) {
    const int64_t frame_row = group * sample.frames.axis.stride;
    const int64_t joint_row = group * sample.joints.axis.stride;
    with_vectors(rows_, [&](auto vectors) {
      contract_plane<vectors.value, Scalar>(
          rows_, sample.frames.axis, correlation, sample.frames.attention + frame_row,
          sample.scaled_joints + joint_row, sample.scale, columns_,
          sample.frames.grad_attention + frame_row, sample.joints.grad_attention + joint_row);
    });
  }

  // out = in * gain, + gradients through the means if `with_means`, for channels [begin, end).
  void reweight(const Element* in, const Sample<Scalar>& sample, const Scalar* frame_attention,
                bool with_means, int64_t begin, int64_t end, PrefetchTarget<Element> prefetch,
                Element* out) {
    const bool flat = sample.frames.axis.is_prefix() && !rows_.joints_masked &&
                      (!with_means || FlatGradient<Element>::fits(problem_.joints));
    const int64_t width = problem_.channels / problem_.groups;
    if (!nontemporal_) prefetch = {};
    for (int64_t channel = begin; channel < end;) {
      const int64_t group = channel / width;
      const int64_t group_end = min(end, (group + 1) * width);
      set_gain(sample, frame_attention, group);
      if (!flat) {
        reweight_planes(in, sample, with_means, channel, group_end, prefetch, out);
      } else if (nontemporal_) {
        reweight_flat_planes<true>(in, sample, with_means, channel, group_end, prefetch, out);
      } else {
        reweight_flat_planes<false>(in, sample, with_means, channel, group_end, prefetch, out);
      }
      channel = group_end;
    }
  }

  // Whether write_and_pool serves: nontemporal stores, and both samples fully valid.
  bool can_overlap(const Sample<Scalar>& sample, const Sample<Scalar>& next) const {
    return nontemporal_ && is_whole(sample) && is_whole(next);
  }

  // reweight and pool(next_x, next) in one loop, a few rows of each in turn, where can_overlap.
  void reweight_and_pool(const Element* in, const Sample<Scalar>& sample,
                         const Scalar* frame_attention, int64_t begin, int64_t end, Element* out,
                         const Element* next_x, Sample<Scalar>& next) {
    const int64_t width = problem_.channels / problem_.groups;
    for (int64_t channel = begin; channel < end;) {
      const int64_t group = channel / width, group_end = min(end, (group + 1) * width);
      set_gain(sample, frame_attention, group);
      with_vectors(rows_, [&](auto vectors) {
        write_and_pool<vectors.value>(in, channel, group_end, out, next_x, next);
      });
      channel = group_end;
    }
  }

  // out = gradients through the means only, for channels [begin, end).
  void pool_backward(const Sample<Scalar>& sample, int64_t begin, int64_t end, Element* out) {
    LineWriter<Element> writer(buffer_, out + begin * plane_, nontemporal_);
    for (int64_t channel = begin; channel < end; ++channel) {
      write_plane<false, true>(nullptr, sample, channel, {}, writer);
    }
    writer.finish();
  }

 private:
  // Per turn of loads and stores. Twice or half of both slows forward by up to a tenth on a Zen 4.
  static constexpr int64_t kElementsAtOnce = 1536 / static_cast<int64_t>(sizeof(Element));
  static constexpr int64_t kPrefetchDistance = 2048 / static_cast<int64_t>(sizeof(Element));

  bool is_whole(const Sample<Scalar>& sample) const {
    return sample.frames.axis.valid_count == problem_.frames &&
           sample.joints.axis.valid_count == problem_.joints;
  }

  template <int kVectors, class Between>
  CSTA_INLINE void pool_channel(const Element* x, Sample<Scalar>& sample, int64_t channel,
                                const Between& between) {
    pool_plane<kVectors>(rows_, sample.frames.axis, sample.joints.axis, x + channel * plane_,
                         columns_, sample.frames.means + channel * sample.frames.axis.stride,
                         sample.joints.means + channel * sample.joints.axis.stride, between);
  }

  // The same for channels of one group. Inlined, GCC made it up to 4 % slower.
  template <int kVectors>
  CSTA_NOINLINE void write_and_pool(const Element* in, int64_t begin, int64_t end, Element* out,
                                    const Element* next_x, Sample<Scalar>& next) {
    const int64_t first = begin * plane_;
    const PrefetchTarget<Element> prefetch{next_x + first + kPrefetchDistance, nullptr,
                                           problem_.frames};
    FlatReweight<true, Element> product(in + first, gain_, plane_, (end - begin) * plane_, prefetch,
                                        out + first);
    for (int64_t channel = begin; channel < end; ++channel) {
      const auto between = [&](int64_t frames) CSTA_LAMBDA_INLINE {
        const int64_t read = channel * plane_ + frames * problem_.joints - first;
        if (read - product.written() >= kElementsAtOnce) product.write_lines(read);
      };
      pool_channel<kVectors>(next_x, next, channel, between);
    }
    product.finish();
  }

  void set_gain(const Sample<Scalar>& sample, const Scalar* frame_attention, int64_t group) {
    if (group == gain_group_) return;
    build_gain(rows_, sample.frames.axis, frame_attention + group * sample.frames.axis.stride,
               sample.scaled_joints + group * sample.joints.axis.stride,
               problem_.residual ? Scalar{1} : Scalar{0}, gain_);
    gain_group_ = group;
  }

  void reweight_planes(const Element* in, const Sample<Scalar>& sample, bool with_means,
                       int64_t begin, int64_t end, PrefetchTarget<Element> prefetch, Element* out) {
    LineWriter<Element> writer(buffer_, out + begin * plane_, nontemporal_);
    for (int64_t channel = begin; channel < end; ++channel) {
      if (with_means) {
        write_plane<true, true>(in, sample, channel, prefetch, writer);
      } else {
        write_plane<true, false>(in, sample, channel, prefetch, writer);
      }
    }
    writer.finish();
  }

  template <bool kNontemporal>
  void reweight_flat_planes(const Element* in, const Sample<Scalar>& sample, bool with_means,
                            int64_t begin, int64_t end, PrefetchTarget<Element> prefetch,
                            Element* out) {
    const bool next_is_whole = prefetch.x == nullptr || prefetch.frames == problem_.frames;
    if (sample.frames.axis.end == problem_.frames && next_is_whole) {
      const int64_t at = begin * plane_;
      return reweight_flat_run<kNontemporal>(in + at, sample, with_means, begin, end - begin,
                                             plane_, prefetch.advanced(at), out + at);
    }
    // Valid frames, then padding. Only valid frames of the next sample are prefetched.
    const int64_t valid = sample.frames.axis.end * problem_.joints;
    for (int64_t channel = begin; channel < end; ++channel) {
      const int64_t at = channel * plane_;
      PrefetchTarget<Element> next = prefetch.advanced(at);
      next.limit = prefetch.frames * problem_.joints;
      if (valid > 0) {
        reweight_flat_run<kNontemporal>(in + at, sample, with_means, channel, 1, valid, next,
                                        out + at);
      }
      next = next.advanced(valid);
      next.limit -= valid;
      write_padding<kNontemporal>(problem_.residual ? in + at + valid : nullptr, plane_ - valid,
                                  next, out + at + valid);
    }
  }

  // The first `plane` elements of `channels` planes, from channel `begin` on.
  template <bool kNontemporal>
  void reweight_flat_run(const Element* in, const Sample<Scalar>& sample, bool with_means,
                         int64_t begin, int64_t channels, int64_t plane,
                         PrefetchTarget<Element> prefetch, Element* out) {
    if (!with_means) {
      FlatReweight<kNontemporal, Element> product(in, gain_, plane, channels * plane, prefetch,
                                                  out);
      return product.finish();
    }
    const int64_t frame_stride = sample.frames.axis.stride;
    const int64_t joint_stride = sample.joints.axis.stride;
    flat_gradient_.template run<kNontemporal>(
        in, gain_, plane, sample.frames.grad_means + begin * frame_stride, frame_stride,
        sample.joints.grad_means + begin * joint_stride, joint_stride, channels, prefetch, out);
  }

  template <bool kWithGain, bool kWithMeans>
  void write_plane(const Element* in, const Sample<Scalar>& sample, int64_t channel,
                   PrefetchTarget<Element> prefetch, LineWriter<Element>& writer) {
    GradMeans<Scalar> means{nullptr, nullptr};
    if (kWithMeans) {
      means = {sample.frames.grad_means + channel * sample.frames.axis.stride,
               sample.joints.grad_means + channel * sample.joints.axis.stride};
    }
    const int64_t row_bytes = problem_.joints * static_cast<int64_t>(sizeof(Element));
    const int64_t at_once = max(1, LineWriter<Element>::kCapacity / row_bytes);
    for (int64_t t = 0; t < problem_.frames; t += at_once) {
      const int64_t end = min(problem_.frames, t + at_once);
      prefetch.fetch(channel * plane_ + t * problem_.joints,
                     (min(end, prefetch.frames) - t) * problem_.joints);
      reweight_rows<kWithGain, kWithMeans>(rows_, sample.frames.axis, in + channel * plane_, gain_,
                                           means, problem_.residual, t, end, writer.position());
      writer.advance((end - t) * problem_.joints);
    }
  }

  const Problem& problem_;
  int64_t plane_;
  bool nontemporal_;
  FlatGradient<Element> flat_gradient_;
  ContiguousRows<Element> rows_{};
  bool plain_lanes_ = false;  // valid_lanes_ are those of a sample with all joints valid
  Mask<Scalar>* valid_lanes_;
  Vector<Scalar>* columns_;
  int64_t gain_group_ = -1;  // group of gain_
  Scalar* gain_;
  Scalar* correlation_;
  char* buffer_;
};

}  // namespace csta::CSTA_ISA
