// Parameters of a kernel, passed by value: shapes, pointers to x and its results, and the plan.
#pragma once

#include "../problem.h"
#include "common/divisor.h"

namespace csta::cuda {

constexpr int kFrames = 0, kJoints = 1;  // the two axes

// Threads that share one dot product of `terms` terms; they are neighbours.
CSTA_HOST_DEVICE int threads_per_sum(int terms) { return terms < 128 ? 1 : terms < 256 ? 2 : 4; }
// Row pitch where the numbers of a position are contiguous: a multiple of 4, padded by 4 per thread
// of a dot product, so that neighbouring threads do not conflict on shared-memory banks.
CSTA_HOST_DEVICE int column_stride(int rows) {
  return round_up(rows, 4) + 4 * threads_per_sum(rows);
}

// Layout of a block's working memory beside x: offsets in scalars. "own" are the block's channels,
// groups or positions, P is positions_per_block.
struct SharedLayout {
  int64_t sums[2]{};    // of x: [own C][T] and [own C][V]; channels-last: [own T][C] and [V][C]
  int64_t staged[2]{};  // means at own positions [P][C]; then in backward their gradients [C][P]
  int64_t hidden[2]{};  // hidden activations at own positions [P][H]
  int64_t logits[2]{};  // forward: [G][P]
  int64_t grad_logits[2]{};     // dense backward: gradient of the attention, then of the logits
  int64_t grad_hidden[2]{};     // backward: [H][P rounded up to 4]
  int64_t attention[2]{};       // [own groups][T] and [V]
  int64_t scaled = 0;           // scale * attention of the joints: [own groups][V + kWrap]
  int64_t grad_attention[2]{};  // this block's partial sums: [own groups][T] and [V]
  int64_t weights[2]{};         // dense: w1, in its dtype
  int64_t correlation = 0;      // sum of grad_y * x over a group's channels: [groups][positions]
  int64_t valid = 0;            // one byte per frame and joint
  int64_t scalars = 0;          // total
};

// Plan of a call: the blocks that share a sample, and the chunks that a block loads.
struct Plan {
  bool dense = false;      // for the kernels in dense/
  int weight_bytes[2]{};   // dense: w1 of each head in shared memory, or 0
  int resident_bytes = 0;  // dense: of x (backward: grad_y) in shared memory
  bool correlation_in_x = false;
  bool unaligned_planes = false;  // dense: planes are not multiples of 16 bytes

  int cluster = 1;   // blocks per cluster
  int threads = 0;   // per block
  int clusters = 0;  // in the grid; each takes one sample after the other

  int slice_extent = 0;          // channels per block; frames in channels-last memory
  int positions_per_block[2]{};  // positions of each axis whose head a block computes
  int groups = 0;                // most groups of a block's channels
  int channels_per_chunk = 0;
  int positions_per_chunk = 0;
  int chunks_per_plane = 1;  // more than 1 if a chunk is less than a plane

  int slots[2]{};  // chunks in shared memory: of x; backward: of grad_y, then of x
  int slot_bytes = 0;
  int correlation_scalars = 0;  // size of layout.correlation
  SharedLayout layout;
  bool layout_in_shared = true;  // else in CallParams::global_layouts
  int64_t shared_bytes = 0;
};

struct AxisParams {
  int length;             // T or V
  int hidden;             // H
  Weight w1, b1, w2, b2;  // [H, C], [H], [G, H], [G], in x's or the compute dtype
  const void* logits;     // [N, G, length] in the compute dtype, if there is no head
  void* attention;        // [N, G, length]: output of forward, input of backward
  const void* upstream;   // gradient of the attention, or null
  void* grad_logits;      // [N, G, length]
  void* means;            // [N, C, length], for the weights' gradients
  void* hidden_values;    // [N, H, length]
  void* grad_hidden;      // [N, H, length]
  void* pooled;           // [N, C, length] in x's dtype: output of pool, input of its backward
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
  const void* grad_y;    // backward only, or null
  void* out;             // y, or grad_x (null if not wanted)
  void* global_layouts;  // of all blocks, if not in shared memory
  Plan plan;
  Divisor by_channels, by_joints, by_plane, by_width;  // width: channels per group
  Divisor by_slice, by_position_range[2], by_length[2];
};

// Whether anything comes back to an axis in backward: through y, or from above to its attention.
CSTA_HOST_DEVICE bool is_reached(const CallParams& call, int axis) {
  return call.grad_y != nullptr || call.axes[axis].upstream != nullptr;
}

}  // namespace csta::cuda
