// The launchers of the kernels. Each returns 0, or the number of CUDA's error.
#pragma once

#include "limits.h"
#include "params.h"

namespace csta::cuda {

inline LaunchShape shape_of(const Call& call) {
  const Plan& plan = call.plan;
  return {int64_t{plan.clusters} * plan.cluster, plan.threads, plan.cluster, plan.shared_bytes};
}

// Steps 1 to 4 with heads, 3 and 4 with logits.
int launch_forward(const Call& call, Dtype dtype, void* stream);
// Their gradients but for the heads' weights: dx, and score_gradients.
int launch_backward(const Call& call, Dtype dtype, void* stream);
// The same for common samples; see planes.h.
int launch_forward_planes(const Call& call, Dtype dtype, void* stream);
int launch_backward_planes(const Call& call, Dtype dtype, void* stream);
// Step 1 alone.
int launch_pool(const Call& call, Dtype dtype, void* stream);
int launch_pool_backward(const Call& call, Dtype dtype, void* stream);

// Gradients of a head's weights, sums over samples and positions of what backward has left.
struct WeightSum {
  const void* left;   // [N, rows, length]
  const void* right;  // [N, columns, length]
  int rows, columns, length;
  Weight out;   // [rows, columns]: left times right
  Weight bias;  // [rows]: left alone
};
constexpr int kWeightSums = 4;
struct WeightCall {
  WeightSum sums[kWeightSums];
  int64_t samples, samples_of_a_run;
  int runs;
  void* parts;  // [runs][all rows and columns, and a bias behind every row]
};
int launch_weight_sums(const WeightCall& call, Dtype arithmetic, void* stream);

}  // namespace csta::cuda
