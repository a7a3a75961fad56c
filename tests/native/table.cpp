// Replaces csrc/cpu/dispatch.cpp: the one instruction set that an executable tests, CSTA_TABLES.
#include "cpu/kernels.h"

#define JOIN(a, b) a##b
#define TABLE(set, type) JOIN(set, type)

namespace csta {

extern const Kernels TABLE(CSTA_TABLES, Float32), TABLE(CSTA_TABLES, Float64);
const Kernels& kernels(const Problem& problem) {
  return problem.dtype == Dtype::float64 ? TABLE(CSTA_TABLES, Float64)
                                         : TABLE(CSTA_TABLES, Float32);
}

}  // namespace csta
