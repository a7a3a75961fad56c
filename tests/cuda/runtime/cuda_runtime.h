// Fake CUDA runtime: the calls of csrc/cuda/device.cu and launch.h, over devices that a test makes
// up.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#define __global__

enum cudaError_t { cudaSuccess = 0, cudaErrorNoKernelImageForDevice = 209, cudaErrorFailed = 999 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrClusterLaunch,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize,
  cudaFuncAttributePreferredSharedMemoryCarveout,
  cudaFuncAttributeNonPortableClusterSizeAllowed,
};
constexpr int cudaSharedmemCarveoutMaxShared = 100;

struct cudaFuncAttributes {
  int ptxVersion;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  explicit dim3(unsigned x = 1) : x(x) {}
};
using cudaStream_t = struct Stream*;
enum cudaLaunchAttributeID { cudaLaunchAttributeNone, cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

namespace runtime {

struct Device {
  std::map<cudaDeviceAttr, int> attributes;
  int compiled = 90;     // for which the kernels that run here were
  int most_cluster = 8;  // blocks that it can place
  cudaError_t kernels = cudaSuccess, occupancy = cudaSuccess, launches = cudaSuccess;
};
struct Launched {
  unsigned blocks, threads, cluster;
  size_t shared_bytes;
  cudaStream_t stream;
  int device;
};
struct State {
  std::map<int, Device> devices;
  int current = 0;
  cudaError_t last_error = cudaSuccess;
  int changes_of_device = 0, questions = 0;
  std::map<std::pair<const void*, int>, std::vector<std::pair<cudaFuncAttribute, int>>> allowed;
  std::vector<Launched> launched;

  Device& here() { return devices.at(current); }
  cudaError_t result(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
  }
};
inline State& state() {
  static State state;
  return state;
}

}  // namespace runtime

inline cudaError_t cudaGetDevice(int* index) {
  *index = runtime::state().current;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int index) {
  ++runtime::state().changes_of_device;
  runtime::state().current = index;
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() {
  return std::exchange(runtime::state().last_error, cudaSuccess);
}
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNoKernelImageForDevice ? "no kernel image" : "failed";
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int index) {
  ++runtime::state().questions;
  const auto& attributes = runtime::state().devices.at(index).attributes;
  const auto found = attributes.find(which);
  if (found == attributes.end()) return runtime::state().result(cudaErrorFailed);
  *value = found->second;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  attributes->ptxVersion = runtime::state().here().compiled;
  return runtime::state().result(runtime::state().here().kernels);
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute which, int value) {
  runtime::state().allowed[{kernel, runtime::state().current}].emplace_back(which, value);
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveClusters(int* count, Kernel*, const cudaLaunchConfig_t* config) {
  runtime::Device& here = runtime::state().here();
  *count = static_cast<int>(config->attrs[0].val.clusterDim.x) <= here.most_cluster ? 1 : 0;
  return runtime::state().result(here.occupancy);
}
template <class Call>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*)(Call), const Call&) {
  runtime::State& the = runtime::state();
  const unsigned cluster = config->numAttrs == 0 ? 1 : config->attrs[0].val.clusterDim.x;
  the.launched.push_back({config->gridDim.x, config->blockDim.x, cluster, config->dynamicSmemBytes,
                          config->stream, the.current});
  return the.result(the.here().launches);
}
