// The CPU kernels' entry points: a test driver, a sanitizer and every instruction set share them.
#pragma once

#include "../problem.h"

namespace csta {

// The entry points of one instruction set, for elements computed in float32 (16 bits as well) or in
// float64.
struct Kernels {
  // Steps 1-4 with heads, 3-4 with logits.
  void (*forward)(const Problem&, const Scores&, const void* x, void* y, AttentionOut);
  // grad_y is null where there is none, grad_x where it is not wanted.
  void (*backward)(const Problem&, const Scores&, const void* x, const void* grad_y, AttentionIn,
                   void* grad_x, const ScoreGradients&);
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

// The best set this processor has, or the lower one named in CSTA_FAST_ISA; decided once.
InstructionSet instruction_set();
// The kernels of that set, or of a lower one that suits the problem better on this processor.
const Kernels& kernels(const Problem& problem);

}  // namespace csta
