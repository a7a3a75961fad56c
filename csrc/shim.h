// Declarations of the functions of LibTorch's stable C ABI (torch 2.10) that the libraries call.
// They are declared by hand, so that building needs no torch and one binary serves every later
// version.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
using TensorHandle = void*;
using LibraryHandle = void*;
using StackValue = uint64_t;  // an argument or result of an operation: number, handle or pointer
using BoxedKernel = void (*)(StackValue* stack, uint64_t inputs, uint64_t outputs);
using RangeFunction = void (*)(int64_t begin, int64_t end, void* context);

int32_t aoti_torch_library_init_def(const char* name, const char* file, uint32_t line,
                                    LibraryHandle* library);
int32_t aoti_torch_library_init_impl(const char* name, const char* dispatch_key, const char* file,
                                     uint32_t line, LibraryHandle* library);
int32_t aoti_torch_library_def(LibraryHandle library, const char* schema);
int32_t torch_library_impl(LibraryHandle library, const char* name, BoxedKernel kernel,
                           uint64_t abi_version);

int32_t aoti_torch_delete_tensor_object(TensorHandle tensor);
int32_t aoti_torch_get_dim(TensorHandle tensor, int64_t* dim);
int32_t aoti_torch_get_sizes(TensorHandle tensor, int64_t** sizes);
int32_t aoti_torch_get_strides(TensorHandle tensor, int64_t** strides);
int32_t aoti_torch_get_dtype(TensorHandle tensor, int32_t* dtype);
int32_t aoti_torch_get_device_type(TensorHandle tensor, int32_t* type);
int32_t aoti_torch_get_device_index(TensorHandle tensor, int32_t* index);
int32_t aoti_torch_copy_(TensorHandle self, TensorHandle source, int32_t non_blocking);
int32_t aoti_torch_empty_strided(int64_t dim, const int64_t* sizes, const int64_t* strides,
                                 int32_t dtype, int32_t device_type, int32_t device_index,
                                 TensorHandle* tensor);
int32_t torch_get_const_data_ptr(TensorHandle tensor, const void** data);
int32_t torch_get_mutable_data_ptr(TensorHandle tensor, void** data);

int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain_size, RangeFunction function,
                           void* context);
int32_t torch_get_num_threads(uint32_t* threads);

int32_t aoti_torch_device_type_cpu();
int32_t aoti_torch_dtype_bfloat16();
int32_t aoti_torch_dtype_float16();
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_int64();
int32_t aoti_torch_dtype_bool();
}

namespace csta {

// Major and minor of the torch whose ABI this is: the top two bytes.
constexpr uint64_t kAbiVersion = (uint64_t{2} << 56) | (uint64_t{10} << 48);

}  // namespace csta
