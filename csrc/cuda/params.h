// Everything that a kernel is told, in one struct that is passed by value.
#pragma once

#include "../problem.h"
#include "common/divisor.h"

namespace csta::cuda {

constexpr int kFrames = 0, kJoints = 1;  // the two axes

// Neighbouring threads that share a sum of so many products.
CSTA_HOST_DEVICE int threads_per_sum(int terms) { return terms < 128 ? 1 : terms < 256 ? 2 : 4; }
// Numbers from one position to the next, where those of a position lie together: whole fours, and
// some more, so that the threads of neighbouring positions, a four each, read from banks of their
// own.
CSTA_HOST_DEVICE int column_stride(int rows) {
  return round_up(rows, 4) + 4 * threads_per_sum(rows);
}

// Where the numbers of a sample that are not x's lie in a block's room, in scalars from its start.
struct SharedLayout {
  int64_t sums[2]{};         // of x: [own channels][T] and [V], or [own frames][C] and [V][C]
  int64_t staged[2]{};       // means by own position; in backward then their gradients: [C][share]
  int64_t hidden[2]{};       // hidden values by own position
  int64_t logits[2]{};       // forward: logits, [G][share]
  int64_t grad_hidden[2]{};  // backward: gradients of the hidden values, [H][share in fours]
  int64_t attention[2]{};    // of own groups: [groups][T] and [V]
  int64_t scaled = 0;        // scale times the joints' attention: [groups][V + kWrap]
  int64_t gradients[2]{};    // of the attention, this block's part: [groups][T] and [V]
  int64_t weights[2]{};      // in planes.h: w1, as it is given
  int64_t correlation = 0;   // sums of grad_y * x over a group's channels: [groups][positions]
  int64_t valid = 0;         // one byte for every frame and joint
  int64_t scalars = 0;       // in all
};

// How a sample is spread over the blocks of a cluster, and a block's part over chunks.
struct Plan {
  bool dense = false;      // the kernels of planes.h
  int weight_bytes[2]{};   // there: of each head's w1, if it is brought to shared memory
  int resident_bytes = 0;  // there: of x, or of grad_y in backward
  bool correlation_in_x = false;
  bool unaligned_planes = false;  // planes are no multiples of 16 bytes, only what a copy brings is

  int cluster = 1;   // blocks
  int threads = 0;   // of a block
  int clusters = 0;  // at most; each takes one sample after the other

  int slice_extent = 0;          // channels of a block; in channels-last memory, frames
  int positions_per_block[2]{};  // positions of each axis whose heads a block computes
  int groups = 0;                // of a block's channels, at most
  int channels_per_chunk = 0;
  int positions_per_chunk = 0;
  int chunks_per_plane = 1;  // chunks that a plane is cut into, where a chunk is less than one

  int slots[2]{};  // chunks of x (or, in backward, grad_y first) that a block has room for:
                   // grad_y's and x's
  int slot_bytes = 0;
  int correlation_scalars = 0;  // scalars
  SharedLayout layout;
  bool layout_in_shared = true;  // in shared memory, or else in `Call::rooms`
  int64_t shared_bytes = 0;
};

struct AxisParams {
  int length;             // T or V
  int hidden;             // H
  Weight w1, b1, w2, b2;  // [H, C], [H], [G, H], [G], in x's type or the arithmetic's
  const void* logits;     // [N, G, length] in the arithmetic type, where there is no head
  void* attention;        // [N, G, length]: out in forward, in in backward
  const void* upstream;   // its gradient, or null
  void* grad_logits;      // [N, G, length]: of the logits
  void* means;            // [N, C, length]: for the gradients of the weights
  void* hidden_values;    // [N, H, length]
  void* grad_hidden;      // [N, H, length]
  void* pooled;           // [N, C, length] in x's type: `pool`'s results, or their gradients
};

struct CallParams {
  int64_t samples;
  int channels, groups;
  AxisParams axes[2];
  bool channels_last, has_heads;

  const int64_t* lengths;     // [N] or null
  const uint8_t* frame_mask;  // [N, T] or null
  const uint8_t* joint_mask;  // [N, V] or [V] (stride 0), or null
  int64_t joint_mask_stride;
  Gate gate;
  bool scale_by_mean, residual;
  double scale;

  const void* x;
  const void* grad_y;    // the gradient of y, or null
  void* out;             // y, or the gradient of x (null where it is not wanted)
  void* global_layouts;  // of all blocks, where they are not in shared memory
  Plan plan;
  Divisor by_channels, by_joints, by_plane, by_width;  // width: channels of a group
  Divisor by_slice, by_position_range[2], by_length[2];
};

// Whether anything comes back to an axis in backward: through y, or from above to its attention.
CSTA_HOST_DEVICE bool is_reached(const CallParams& call, int axis) {
  return call.grad_y != nullptr || call.axes[axis].upstream != nullptr;
}

}  // namespace csta::cuda
