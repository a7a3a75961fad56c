// Choice of the instruction set, once per process and per problem: x passes from register.cpp to
// the kernels of that set.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace csta {
namespace {

InstructionSet best_instruction_set() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
      return InstructionSet::avx512;
    }
    return InstructionSet::avx2;
  }
#endif
  return InstructionSet::portable;
}

InstructionSet choose() {
  const InstructionSet best = best_instruction_set();
  const char* wanted = std::getenv("CSTA_FAST_ISA");
  if (wanted == nullptr) return best;
  if (std::strcmp(wanted, "portable") == 0) return InstructionSet::portable;
  if (std::strcmp(wanted, "avx2") == 0 && best == InstructionSet::avx512) {
    return InstructionSet::avx2;
  }
  return best;
}

#if defined(__x86_64__)
// AMD processors use 32-byte vectors on contiguous float32 and float16: rows start at any address,
// so that nearly every 64-byte load touches two cache lines, and Zen 4 splits such vectors in two
// anyway. Measured: forward faster by 0.05 to 0.1 copies, backward by up to 0.25 at (384, 256, 16,
// 25). Rounding to bfloat16 is faster with 64.
InstructionSet suited_to(const Problem& problem) {
  static const bool amd = __builtin_cpu_is("amd");
  const bool suits = problem.dtype == Dtype::float32 || problem.dtype == Dtype::float16;
  const bool narrow = amd && suits && !problem.channels_last;
  return narrow ? std::min(instruction_set(), InstructionSet::avx2) : instruction_set();
}
#endif

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

const Kernels& kernels(const Problem& problem) {
  const bool is_float64 = problem.dtype == Dtype::float64;
#if defined(__x86_64__)
  static const Kernels* const float32[] = {&kPortableFloat32, &kAvx2Float32, &kAvx512Float32};
  static const Kernels* const float64[] = {&kPortableFloat64, &kAvx2Float64, &kAvx512Float64};
  return *(is_float64 ? float64 : float32)[static_cast<int>(suited_to(problem))];
#else
  return is_float64 ? kPortableFloat64 : kPortableFloat32;
#endif
}

}  // namespace csta
