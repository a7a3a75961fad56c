// The kernels that compute in float32, for AVX2, 32-byte vectors.
#if defined(__x86_64__)
#define CSTA_ISA avx2
#define CSTA_VECTOR_BYTES 32

#include "../entry_points.h"

namespace csta {

const Kernels kAvx2Float32 = avx2::kEntryPoints<float>;

}  // namespace csta
#endif
