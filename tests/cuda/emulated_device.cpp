// Emulated device, and PyTorch's current stream and guard on it.
#include "cuda/device.h"
#include "cuda/shim.h"
#include "emulator.h"

namespace {

csta::cuda::Device the_device{2, 8, 232448, 233472};
bool the_host_sees_values = true;
char the_stream, no_stream;  // current on the device; where nothing may be launched

}  // namespace

namespace csta::cuda {

const Device& describe_device(int) { return the_device; }
void make_current(int) {}
bool host_sees_values() { return the_host_sees_values; }
const char* error_text(int) { return "an emulated launch failed"; }

}  // namespace csta::cuda

extern "C" {

// Settings of all later launches; see emulator.h and plan.h.
void emulate(int order, int landing, unsigned seed, bool bulk_copies, bool clusters,
             int64_t shared_bytes, int64_t chunk_bytes, int threads, int most_blocks,
             bool host_sees_values, int refused, bool dense) {
  emulator::settings() = {static_cast<emulator::Order>(order),
                          static_cast<emulator::Landing>(landing), seed, bulk_copies,
                          // The weights' gradients need no plan.
                          static_cast<size_t>(std::max<int64_t>(shared_bytes, 22'000)), &no_stream,
                          refused};
  the_host_sees_values = host_sees_values;
  the_device = {2, clusters ? 16 : 1, shared_bytes, shared_bytes + 1024};
  csta::cuda::tuning().chunk_bytes = chunk_bytes;
  csta::cuda::tuning().whole_bytes = 4 * chunk_bytes;
  csta::cuda::tuning().threads = threads;
  csta::cuda::tuning().dense = dense;
  csta::cuda::tuning().most_blocks = most_blocks;
  csta::cuda::tuning().most_blocks_of_dense = 2 * most_blocks;
}

uint64_t emulated_launches() { return emulator::launches(); }
uint64_t emulated_overlaps() { return emulator::overlaps(); }
// Blocks of a cluster in the last launch.
unsigned emulated_cluster() { return emulator::last_launch().cluster; }
uint64_t emulated_bytes() { return emulator::copied_bytes(); }

// Launches are for the current stream, and under a guard.
int32_t aoti_torch_create_device_guard(int32_t, GuardHandle* guard) {
  *guard = &emulator::settings().stream;
  emulator::settings().stream = &the_stream;
  return 0;
}
int32_t aoti_torch_delete_device_guard(GuardHandle guard) {
  *static_cast<const void**>(guard) = &no_stream;
  return 0;
}
int32_t aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = &the_stream;
  return 0;
}
}
