// Structs that describe a call to the kernels of any device. They hold no PyTorch types, so that
// test drivers, sanitizers, nvcc and every instruction set share them.
#pragma once

#include <cstdint>

namespace csta {

enum class Dtype { float32, float64, float16, bfloat16 };
enum class Gate { softmax, sigmoid };

// Parallel loop: runs function over disjoint ranges that cover [0, end) and returns when all are
// done.
struct Parallel {
  int threads;
  void (*for_each)(int64_t end, int64_t grain, void (*function)(int64_t, int64_t, void*),
                   void* context);
};

// Shape, masks and options of a call. x and every tensor of its shape are contiguous (N, C, T, V)
// or channels-last (N, T, V, C); all other tensors are contiguous.
struct Problem {
  int64_t samples, channels, frames, joints, groups;
  Dtype dtype;  // of x
  bool channels_last;
  const int64_t* lengths;     // [N] or null
  const uint8_t* frame_mask;  // [N, T] or null
  const uint8_t* joint_mask;  // [N, V] or [V] (stride 0), or null
  int64_t joint_mask_stride;
  Gate gate;
  bool scale_by_mean;  // the scale is T_n * V_n for softmax and 1 for sigmoid
  double scale;        // used when scale_by_mean is false
  bool residual;
  Parallel parallel;  // CPU only
};

struct Weight {
  const void* data;
  Dtype dtype;
};

// One head: w1 [H, C], b1 [H], w2 [G, H], b2 [G].
struct Head {
  int64_t hidden;
  Weight w1, b1, w2, b2;
};

// Gradients of a head's weights, each in its weight's dtype.
struct HeadGradients {
  void *w1, *b1, *w2, *b2;
};

// Attention of both axes and, in backward, its upstream gradients, in the compute dtype (double for
// float64, else float): frames [N, G, T], joints [N, G, V].
struct AttentionOut {
  void *frames, *joints;
};
struct AttentionIn {
  const void *frames, *joints;            // from forward
  const void *grad_frames, *grad_joints;  // or null
};

// Source of the logits: two heads, or tensors (N, G, T) and (N, G, V). LogitGradients: the matching
// outputs of backward.
struct LogitSource {
  const Head* frame_head;  // null when logits are given
  const Head* joint_head;
  Weight frame_logits;
  Weight joint_logits;
};
struct LogitGradients {
  HeadGradients frame_head, joint_head;
  void *frame_logits, *joint_logits;  // compute dtype
};

}  // namespace csta
