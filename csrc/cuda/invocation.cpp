// Fills the kernels' parameters from a Problem, chooses between the dense and the general plan,
// divides the workspace and launches.
#include "invocation.h"

#include <algorithm>
#include <cstdint>

#include "limits.h"

namespace csta::cuda {
namespace {

constexpr int64_t kMostRuns = 64;  // runs of samples in the weights' gradients

AxisParams axis_params(int64_t length, const Head* head) {
  AxisParams axis{};
  axis.length = static_cast<int>(length);
  if (head == nullptr) return axis;
  axis.hidden = static_cast<int>(head->hidden);
  axis.w1 = head->w1;
  axis.b1 = head->b1;
  axis.w2 = head->w2;
  axis.b2 = head->b2;
  return axis;
}

bool fits(int64_t size) { return size <= INT32_MAX; }

}  // namespace

std::optional<Invocation> Invocation::make(Op op, const Problem& problem, const Head* frame_head,
                                           const Head* joint_head, const Device& device) {
  for (int64_t size : {problem.channels, problem.frames, problem.joints, problem.groups,
                       frame_head != nullptr ? frame_head->hidden : 0,
                       joint_head != nullptr ? joint_head->hidden : 0}) {
    if (!fits(size)) return std::nullopt;
  }
  Invocation invocation;
  invocation.op_ = op;
  invocation.dtype_ = problem.dtype;
  invocation.arithmetic_ = problem.dtype == Dtype::float64 ? Dtype::float64 : Dtype::float32;
  CallParams& call = invocation.call_;
  call.samples = problem.samples;
  call.channels = static_cast<int>(problem.channels);
  call.groups = static_cast<int>(problem.groups);
  call.axes[kFrames] = axis_params(problem.frames, frame_head);
  call.axes[kJoints] = axis_params(problem.joints, joint_head);
  call.channels_last = problem.channels_last;
  call.has_heads = frame_head != nullptr;
  call.lengths = problem.lengths;
  call.frame_mask = problem.frame_mask;
  call.joint_mask = problem.joint_mask;
  call.joint_mask_stride = problem.joint_mask_stride;
  call.gate = problem.gate;
  call.scale_by_mean = problem.scale_by_mean;
  call.residual = problem.residual;
  call.scale = problem.scale;
  if (!make_plan(call, problem.dtype, op, device)) return std::nullopt;
  invocation.plan_ = call.plan;
  invocation.dense_plan_ = plan_dense(call, problem.dtype, op, device);
  if (op == Op::backward && call.has_heads) {
    const Head* heads[] = {frame_head, joint_head};
    invocation.sum_weights(heads);
  }
  return invocation;
}

void Invocation::set_logits(const void* frames, const void* joints) {
  call_.axes[kFrames].logits = frames;
  call_.axes[kJoints].logits = joints;
}

void Invocation::set_tensors(const Tensors& tensors) {
  call_.x = tensors.x;
  call_.grad_y = tensors.grad_y;
  call_.out = tensors.out;
  // Views may be misaligned; only the general kernels take those.
  const auto is_aligned = [](const void* data) {
    return reinterpret_cast<uintptr_t>(data) % kCopyBytes == 0;
  };
  const bool without_grad_y = op_ == Op::backward && tensors.grad_y == nullptr;
  const bool aligned =
      is_aligned(tensors.x) && is_aligned(tensors.grad_y) && is_aligned(tensors.out);
  call_.plan = dense_plan_ && aligned && !without_grad_y ? *dense_plan_ : plan_;
  set_divisors(call_);
  for (int axis : {kFrames, kJoints}) {
    AxisParams& params = call_.axes[axis];
    params.attention = tensors.attention[axis];
    params.upstream = tensors.upstream[axis];
    params.grad_logits = tensors.grad_logits[axis];
    params.pooled = tensors.pooled[axis];
    WeightSum* sums = weights_.sums + 2 * axis;
    const HeadGradients& gradients = tensors.weights[axis];
    sums[0].out.data = gradients.w1;
    sums[0].bias.data = gradients.b1;
    sums[1].out.data = gradients.w2;
    sums[1].bias.data = gradients.b2;
    if (without_grad_y && params.upstream == nullptr)
      sums[0].length = sums[1].length = 0;  // no terms
  }
  assign_workspace(nullptr);
}

// Shapes, dtypes and runs of the weights' gradients: w1 with b1 and w2 with b2, of both heads.
void Invocation::sum_weights(const Head* heads[2]) {
  weights_.samples = call_.samples;
  weights_.samples_of_a_run = std::max<int64_t>(1, ceil_div(call_.samples, kMostRuns));
  weights_.runs = static_cast<int>(ceil_div(call_.samples, weights_.samples_of_a_run));
  for (int axis : {kFrames, kJoints}) {
    const AxisParams& params = call_.axes[axis];
    const Head& head = *heads[axis];
    const auto of = [&](int rows, int columns, const Weight& weight, const Weight& bias) {
      return WeightSum{nullptr,
                       nullptr,
                       rows,
                       columns,
                       params.length,
                       {nullptr, weight.dtype},
                       {nullptr, bias.dtype}};
    };
    weights_.sums[2 * axis] = of(params.hidden, call_.channels, head.w1, head.b1);
    weights_.sums[2 * axis + 1] = of(call_.groups, params.hidden, head.w2, head.b2);
  }
}

// Assigns workspace pointers; with null, only counts bytes.
void Invocation::assign_workspace(unsigned char* memory) {
  const int64_t scalar_bytes = arithmetic_ == Dtype::float64 ? 8 : 4;
  int64_t end = 0;
  const auto take = [&](int64_t bytes) -> void* {
    void* piece = memory + end;
    end += round_up(bytes, 16);
    return memory == nullptr ? nullptr : piece;
  };
  const Plan& plan = call_.plan;
  if (!plan.layout_in_shared) {
    call_.global_layouts =
        take(int64_t{plan.clusters} * plan.cluster * plan.layout.scalars * scalar_bytes);
  }
  if (weights_.samples_of_a_run > 0) {
    for (int axis : {kFrames, kJoints}) {
      AxisParams& params = call_.axes[axis];
      const int64_t row = call_.samples * params.length * scalar_bytes;
      params.means = take(row * call_.channels);
      params.hidden_values = take(row * params.hidden);
      params.grad_hidden = take(row * params.hidden);
      params.grad_logits = take(row * call_.groups);
      WeightSum* sums = weights_.sums + 2 * axis;
      sums[0].left = params.grad_hidden;
      sums[0].right = params.means;
      sums[1].left = params.grad_logits;
      sums[1].right = params.hidden_values;
    }
    int64_t all = 0;
    for (const WeightSum& sum : weights_.sums) all += int64_t{sum.rows} * (sum.columns + 1);
    weights_.parts = take(weights_.runs * all * scalar_bytes);
  }
  workspace_bytes_ = end;
}

int Invocation::run(void* workspace, void* stream) {
  assign_workspace(static_cast<unsigned char*>(workspace));
  int error = 0;
  if (call_.samples > 0) {
    switch (op_) {
      case Op::forward:
        error = (call_.plan.dense ? launch_dense_forward : launch_forward)(call_, dtype_, stream);
        break;
      case Op::backward:
        error = (call_.plan.dense ? launch_dense_backward : launch_backward)(call_, dtype_, stream);
        break;
      case Op::pool: error = launch_pool(call_, dtype_, stream); break;
      case Op::pool_backward: error = launch_pool_backward(call_, dtype_, stream); break;
    }
  }
  if (error != 0 || weights_.samples_of_a_run == 0) return error;
  return launch_weight_sums(weights_, arithmetic_, stream);
}

}  // namespace csta::cuda
