// The kernels that compute in float32, for the compiler's baseline, 16-byte vectors.
#define CSTA_ISA portable
#define CSTA_VECTOR_BYTES 16

#include "../entry_points.h"

namespace csta {

const Kernels kPortableFloat32 = portable::kEntryPoints<float>;

}  // namespace csta
