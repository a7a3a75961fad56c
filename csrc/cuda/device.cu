#include <cuda_runtime.h>

#include <map>
#include <mutex>

#include "device.h"

namespace csta::cuda {
namespace {

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  cudaDeviceGetAttribute(&value, which, index);
  return value;
}

Device ask(int index) {
  return {attribute(cudaDevAttrMultiProcessorCount, index),
          attribute(cudaDevAttrClusterLaunch, index) != 0,
          attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
          attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, index)};
}

}  // namespace

const Device& describe_device(int index) {
  static std::mutex mutex;
  static std::map<int, Device> devices;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = devices.find(index);
  return found != devices.end() ? found->second : devices.emplace(index, ask(index)).first->second;
}

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace csta::cuda
