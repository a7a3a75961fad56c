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

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

const Kernels& kernels() {
#if defined(__x86_64__)
  static const Kernels* const tables[] = {&kPortableKernels, &kAvx2Kernels, &kAvx512Kernels};
  return *tables[static_cast<int>(instruction_set())];
#else
  return kPortableKernels;
#endif
}

}  // namespace csta
