// Plan of a call with two heads, for tests/support/budget.py.
#include <algorithm>
#include <iterator>

#include "cuda/plan.h"

using namespace csta::cuda;

// Plan: blocks per cluster, threads per block, slots of x (backward: of grad_y, and of x), bytes
// per slot, bytes of shared memory, whether the layout is in it, and resident bytes of the dense
// kernels, or 0. Returns false if there is no plan.
extern "C" bool plan_of(const int32_t* shape, bool channels_last, bool bfloat16, bool backward,
                        int32_t most_cluster, int64_t shared_of_block, int64_t shared_of_processor,
                        int64_t* plan) {
  CallParams call{};
  call.samples = 1;
  call.channels = shape[0];
  call.groups = 1;
  call.channels_last = channels_last;
  call.has_heads = true;
  for (int axis : {kFrames, kJoints}) {
    call.axes[axis].length = shape[1 + axis];
    call.axes[axis].hidden = std::max(16, shape[0] / 4);
    call.axes[axis].w1.dtype = bfloat16 ? csta::Dtype::bfloat16 : csta::Dtype::float32;
  }
  const auto dtype = bfloat16 ? csta::Dtype::bfloat16 : csta::Dtype::float32;
  const Op op = backward ? Op::backward : Op::forward;
  if (!make_plan(call, dtype, op, {1, most_cluster, shared_of_block, shared_of_processor})) {
    return false;
  }
  const Plan made =
      plan_dense(call, dtype, op, {1, most_cluster, shared_of_block, shared_of_processor})
          .value_or(call.plan);
  const int64_t numbers[] = {made.cluster,          made.threads,
                             made.slots[0],         made.slots[1],
                             made.slot_bytes,       made.shared_bytes,
                             made.layout_in_shared, made.dense ? made.resident_bytes : 0};
  std::copy(std::begin(numbers), std::end(numbers), plan);
  return true;
}
