// CUDA runtime queries, cached per device: shared memory limits, cluster sizes, errors.
#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

#include "device.h"
#include "launch.h"

namespace csta::cuda {

// Raises a kernel's shared memory limit to the device's maximum, once per kernel and device. The
// limit is shared with launches of other threads, which may need more than this one.
cudaError_t allow_shared_memory(const void* kernel) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;
  int device = 0, most = 0;
  cudaError_t error = cudaGetDevice(&device);
  const std::lock_guard<std::mutex> lock(mutex);
  if (error != cudaSuccess || allowed.count({kernel, device}) > 0) return error;
  error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return error;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  if (error != cudaSuccess) return error;
  // Plans rely on two blocks per multiprocessor, so shared memory gets all of the L1 it can.
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                               cudaSharedmemCarveoutMaxShared);
  int clusters = 0;
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, device);
  }
  if (error == cudaSuccess && clusters != 0) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  if (error == cudaSuccess) allowed.emplace(kernel, device);
  return error;
}

namespace {

// Errors are cleared in this copy of the runtime only; PyTorch's copy keeps its own.
void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw std::runtime_error(std::string("csta_fast: CUDA: ") + cudaGetErrorString(error));
}

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, index));
  return value;
}

__global__ void probe() {}

// Whether the loaded code uses clusters. It does not if the driver compiled it from PTX for compute
// capability 8.x: on a newer device every block is then a cluster of its own.
bool know_clusters() {
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, probe));
  return attributes.ptxVersion >= 90;
}

// Most blocks of a cluster: 16 where the device can place them, 8 on any whole device with
// clusters, fewer on a small partition. 8 if the runtime cannot tell.
int most_cluster(int index) {
  if (attribute(cudaDevAttrClusterLaunch, index) == 0 || !know_clusters()) return 1;
  check(allow_shared_memory(reinterpret_cast<const void*>(probe)));
  int size = 16;
  for (; size > 1; size /= 2) {
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {static_cast<unsigned>(size), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(size));
    config.blockDim = dim3(kMostThreads);
    config.dynamicSmemBytes =
        static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
    config.attrs = &cluster;
    config.numAttrs = 1;
    int clusters = 0;
    const cudaError_t error = cudaOccupancyMaxActiveClusters(&clusters, probe, &config);
    if (error != cudaSuccess) {
      cudaGetLastError();
      return 8;
    }
    if (clusters > 0) break;
  }
  return size;
}

cudaError_t set_device(int index) {
  int current = -1;
  const cudaError_t error = cudaGetDevice(&current);
  return error == cudaSuccess && current != index ? cudaSetDevice(index) : error;
}

Device ask(int index) {
  return {attribute(cudaDevAttrMultiProcessorCount, index), most_cluster(index),
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

void make_current(int index) { check(set_device(index)); }

bool host_sees_values() { return false; }

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace csta::cuda

// The reason why no kernel of this library runs on a device, or null. The driver may be older than
// the library's runtime, or the library compiled for other devices.
extern "C" __attribute__((visibility("default"))) const char* csta_fast_cuda_failure(int index) {
  cudaError_t error = csta::cuda::set_device(index);
  cudaFuncAttributes attributes{};
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, csta::cuda::probe);
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();
  return cudaGetErrorString(error);
}
