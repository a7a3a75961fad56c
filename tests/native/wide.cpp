// The 64-byte kernels for processors without AVX-512: the compiler splits each vector in two.
#define CSTA_ISA wide
#define CSTA_VECTOR_BYTES 64

#include "cpu/entry_points.h"

namespace csta {

extern const Kernels kWideKernels;
const Kernels kWideKernels = wide::kEntryPoints;

}  // namespace csta
