// The kernels that compute in float64, for AVX2, 32-byte vectors.
#if defined(__x86_64__)
#define CSTA_ISA avx2
#define CSTA_VECTOR_BYTES 32

#include "../entry_points.h"

namespace csta {

const Kernels kAvx2Float64 = avx2::kEntryPoints<double>;

}  // namespace csta
#endif
