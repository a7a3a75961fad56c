// One call of an operator on a GPU, from Problem to launches: make() plans it, set_tensors()
// chooses among the plans and sizes the workspace, run() launches. x passes through as a pointer.
#pragma once

#include <optional>

#include "kernels.h"
#include "plan.h"

namespace csta::cuda {

// Tensors that a call reads and writes. x, grad_y, out and `pooled` have x's dtype, the weights'
// gradients that of their weights, all others the compute dtype.
struct Tensors {
  const void* x;
  const void* grad_y;
  void* out;
  void* attention[2];
  const void* upstream[2];
  void* grad_logits[2];
  void* pooled[2];
  HeadGradients weights[2];
};

class Invocation {
 public:
  // Heads are null where logits are given. Returns nothing if the call is too large.
  static std::optional<Invocation> make(Op op, const Problem& problem, const Head* frame_head,
                                        const Head* joint_head, const Device& device);

  void set_logits(const void* frames, const void* joints);
  void set_tensors(const Tensors& tensors);
  int64_t workspace_bytes() const { return workspace_bytes_; }
  // Returns 0 or a CUDA error number. The workspace is aligned to 16 bytes.
  int run(void* workspace, void* stream);

 private:
  Invocation() = default;
  void assign_workspace(unsigned char* memory);
  void sum_weights(const Head* heads[2]);

  Op op_;
  Dtype dtype_, arithmetic_;
  CallParams call_{};
  Plan plan_;                       // of the general kernels, which serve every call
  std::optional<Plan> dense_plan_;  // of the dense kernels, if they serve this shape
  WeightParams weights_{};
  int64_t workspace_bytes_ = 0;
};

}  // namespace csta::cuda
