#if defined(__x86_64__)
#define CSTA_ISA avx2
#define CSTA_VECTOR_BYTES 32

#include "entry_points.h"

namespace csta {

const Kernels kAvx2Kernels = avx2::kEntryPoints;

}  // namespace csta
#endif
