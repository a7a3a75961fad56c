// Tensors in memory of exactly their size, between guard bands.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/kernels.h"

#if defined(CSTA_TEST_ADDRESSES)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

inline int64_t element_size(csta::Dtype dtype) {
  switch (dtype) {
    case csta::Dtype::float32: return 4;
    case csta::Dtype::float64: return 8;
    default: return 2;
  }
}

// The two 16-bit formats: bits of the fraction, and the exponent of the smallest normal number.
struct Format {
  int fraction, lowest;
};
inline Format format_of(csta::Dtype dtype) {
  return dtype == csta::Dtype::float16 ? Format{10, -14} : Format{7, -126};
}

inline double decode(csta::Dtype dtype, uint16_t bits) {
  const Format format = format_of(dtype);
  const int exponent = (bits & 0x7fff) >> format.fraction;
  const int fraction = bits & ((1 << format.fraction) - 1);
  double value = std::ldexp(fraction, format.lowest - format.fraction);
  if (exponent > 0) {
    value = std::ldexp(fraction + (1 << format.fraction),
                       format.lowest - format.fraction + exponent - 1);
  }
  if (exponent == 0x7fff >> format.fraction) value = fraction == 0 ? INFINITY : NAN;
  return bits & 0x8000 ? -value : value;
}

// Exponent field of numbers within the format's range.
inline uint16_t encode(csta::Dtype dtype, double value) {
  const Format format = format_of(dtype);
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7fff;
  if (value == 0) return sign;
  int exponent = 0;
  std::frexp(value, &exponent);
  exponent = std::max(exponent - 1, format.lowest);
  const double units = std::nearbyint(std::ldexp(std::fabs(value), format.fraction - exponent));
  // A carry out of the fraction runs into the exponent, as it should.
  return static_cast<uint16_t>(sign + static_cast<int>(units) +
                               ((exponent - format.lowest) << format.fraction));
}

class Buffer {
 public:
  // Uninitialised memory, all bytes 0xff: NaN in every dtype. `offset` bytes of misalignment.
  Buffer(int64_t bytes, int64_t offset)
      : front_(kGuard + offset),
        bytes_(bytes),
        block_(static_cast<char*>(std::malloc(static_cast<size_t>(front_ + bytes + kGuard)))) {
    std::memset(block_.get(), 0xff, static_cast<size_t>(front_ + bytes_ + kGuard));
    poison();
  }
  Buffer(csta::Dtype dtype, const std::vector<double>& values, int64_t offset)
      : Buffer(static_cast<int64_t>(values.size()) * element_size(dtype),
               offset * element_size(dtype)) {
    for (size_t i = 0; i < values.size(); ++i) put(dtype, i, values[i]);
    freeze();
  }
  template <class Item>
  Buffer(const std::vector<Item>& items, int64_t offset)
      : Buffer(static_cast<int64_t>(items.size() * sizeof(Item)),
               offset * static_cast<int64_t>(sizeof(Item))) {
    if (bytes_ > 0) std::memcpy(data(), items.data(), static_cast<size_t>(bytes_));
    freeze();
  }
  Buffer(Buffer&&) = default;
  ~Buffer() {
    if (block_ != nullptr) unpoison();
  }

  char* data() const { return block_.get() + front_; }
  int64_t bytes() const { return bytes_; }

  // Snapshot: the tensor must not change any more.
  void freeze() { frozen_.assign(data(), data() + bytes_); }

  double get(csta::Dtype dtype, size_t i) const {
    float single;
    double wide;
    uint16_t bits;
    switch (dtype) {
      case csta::Dtype::float32: return std::memcpy(&single, data() + i * 4, 4), single;
      case csta::Dtype::float64: return std::memcpy(&wide, data() + i * 8, 8), wide;
      default: return std::memcpy(&bits, data() + i * 2, 2), decode(dtype, bits);
    }
  }

  // Whether the guard bands and, for an input, the tensor itself are unchanged.
  bool is_intact() const {
    unpoison();
    bool intact = frozen_.empty() || std::memcmp(frozen_.data(), data(), frozen_.size()) == 0;
    for (int64_t i = 0; i < front_ && intact; ++i) intact = block_[i] == '\xff';
    for (int64_t i = 0; i < kGuard && intact; ++i) intact = data()[bytes_ + i] == '\xff';
    poison();
    return intact;
  }
  bool equals(const Buffer& other) const {
    return std::memcmp(data(), other.data(), static_cast<size_t>(bytes_)) == 0;
  }

 private:
  static constexpr int64_t kGuard = 256;

  struct Free {
    void operator()(char* block) const { std::free(block); }
  };

  void put(csta::Dtype dtype, size_t i, double value) {
    const float single = static_cast<float>(value);
    uint16_t bits = 0;
    switch (dtype) {
      case csta::Dtype::float32: std::memcpy(data() + i * 4, &single, 4); return;
      case csta::Dtype::float64: std::memcpy(data() + i * 8, &value, 8); return;
      default: bits = encode(dtype, value); std::memcpy(data() + i * 2, &bits, 2);
    }
  }
  void poison() const {
    ASAN_POISON_MEMORY_REGION(block_.get(), static_cast<size_t>(front_));
    ASAN_POISON_MEMORY_REGION(data() + bytes_, static_cast<size_t>(kGuard));
  }
  void unpoison() const {
    ASAN_UNPOISON_MEMORY_REGION(block_.get(), static_cast<size_t>(front_ + bytes_ + kGuard));
  }

  int64_t front_, bytes_;
  std::unique_ptr<char[], Free> block_;
  std::vector<char> frozen_;
};

// The values that a tensor of this dtype holds after rounding.
inline void round_to(csta::Dtype dtype, std::vector<double>& values) {
  for (double& value : values) {
    if (dtype == csta::Dtype::float32) value = static_cast<float>(value);
    if (element_size(dtype) == 2) value = decode(dtype, encode(dtype, value));
  }
}
