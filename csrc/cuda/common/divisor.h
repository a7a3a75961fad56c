// Fast integer division by a launch constant, on the host and on the device.
#pragma once

#include <cstdint>

#include "../../integers.h"

namespace csta::cuda {

// Division of numbers below 2^31 by a constant of the launch: a multiplication and a shift
// (Granlund and Montgomery, 1994).
struct Divisor {
  uint32_t divisor = 1, magic = 1, shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t value) : divisor(value > 0 ? static_cast<uint32_t>(value) : 1) {
    while ((uint64_t{1} << shift) < divisor) ++shift;
    const uint64_t scaled = (uint64_t{1} << 32) * ((uint64_t{1} << shift) - divisor);
    magic = static_cast<uint32_t>(scaled / divisor + 1);
  }
  CSTA_HOST_DEVICE int quotient(int value) const {
    const auto number = static_cast<uint32_t>(value);
    return static_cast<int>((static_cast<uint32_t>((uint64_t{number} * magic) >> 32) + number) >>
                            shift);
  }
};

}  // namespace csta::cuda
