// The device that the emulated kernels run on, and what PyTorch has for a real one.
#include "cuda/device.h"
#include "cuda/shim.h"
#include "emulator.h"

namespace {

csta::cuda::Device the_device{2, 8, 232448, 233472};

}  // namespace

namespace csta::cuda {

const Device& describe_device(int) { return the_device; }
void make_current(int) {}
const char* error_text(int) { return "an emulated launch failed"; }

}  // namespace csta::cuda

extern "C" {

// Settings of everything that follows; see emulator.h and plan.h.
void emulate(int order, int landing, unsigned seed, bool bulk_copies, bool clusters,
             int64_t shared_bytes, int64_t chunk_bytes, int threads, int most_blocks) {
  emulator::settings() = {static_cast<emulator::Order>(order),
                          static_cast<emulator::Landing>(landing), seed, bulk_copies,
                          static_cast<size_t>(shared_bytes)};
  the_device = {2, clusters ? 8 : 1, shared_bytes, shared_bytes + 1024};
  csta::cuda::tuning().chunk_bytes = chunk_bytes;
  csta::cuda::tuning().threads = threads;
  csta::cuda::tuning().most_blocks = most_blocks;
}

// Blocks of a cluster in the last launch.
unsigned emulated_cluster() { return emulator::last_launch().cluster; }
uint64_t emulated_bytes() { return emulator::copied_bytes(); }

int32_t aoti_torch_create_device_guard(int32_t, GuardHandle* guard) {
  *guard = nullptr;
  return 0;
}
int32_t aoti_torch_delete_device_guard(GuardHandle) { return 0; }
int32_t aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
}
