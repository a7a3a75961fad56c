// Views of a sample's numbers in shared or global memory, and a block's range of positions, for the
// heads of both kinds of kernels.
#pragma once

#include "../params.h"
#include "numbers.h"

namespace csta::cuda {

// 2D view of one sample's numbers: rows are channels or groups. The plan refuses calls with 2^30 of
// them.
template <class Scalar>
struct Table {
  Scalar* origin;  // address of (0, 0), which may lie in front of the storage
  int row_stride, position_stride;

  // View of a part of the sample that `storage` holds, from (row, position) on; indices stay those
  // of the whole sample.
  static CSTA_DEVICE Table part(Scalar* storage, int64_t row, int64_t position, int row_stride,
                                int position_stride) {
    return {storage - row * row_stride - position * position_stride, row_stride, position_stride};
  }
  CSTA_DEVICE Scalar& at(int row, int position) const {
    return origin[row * row_stride + position * position_stride];
  }
};

// The positions of an axis whose head a block computes.
struct PositionRange {
  int begin, end;

  CSTA_DEVICE PositionRange(const CallParams& call, int axis, int rank)
      : begin(min(call.axes[axis].length, rank * call.plan.positions_per_block[axis])),
        end(min(call.axes[axis].length, begin + call.plan.positions_per_block[axis])) {}
  CSTA_DEVICE int count() const { return end - begin; }
};

}  // namespace csta::cuda
