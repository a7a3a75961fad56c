// Kernel launch with clusters and dynamic shared memory, under nvcc.
#pragma once

#include <cuda_runtime.h>

#include "limits.h"

namespace csta::cuda {

// Allows a kernel the device's maximum of dynamic shared memory; see device.cu.
cudaError_t allow_shared_memory(const void* kernel);

// Launches kernel(call) on a stream of the current device. Returns 0 or a CUDA error number.
template <class Call>
int launch(void (*kernel)(Call), const LaunchShape& shape, const Call& call, void* stream) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(shape.cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &attribute;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  cudaError_t error = allow_shared_memory(reinterpret_cast<const void*>(kernel));
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, call);
  if (error != cudaSuccess) cudaGetLastError();  // reported here; later launches must not see it
  return error;
}

}  // namespace csta::cuda
