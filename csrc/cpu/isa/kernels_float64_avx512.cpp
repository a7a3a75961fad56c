// The kernels that compute in float64, for AVX-512, 64-byte vectors.
#if defined(__x86_64__)
#define CSTA_ISA avx512
#define CSTA_VECTOR_BYTES 64

#include "../entry_points.h"

namespace csta {

const Kernels kAvx512Float64 = avx512::kEntryPoints<double>;

}  // namespace csta
#endif
