// Prints the instruction sets that this processor can run, with the conditions of
// csrc/cpu/dispatch.cpp.
#include <cstdio>

int main() {
  std::puts("portable");
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c")) {
    return 0;
  }
  std::puts("avx2");
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
    std::puts("avx512");
  }
#endif
}
