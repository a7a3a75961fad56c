// csrc/cuda/device.cu and launch.h over a runtime that only pretends: what they ask of it, and what
// they make of its answers. Prints a line for each case.
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "cuda/device.h"
#include "cuda/launch.h"

extern "C" const char* csta_fast_cuda_failure(int index);

namespace csta::cuda {
namespace {

using runtime::state;

runtime::Device device(int shared_of_block, int clusters) {
  return {{{cudaDevAttrMultiProcessorCount, 132},
           {cudaDevAttrClusterLaunch, clusters},
           {cudaDevAttrMaxSharedMemoryPerBlockOptin, shared_of_block},
           {cudaDevAttrMaxSharedMemoryPerMultiprocessor, shared_of_block + 1024}}};
}

int failures = 0;

void check(bool holds, const char* name) {
  std::printf("%s %s\n", holds ? "PASS" : "FAIL", name);
  failures += holds ? 0 : 1;
}

// Every device is asked about once, so every case has one of its own.
int most_cluster(const runtime::Device& described) {
  static int index = 100;
  state().devices[++index] = described;
  state().current = index;
  return describe_device(index).most_cluster;
}

void describes() {
  state().devices = {{0, device(232448, 1)}, {1, device(101376, 0)}};
  state().current = 0;
  const Device first = describe_device(0);
  state().current = 1;
  const Device second = describe_device(1);
  check(first.multiprocessors == 132 && first.shared_of_block == 232448 &&
            first.shared_of_processor == 233472 && first.most_cluster == 8,
        "a device's limits");
  check(second.shared_of_block == 101376 && second.most_cluster == 1, "another device's limits");
  const int asked = state().questions;
  describe_device(0);
  describe_device(1);
  check(state().questions == asked, "a device is asked once");
}

void sizes_clusters() {
  runtime::Device described = device(232448, 1);
  described.most_cluster = 2;
  check(most_cluster(described) == 2, "a part of a device has smaller clusters");
  described.most_cluster = 0;
  check(most_cluster(described) == 1, "or none");
  described = device(232448, 1);
  described.occupancy = cudaErrorFailed;
  check(most_cluster(described) == 8 && cudaGetLastError() == cudaSuccess,
        "without an answer there are eight, and no error is left");
  described = device(232448, 1);
  described.compiled = 80;
  check(most_cluster(described) == 1, "code made of PTX for 8.x has no clusters");
  described.compiled = 100;
  check(most_cluster(described) == 8, "code for 10.0 has");
  described.most_cluster = 16;
  check(most_cluster(described) == 16, "and sixteen blocks where they have a place");
}

void changes_devices() {
  state().devices = {{0, device(232448, 1)}, {1, device(232448, 1)}};
  state().current = 1;
  state().changes_of_device = 0;
  make_current(1);
  check(state().changes_of_device == 0, "the current device is left alone");
  make_current(0);
  check(state().changes_of_device == 1 && state().current == 0, "another one becomes current");
  check(csta_fast_cuda_failure(0) == nullptr && state().changes_of_device == 1,
        "a device that PyTorch made current stays so");
  state().devices[0].kernels = cudaErrorNoKernelImageForDevice;
  const char* why = csta_fast_cuda_failure(0);
  check(why != nullptr && std::strcmp(why, "no kernel image") == 0 &&
            state().last_error == cudaSuccess,
        "why no kernel runs, and no error is left");
}

void kernel(int) {}
void other_kernel(int) {}

void launches() {
  state() = {};
  state().devices = {{0, device(232448, 1)}, {1, device(101376, 1)}};
  auto* stream = reinterpret_cast<cudaStream_t>(&failures);
  int error = 0;
  for (int index : {0, 0, 1, 1}) {
    state().current = index;
    error += launch(&kernel, {48, 256, 8, 70000}, 1, stream);
    error += launch(&other_kernel, {3, 64, 1, 0}, 1, stream);
  }
  const runtime::Launched& first = state().launched[0];
  check(error == 0 && state().launched.size() == 8, "every launch is one");
  check(first.blocks == 48 && first.threads == 256 && first.cluster == 8 &&
            first.shared_bytes == 70000 && first.stream == stream && first.device == 0,
        "a launch's shape and stream");
  check(state().launched[1].cluster == 1, "a launch without clusters");
  bool once = state().allowed.size() == 4;
  for (const auto& [key, given] : state().allowed) {
    const int most = key.second == 0 ? 232448 : 101376;
    once &= given == std::vector<std::pair<cudaFuncAttribute, int>>{
                         {cudaFuncAttributeMaxDynamicSharedMemorySize, most},
                         {cudaFuncAttributePreferredSharedMemoryCarveout, 100},
                         {cudaFuncAttributeNonPortableClusterSizeAllowed, 1}};
  }
  check(once, "a kernel is allowed a device's shared memory once");
  state().devices[1].launches = cudaErrorFailed;
  check(launch(&kernel, {1, 32, 1, 0}, 1, stream) == cudaErrorFailed &&
            state().last_error == cudaSuccess,
        "an error of a launch is told, and not left");
  check(std::strcmp(error_text(cudaErrorFailed), "failed") == 0, "the text of an error");
}

void throws() {
  state().devices[7] = {};
  state().current = 7;
  std::string text;
  try {
    describe_device(7);
  } catch (const std::runtime_error& error) {
    text = error.what();
  }
  check(text == "csta_fast: CUDA: failed" && state().last_error == cudaSuccess,
        "a device that does not answer is an error");
}

}  // namespace
}  // namespace csta::cuda

int main() {
  using namespace csta::cuda;
  describes();
  sizes_clusters();
  changes_devices();
  launches();
  throws();
  return failures == 0 ? 0 : 1;
}
