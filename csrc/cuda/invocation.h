// One call of an operation on a GPU: from what is asked to the kernels' structs, in three steps.
// Make it, give it as much working memory as it says, run it.
#pragma once

#include <optional>

#include "kernels.h"
#include "plan.h"

namespace csta::cuda {

// The tensors of a call that it reads and writes; all but x, u and out in the arithmetic type, but
// for `pooled`, which is in x's, and the gradients of weights.
struct Tensors {
  const void* x;
  const void* u;
  void* out;
  void* attention[2];
  const void* upstream[2];
  void* logit_gradients[2];
  void* pooled[2];
  HeadGradients weights[2];
};

class Job {
 public:
  // heads are null, or logits are given instead. Nothing where the call is too large.
  static std::optional<Job> make(Task task, const Problem& problem, const Head* frame_head,
                                 const Head* joint_head, const Device& device);

  void set_logits(const void* frames, const void* joints);
  void set_tensors(const Tensors& tensors);
  int64_t working_bytes() const { return working_bytes_; }
  // 0, or the number of CUDA's error. The memory is aligned to 16 bytes.
  int run(void* working_memory, void* stream);

 private:
  Job() = default;
  void take_memory(unsigned char* memory);
  void sum_weights(const Head* heads[2]);

  Task task_;
  Dtype dtype_, arithmetic_;
  Call call_{};
  Plan other_plan_;  // where tensors do not lie as a plan for planes wants it
  WeightCall weights_{};
  int64_t working_bytes_ = 0;
};

}  // namespace csta::cuda
