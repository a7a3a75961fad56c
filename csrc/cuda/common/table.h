// Views of a sample's numbers in shared or global memory, and a block's range of positions: what
// the heads of both kinds of kernels read and write.
#pragma once

#include "../params.h"
#include "numbers.h"

namespace csta::cuda {

// Numbers of one sample by channel, or group, and position. The plan refuses a call with 2^30 of
// them.
template <class Scalar>
struct Table {
  Scalar* first;
  int row_stride, position_stride;

  CSTA_DEVICE Scalar& at(int row, int position) const {
    return first[row * row_stride + position * position_stride];
  }
};

// Positions of an axis whose heads a block computes.
struct PositionRange {
  int begin, end;

  CSTA_DEVICE PositionRange(const CallParams& call, int axis, int rank)
      : begin(min(call.axes[axis].length, rank * call.plan.positions_per_block[axis])),
        end(min(call.axes[axis].length, begin + call.plan.positions_per_block[axis])) {}
  CSTA_DEVICE int count() const { return end - begin; }
};

}  // namespace csta::cuda
