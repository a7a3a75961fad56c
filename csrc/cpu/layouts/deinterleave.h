// Few channels, apart and together: from channels-last memory (positions, C) to planes of positions
// and back, a vector of positions at a time.
#pragma once

#include <utility>

#include "../simd/elements.h"

namespace csta::CSTA_ISA {

constexpr int kFewChannels = 8;

// Lane i of channel kChannel's vector is element i * kChannels + kChannel of kChannels vectors.
template <int kChannels, int kChannel, int kLanes>
struct Apart {
  static constexpr int source(int i) { return (i * kChannels + kChannel) / kLanes; }
  static constexpr int lane(int i) { return (i * kChannels + kChannel) % kLanes; }
};

// And the way back: lane i of vector kVector.
template <int kChannels, int kVector, int kLanes>
struct Together {
  static constexpr int source(int i) { return (kVector * kLanes + i) % kChannels; }
  static constexpr int lane(int i) { return (kVector * kLanes + i) / kChannels; }
};

// `chosen`, with the lanes that Pick takes from source kSource put in; of the first two sources at
// once.
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

// All picks of one way, kWay being Apart or Together.
template <template <int, int, int> class kWay, class Scalar, int... kIndex>
CSTA_INLINE void pick_each(Vector<Scalar>* vectors, std::integer_sequence<int, kIndex...>) {
  constexpr int channels = sizeof...(kIndex), lanes = kLanes<Scalar>;
  const Vector<Scalar> results[] = {
      pick_all<kWay<channels, kIndex, lanes>, Scalar, channels>(vectors, vectors[0])...};
  ((vectors[kIndex] = results[kIndex]), ...);
}

// In place: kChannels vectors of elements become a vector of positions for each channel. Even and
// odd channels are parted first: that takes fewer shuffles than picking lanes from all vectors.
template <int kChannels, class Scalar>
CSTA_INLINE void part_channels(Vector<Scalar>* vectors) {
  if constexpr (kChannels % 2 != 0 || kChannels == 2) {
    pick_each<Apart, Scalar>(vectors, std::make_integer_sequence<int, kChannels>{});
  } else {
    constexpr int half = kChannels / 2;
    Vector<Scalar> even[half], odd[half];
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      part_channels<2, Scalar>(vectors + 2 * i);
      even[i] = vectors[2 * i];
      odd[i] = vectors[2 * i + 1];
    }
    part_channels<half, Scalar>(even);
    part_channels<half, Scalar>(odd);
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      vectors[2 * i] = even[i];
      vectors[2 * i + 1] = odd[i];
    }
  }
}

// The way back.
template <int kChannels, class Scalar>
CSTA_INLINE void join_channels(Vector<Scalar>* vectors) {
  if constexpr (kChannels % 2 != 0 || kChannels == 2) {
    pick_each<Together, Scalar>(vectors, std::make_integer_sequence<int, kChannels>{});
  } else {
    constexpr int half = kChannels / 2;
    Vector<Scalar> even[half], odd[half];
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      even[i] = vectors[2 * i];
      odd[i] = vectors[2 * i + 1];
    }
    join_channels<half, Scalar>(even);
    join_channels<half, Scalar>(odd);
    CSTA_UNROLL
    for (int i = 0; i < half; ++i) {
      vectors[2 * i] = even[i];
      vectors[2 * i + 1] = odd[i];
      join_channels<2, Scalar>(vectors + 2 * i);
    }
  }
}

// kLanes positions of all channels to planes `plane` apart, and back.
template <int kChannels, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE void part_block(const Element* from, Scalar* planes, int64_t plane) {
  Vector<Scalar> vectors[kChannels];
  CSTA_UNROLL
  for (int i = 0; i < kChannels; ++i) vectors[i] = load(from + i * kLanes<Scalar>);
  part_channels<kChannels, Scalar>(vectors);
  CSTA_UNROLL
  for (int i = 0; i < kChannels; ++i) store(planes + i * plane, vectors[i]);
}
template <int kChannels, class Element, class Scalar = Arithmetic<Element>>
CSTA_INLINE void join_block(const Scalar* planes, int64_t plane, Element* to) {
  Vector<Scalar> vectors[kChannels];
  CSTA_UNROLL
  for (int i = 0; i < kChannels; ++i) vectors[i] = load(planes + i * plane);
  join_channels<kChannels, Scalar>(vectors);
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
