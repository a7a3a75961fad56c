// RAII handle of a PyTorch tensor, with its sizes, strides, dtype and device.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "allocation.h"
#include "problem.h"

namespace csta {

inline void check_abi(int32_t error, const char* call) {
  if (error != 0) throw std::runtime_error(std::string("csta_fast: torch refused ") + call);
}
#define CSTA_ABI(call) ::csta::check_abi(call, #call)

inline void require(bool condition, const char* message) {
  if (!condition) throw std::runtime_error(std::string("csta_fast: ") + message);
}

// Owns one reference to a tensor; empty for an absent optional argument.
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(TensorHandle handle) : handle_(handle) {
    const bool dense = aoti_torch_get_dim(handle_, &dim_) == 0 &&
                       aoti_torch_get_sizes(handle_, &sizes_) == 0 &&
                       aoti_torch_get_strides(handle_, &strides_) == 0 &&
                       aoti_torch_get_dtype(handle_, &dtype_) == 0;
    if (!dense) dim_ = -1;  // None for a tensor, say: what looks at it refuses it
  }
  Tensor(Tensor&& other) noexcept { swap(other); }
  Tensor& operator=(Tensor&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Tensor() {
    if (handle_ != nullptr) aoti_torch_delete_tensor_object(handle_);
  }

  explicit operator bool() const { return handle_ != nullptr; }
  int64_t dim() const { return dim_; }
  int64_t size(int64_t axis) const { return sizes_[axis]; }
  const int64_t* sizes() const { return sizes_; }
  int32_t torch_dtype() const { return dtype_; }
  Dtype dtype() const;
  Place place() const {
    Place place{};
    CSTA_ABI(aoti_torch_get_device_type(handle_, &place.type));
    CSTA_ABI(aoti_torch_get_device_index(handle_, &place.index));
    return place;
  }

  const void* data() const {
    const void* data = nullptr;
    CSTA_ABI(torch_get_const_data_ptr(handle_, &data));
    return data;
  }
  void* mutable_data() {
    void* data = nullptr;
    CSTA_ABI(torch_get_mutable_data_ptr(handle_, &data));
    return data;
  }

  bool is_contiguous() const { return has_order(kContiguous); }
  // Channels-last memory (N, T, V, C) that is not contiguous as well.
  bool is_channels_last() const {
    return dim_ == 4 && !is_contiguous() && has_order(kChannelsLast);
  }

  // Converts to contiguous or channels-last memory: no copy where the tensor already is, else one.
  Tensor in_layout(bool channels_last) && {
    if (has_order(channels_last ? kChannelsLast : kContiguous)) return std::move(*this);
    Tensor copy = empty(dim_, sizes_, dtype_, channels_last, place());
    copy.copy_from(*this);
    return copy;
  }
  // Converts to contiguous memory and a dtype: no copy where the tensor already is, else one.
  Tensor in_dtype(int32_t dtype) && {
    if (dtype_ == dtype) return std::move(*this).in_layout(false);
    Tensor copy = empty(dim_, sizes_, dtype, false, place());
    copy.copy_from(*this);
    return copy;
  }
  void copy_from(const Tensor& other) { CSTA_ABI(aoti_torch_copy_(handle_, other.handle_, 0)); }

  static Tensor empty(int64_t dim, const int64_t* sizes, int32_t dtype, bool channels_last = false,
                      Place place = Place::cpu()) {
    int64_t strides[kMostDimensions];
    fill_strides(dim, sizes, channels_last, strides);
    return Tensor(allocate(dim, sizes, strides, dtype, place));
  }

  TensorHandle release() { return std::exchange(handle_, nullptr); }

 private:
  static constexpr int64_t kMostDimensions = 4;  // the most of any argument or result

  struct Order {
    int axes[kMostDimensions];
  };
  static constexpr Order kContiguous{{0, 1, 2, 3}}, kChannelsLast{{0, 2, 3, 1}};  // of axes

  void swap(Tensor& other) {
    std::swap(handle_, other.handle_);
    std::swap(dim_, other.dim_);
    std::swap(sizes_, other.sizes_);
    std::swap(strides_, other.strides_);
    std::swap(dtype_, other.dtype_);
  }

  bool has_order(Order order) const {
    require(dim_ >= 0 && dim_ <= kMostDimensions, "wanted dense tensors of at most 4 dimensions");
    int64_t expected = 1;
    for (int64_t axis = 0; axis < dim_; ++axis) {
      if (sizes_[axis] == 0) return true;
    }
    for (int64_t step = dim_ - 1; step >= 0; --step) {
      const int axis = order.axes[step];
      if (sizes_[axis] == 1) continue;
      if (strides_[axis] != expected) return false;
      expected *= sizes_[axis];
    }
    return true;
  }

  // The strides PyTorch gives a new tensor: an axis of size 0 counts as 1.
  static void fill_strides(int64_t dim, const int64_t* sizes, bool channels_last,
                           int64_t* strides) {
    const Order order = channels_last ? kChannelsLast : kContiguous;
    int64_t stride = 1;
    for (int64_t step = dim - 1; step >= 0; --step) {
      const int axis = order.axes[step];
      strides[axis] = stride;
      stride *= sizes[axis] > 1 ? sizes[axis] : 1;
    }
  }

  TensorHandle handle_ = nullptr;
  int64_t dim_ = 0;
  int64_t* sizes_ = nullptr;
  int64_t* strides_ = nullptr;
  int32_t dtype_ = 0;
};

inline Dtype Tensor::dtype() const {
  static const int32_t float32 = aoti_torch_dtype_float32();
  static const int32_t float64 = aoti_torch_dtype_float64();
  static const int32_t float16 = aoti_torch_dtype_float16();
  static const int32_t bfloat16 = aoti_torch_dtype_bfloat16();
  if (dtype_ == float32) return Dtype::float32;
  if (dtype_ == bfloat16) return Dtype::bfloat16;
  if (dtype_ == float16) return Dtype::float16;
  require(dtype_ == float64, "wanted float64, float32, float16 or bfloat16");
  return Dtype::float64;
}

}  // namespace csta
