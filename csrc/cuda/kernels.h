// The launchers of the kernels. Each returns 0, or the number of CUDA's error.
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
// Their gradients but for the heads' weights: dx, and grad_logits.
int launch_backward(const CallParams& call, Dtype dtype, void* stream);
// The same for common samples; see planes.h.
int launch_dense_forward(const CallParams& call, Dtype dtype, void* stream);
int launch_dense_backward(const CallParams& call, Dtype dtype, void* stream);
// Step 1 alone.
int launch_pool(const CallParams& call, Dtype dtype, void* stream);
int launch_pool_backward(const CallParams& call, Dtype dtype, void* stream);

// Gradients of a head's weights, sums over samples and positions of what backward has left.
struct WeightSum {
  const void* left;   // [N, rows, length]
  const void* right;  // [N, columns, length]
  int rows, columns, length;
  Weight out;   // [rows, columns]: left times right
  Weight bias;  // [rows]: left alone
};
constexpr int kWeightSums = 4;
struct WeightParams {
  WeightSum sums[kWeightSums];
  int64_t samples, samples_of_a_run;
  int runs;
  void* parts;  // [runs][all rows and columns, and a bias behind every row]
};
int launch_weight_sums(const WeightParams& call, Dtype arithmetic, void* stream);

}  // namespace csta::cuda
