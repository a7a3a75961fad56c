// Tables of the CPU kernels' entry points, one per instruction set and compute dtype, shared by the
// library and the test driver.
#pragma once

#include "../problem.h"

namespace csta {

// Entry points of one instruction set for one compute dtype: float32 (also float16 and bfloat16) or
// float64.
struct Kernels {
  // Steps 1 to 4 with heads, 3 and 4 with logits.
  void (*forward)(const Problem&, const LogitSource&, const void* x, void* y, AttentionOut);
  // grad_y is null if there is none, grad_x if it is not wanted.
  void (*backward)(const Problem&, const LogitSource&, const void* x, const void* grad_y,
                   AttentionIn, void* grad_x, const LogitGradients&);
  // Step 1: means [N, C, T] and [N, C, V] in x's dtype.
  void (*pool)(const Problem&, const void* x, void* frame_means, void* joint_means);
  void (*pool_backward)(const Problem&, const void* grad_frame_means, const void* grad_joint_means,
                        void* grad_x);
};

extern const Kernels kPortableFloat32, kPortableFloat64;
#if defined(__x86_64__)
extern const Kernels kAvx2Float32, kAvx2Float64;
extern const Kernels kAvx512Float32, kAvx512Float64;
#endif

enum class InstructionSet { portable, avx2, avx512 };

// The best instruction set of this processor, or the lower one that CSTA_FAST_ISA names; chosen
// once.
InstructionSet instruction_set();
// The kernels of that set, or of a lower one that is faster for this problem on this processor.
const Kernels& kernels(const Problem& problem);

}  // namespace csta
