// The 64-byte kernels for processors without AVX-512: the compiler splits each vector in two.
#define CSTA_ISA wide
#define CSTA_VECTOR_BYTES 64

#include "cpu/entry_points.h"

namespace csta {

extern const Kernels kWideFloat32, kWideFloat64;
const Kernels kWideFloat32 = wide::kEntryPoints<float>;
const Kernels kWideFloat64 = wide::kEntryPoints<double>;

}  // namespace csta
