// What the CPU kernels compute, in plain structs: no torch here, so that a test driver, a
// sanitizer and every instruction set share one interface.
#pragma once

#include <cstdint>

namespace csta {

enum class Dtype { float32, float64, float16, bfloat16 };
enum class Gate { softmax, sigmoid };

// Runs function over disjoint pieces of [0, end) and returns when all are done.
struct Parallel {
  int threads;
  void (*for_each)(int64_t end, int64_t grain, void (*function)(int64_t, int64_t, void*),
                   void* context);
};

// Features x and the choices of a call. x and everything of its shape are contiguous
// (N, C, T, V) or channels-last (N, T, V, C); all other tensors are contiguous.
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
  Parallel parallel;
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

// Attention of both axes and, in backward, its upstream gradients: arithmetic type
// (double for float64, else float), frames [N, G, T] and joints [N, G, V].
struct AttentionOut {
  void *frames, *joints;
};
struct AttentionIn {
  const void *frames, *joints;            // from forward
  const void *grad_frames, *grad_joints;  // or null
};

// Where logits come from and their gradients go: two heads, or tensors (N, G, T), (N, G, V).
struct Scores {
  const Head* frame_head;  // null when logits are given
  const Head* joint_head;
  Weight frame_logits;
  Weight joint_logits;
};
struct ScoreGradients {
  HeadGradients frame_head, joint_head;
  void *frame_logits, *joint_logits;  // arithmetic type
};

// One table of entry points per instruction set.
struct Kernels {
  // Steps 1-4 with heads, 3-4 with logits.
  void (*forward)(const Problem&, const Scores&, const void* x, void* y, AttentionOut);
  // grad_x is null where it is not wanted.
  void (*backward)(const Problem&, const Scores&, const void* x, const void* grad_y, AttentionIn,
                   void* grad_x, const ScoreGradients&);
  // Step 1: means [N, C, T] and [N, C, V] in x's dtype.
  void (*pool)(const Problem&, const void* x, void* frame_means, void* joint_means);
  void (*pool_backward)(const Problem&, const void* grad_frame_means, const void* grad_joint_means,
                        void* grad_x);
};

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

enum class InstructionSet { portable, avx2, avx512 };

// The best set this processor has, or the lower one named in CSTA_FAST_ISA; decided once.
InstructionSet instruction_set();
// The kernels of that set, or of a lower one that suits the problem better on this processor.
const Kernels& kernels(const Problem& problem);

}  // namespace csta
