// The kernels that compute in float32, for AVX-512, 64-byte vectors.
#if defined(__x86_64__)
#define CSTA_ISA avx512
#define CSTA_VECTOR_BYTES 64

#include "../entry_points.h"

namespace csta {

const Kernels kAvx512Float32 = avx512::kEntryPoints<float>;

}  // namespace csta
#endif
