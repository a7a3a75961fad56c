// Allocation of tensors, with PyTorch's own exception if there is no memory.
//
// The stable ABI turns every exception into a code, and loses the type that callers look for
// (torch.OutOfMemoryError). A failed allocation is therefore repeated through the C++ function
// below, whose exception reaches the caller. That function is not part of the stable ABI: it is
// called nowhere else, declared weak, and skipped if PyTorch has none of that name and signature.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "shim.h"

namespace c10 {
template <class Item>
struct ArrayRef {
  const Item* data;
  size_t size;
};
struct SymInt {
  int64_t value;
};
enum class ScalarType : int8_t;
enum class Layout : int8_t;
enum class DeviceType : int8_t;
struct Device {
  DeviceType type;
  int8_t index;
};
}  // namespace c10

namespace at {
// Same size as PyTorch's; the stable ABI's handle is a pointer to one.
struct Tensor {
  void* implementation;
  Tensor(const Tensor&);
  ~Tensor();
};
namespace _ops {
struct empty_strided {
  __attribute__((weak, visibility("default"))) static Tensor call(
      c10::ArrayRef<c10::SymInt> sizes, c10::ArrayRef<c10::SymInt> strides,
      std::optional<c10::ScalarType> dtype, std::optional<c10::Layout> layout,
      std::optional<c10::Device> device, std::optional<bool> pin_memory);
};
}  // namespace _ops
}  // namespace at

namespace csta {

struct Place {
  int32_t type, index;

  static Place cpu() { return {aoti_torch_device_type_cpu(), 0}; }
};

// Fallback message, with the words that programs look for.
[[noreturn]] inline void refuse_memory(Place place, const std::string& amount) {
  const bool on_cpu = place.type == aoti_torch_device_type_cpu();
  throw std::runtime_error(
      std::string("csta_fast: ") +
      (on_cpu ? "DefaultCPUAllocator: can't allocate memory" : "CUDA out of memory") +
      ": you tried to allocate " + amount);
}

inline TensorHandle allocate(int64_t dim, const int64_t* sizes, const int64_t* strides,
                             int32_t dtype, Place place) {
  TensorHandle handle = nullptr;
  if (aoti_torch_empty_strided(dim, sizes, strides, dtype, place.type, place.index, &handle) == 0) {
    return handle;
  }
  if (at::_ops::empty_strided::call == nullptr) refuse_memory(place, "a tensor");
  const auto numbers = [&](const int64_t* first) {
    return c10::ArrayRef<c10::SymInt>{reinterpret_cast<const c10::SymInt*>(first),
                                      static_cast<size_t>(dim)};
  };
  // Another thread may have freed memory meanwhile.
  return new at::Tensor(at::_ops::empty_strided::call(
      numbers(sizes), numbers(strides), static_cast<c10::ScalarType>(dtype), std::nullopt,
      c10::Device{static_cast<c10::DeviceType>(place.type), static_cast<int8_t>(place.index)},
      std::nullopt));
}

}  // namespace csta
