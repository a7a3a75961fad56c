// One call of an operation on a GPU: from what is asked to the kernels' structs, in three steps.
// Make it, give it as much working memory as it says, run it.
#pragma once

#include <optional>

#include "kernels.h"
#include "plan.h"

namespace csta::cuda {

// The tensors of a call that it reads and writes; all but x, grad_y and out in the arithmetic type,
// but for `pooled`, which is in x's, and the gradients of weights.
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
  // heads are null, or logits are given instead. Nothing where the call is too large.
  static std::optional<Invocation> make(Op op, const Problem& problem, const Head* frame_head,
                                        const Head* joint_head, const Device& device);

  void set_logits(const void* frames, const void* joints);
  void set_tensors(const Tensors& tensors);
  int64_t workspace_bytes() const { return workspace_bytes_; }
  // 0, or the number of CUDA's error. The memory is aligned to 16 bytes.
  int run(void* workspace, void* stream);

 private:
  Invocation() = default;
  void assign_workspace(unsigned char* memory);
  void sum_weights(const Head* heads[2]);

  Op op_;
  Dtype dtype_, arithmetic_;
  CallParams call_{};
  Plan fallback_plan_;  // where tensors do not lie as a plan for planes wants it
  WeightParams weights_{};
  int64_t workspace_bytes_ = 0;
};

}  // namespace csta::cuda
