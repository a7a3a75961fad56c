// Declarations of the functions of LibTorch's stable C ABI that only a PyTorch with CUDA
// implements.
#pragma once

#include <cstdint>

extern "C" {
using GuardHandle = void*;

int32_t aoti_torch_create_device_guard(int32_t device_index, GuardHandle* guard);
int32_t aoti_torch_delete_device_guard(GuardHandle guard);
int32_t aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);
}
