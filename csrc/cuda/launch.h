// Launches of kernels, under nvcc.
#pragma once

#include <cuda_runtime.h>

#include "limits.h"

namespace csta::cuda {

// Lets a kernel have as much shared memory as a block of the current device may; see device.cu.
cudaError_t allow_shared_memory(const void* kernel);

// Launches kernel(call) on a stream of the current device. 0, or the error's number.
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
  if (error != cudaSuccess) cudaGetLastError();  // told here, and by no later launch
  return error;
}

}  // namespace csta::cuda
