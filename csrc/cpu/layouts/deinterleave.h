// Deinterleaving of few channels: channels-last memory (positions, C) to planes of positions and
// back, a vector of positions at a time.
#pragma once

#include <utility>

#include "../simd/elements.h"

namespace csta::CSTA_ISA {

constexpr int kFewChannels = 8;

// Lane i of channel kChannel's vector is element i * kChannels + kChannel of kChannels vectors.
template <int kChannels, int kChannel, int kLanes>
struct Deinterleave {
  static constexpr int source(int i) { return (i * kChannels + kChannel) / kLanes; }
  static constexpr int lane(int i) { return (i * kChannels + kChannel) % kLanes; }
};

// The inverse: lane i of vector kVector.
template <int kChannels, int kVector, int kLanes>
struct Interleave {
  static constexpr int source(int i) { return (kVector * kLanes + i) % kChannels; }
  static constexpr int lane(int i) { return (kVector * kLanes + i) / kChannels; }
};

// Replaces the lanes of `chosen` that Pick takes from source kSource; for kSource 1 also those of
// source 0.
template <class Pick, int kSource, class V, int... kLane>
CSTA_INLINE V pick(V chosen, V from, std::integer_sequence<int, kLane...>) {
  constexpr int lanes = sizeof...(kLane);
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(chosen, from,
                                 (Pick::source(kLane) == kSource ? lanes + Pick::lane(kLane)
                                  : Pick::source(kLane) == 0 && kSource == 1 ? Pick::lane(kLane)
                                                                             : kLane)...);
#else  // GCC before 12
  V result = chosen;
  for (int i = 0; i < lanes; ++i) {
    if (Pick::source(i) == kSource) result[i] = from[Pick::lane(i)];
    if (Pick::source(i) == 0 && kSource == 1) result[i] = chosen[Pick::lane(i)];
  }
  return result;
#endif
}

template <class Pick, class Scalar, int kSources, int kSource = 1>
CSTA_INLINE Vector<Scalar> pick_all(const Vector<Scalar>* sources, Vector<Scalar> chosen) {
  if constexpr (kSource >= kSources) {
    return chosen;
  } else {
    constexpr auto lanes = std::make_integer_sequence<int, kLanes<Scalar>>{};
    return pick_all<Pick, Scalar, kSources, kSource + 1>(
        sources, pick<Pick, kSource>(chosen, sources[kSource], lanes));
  }
}

// All picks in one direction: kWay is Deinterleave or Interleave.
template <template <int, int, int> class kWay, class Scalar, int... kIndex>
CSTA_INLINE void pick_each(Vector<Scalar>* vectors, std::integer_sequence<int, kIndex...>) {
  constexpr int channels = sizeof...(kIndex), lanes = kLanes<Scalar>;
  const Vector<Scalar> results[] = {
      pick_all<kWay<channels, kIndex, lanes>, Scalar, channels>(vectors, vectors[0])...};
  ((vectors[kIndex] = results[kIndex]), ...);
}

// Deinterleaves kChannels vectors in place: one vector of positions per channel. Even and odd
// channels are separated first, which takes fewer shuffles.
template <int kChannels, class Scalar>
CSTA_INLINE void deinterleave_channels(Vector<Scalar>* vectors) {
  if constexpr (kChannels % 2 != 0 || kChannels == 2) {
    pick_each<Deinterleave, Scalar>(vectors, std::make_integer_sequence<int, kChannels>{});
  } else {
    constexpr int half = kChannels / 2;
    Vector<Scalar> even[half], odd[half];
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      deinterleave_channels<2, Scalar>(vectors + 2 * i);
      even[i] = vectors[2 * i];
      odd[i] = vectors[2 * i + 1];
    }
    deinterleave_channels<half, Scalar>(even);
    deinterleave_channels<half, Scalar>(odd);
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      vectors[2 * i] = even[i];
      vectors[2 * i + 1] = odd[i];
    }
  }
}

// The inverse of deinterleave_channels.
template <int kChannels, class Scalar>
CSTA_INLINE void interleave_channels(Vector<Scalar>* vectors) {
  if constexpr (kChannels % 2 != 0 || kChannels == 2) {
    pick_each<Interleave, Scalar>(vectors, std::make_integer_sequence<int, kChannels>{});
  } else {
    constexpr int half = kChannels / 2;
    Vector<Scalar> even[half], odd[half];
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      even[i] = vectors[2 * i];
      odd[i] = vectors[2 * i + 1];
    }
    interleave_channels<half, Scalar>(even);
    interleave_channels<half, Scalar>(odd);
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      vectors[2 * i] = even[i];
      vectors[2 * i + 1] = odd[i];
      interleave_channels<2, Scalar>(vectors + 2 * i);
    }
  }
}

// kLanes positions of all channels to planes `plane` apart, and back.
template <int kChannels, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE void deinterleave_block(const Element* from, Scalar* planes, int64_t plane) {
  Vector<Scalar> vectors[kChannels];
  CSTA_UNROLL
  for (int i = 0; i < kChannels; ++i) vectors[i] = load(from + i * kLanes<Scalar>);
  deinterleave_channels<kChannels, Scalar>(vectors);
  CSTA_UNROLL
  for (int i = 0; i < kChannels; ++i) store(planes + i * plane, vectors[i]);
}
template <int kChannels, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE void interleave_block(const Scalar* planes, int64_t plane, Element* to) {
  Vector<Scalar> vectors[kChannels];
  CSTA_UNROLL
  for (int i = 0; i < kChannels; ++i) vectors[i] = load(planes + i * plane);
  interleave_channels<kChannels, Scalar>(vectors);
  CSTA_UNROLL
  for (int i = 0; i < kChannels; ++i) store(to + i * kLanes<Scalar>, vectors[i]);
}

// Calls function with the number of channels, from kLeast to kMost, as a constant.
template <int kMost, int kLeast = 1, class Function>
CSTA_INLINE void with_channels(int64_t channels, const Function& function) {
  if constexpr (kLeast < kMost) {
    if (channels > kLeast) return with_channels<kMost, kLeast + 1>(channels, function);
  }
  function(std::integral_constant<int, kLeast>{});
}

}  // namespace csta::CSTA_ISA
