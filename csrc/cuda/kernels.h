// Launchers of the kernels. Each returns 0 or a CUDA error number.
#pragma once

#include "limits.h"
#include "params.h"

namespace csta::cuda {

inline LaunchShape shape_of(const CallParams& call) {
  const Plan& plan = call.plan;
  return {int64_t{plan.clusters} * plan.cluster, plan.threads, plan.cluster, plan.shared_bytes};
}

// Steps 1 to 4 with heads, 3 and 4 with logits.
int launch_forward(const CallParams& call, Dtype dtype, void* stream);
// Gradients of the same, except the heads' weights: grad_x and grad_logits.
int launch_backward(const CallParams& call, Dtype dtype, void* stream);
// The same by the dense kernels; see dense/dense.h.
int launch_dense_forward(const CallParams& call, Dtype dtype, void* stream);
int launch_dense_backward(const CallParams& call, Dtype dtype, void* stream);
// Step 1 only.
int launch_pool(const CallParams& call, Dtype dtype, void* stream);
int launch_pool_backward(const CallParams& call, Dtype dtype, void* stream);

// Gradient of one weight matrix and its bias: a sum over samples and positions of tensors that
// backward has stored.
struct WeightSum {
  const void* left;   // [N, rows, length]
  const void* right;  // [N, columns, length]
  int rows, columns, length;
  Weight out;   // [rows, columns]: sum of left * right
  Weight bias;  // [rows]: sum of left
};
constexpr int kWeightSums = 4;
struct WeightParams {
  WeightSum sums[kWeightSums];
  int64_t samples, samples_of_a_run;
  int runs;
  void* parts;  // [runs][elements of all matrices; each row is followed by its bias]
};
int launch_weight_sums(const WeightParams& call, Dtype arithmetic, void* stream);

}  // namespace csta::cuda
