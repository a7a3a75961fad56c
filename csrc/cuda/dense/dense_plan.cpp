// Plan of the dense kernels, and whether they serve a call: from its shape and the device's limits
// alone.
#include <algorithm>
#include <numeric>

#include "../limits.h"
#include "../plan.h"

namespace csta::cuda {
namespace {

int64_t plane_of(const CallParams& call) {
  return int64_t{call.axes[kFrames].length} * call.axes[kJoints].length;
}
int64_t bytes_of(Dtype dtype) { return dtype == Dtype::float32 ? 4 : 2; }

// Fewest channels that are a multiple of 16 bytes.
int64_t whole_channels(const CallParams& call, Dtype dtype) {
  const int64_t bytes = plane_of(call) * bytes_of(dtype);
  return kCopyBytes / std::gcd(bytes, int64_t{kCopyBytes});
}

class DensePlanner {
 public:
  DensePlanner(const CallParams& call, Dtype dtype, Op op, const Device& device)
      : call_(call),
        backward_(op == Op::backward),
        device_(device),
        element_bytes_(bytes_of(dtype)),
        whole_channels_(whole_channels(call, dtype)),
        limit_(std::min(device.shared_of_block, tuning().most_shared)) {}

  // How many blocks a cluster has: 1, 2, 4 and so on.
  // 1. The fewest whose blocks fit in their fair share of a multiprocessor;
  // 2. else the fewest that hold a sample.
  // For each number: in backward x resident rather than in slots, and w1 in shared memory rather
  // than in global memory.
  bool choose(Plan& best) const {
    const int sharing = backward_ ? tuning().blocks_of_backward : tuning().blocks_of_forward;
    const int64_t fair_share = std::min(limit_, device_.shared_of_processor / sharing - 1024);
    bool found = false;
    const int most = std::min(device_.most_cluster, tuning().most_blocks_of_dense);
    const int64_t units = call_.channels / whole_channels_;
    for (int blocks = 1; blocks <= most && (blocks == 1 || blocks <= units); blocks *= 2) {
      for (const bool passes : {false, true}) {
        for (const bool with_weights : {true, false}) {
          Plan plan;
          if (passes && !backward_) continue;
          if (resident_bytes(blocks) > limit_) continue;  // sizes are 32 bits wide
          lay_out(plan, blocks, passes, with_weights);
          if (plan.shared_bytes > (found ? fair_share : limit_)) continue;
          best = plan;
          found = true;
          if (plan.shared_bytes <= fair_share) return complete(best);
        }
      }
    }
    return found && complete(best);
  }

 private:
  bool complete(Plan& best) const {
    const int64_t on_processor = device_.shared_of_processor / (best.shared_bytes + 1024);
    best.threads = (on_processor > 1 ? 1 : 2) * tuning().threads;
    best.clusters = static_cast<int>(call_.samples);
    return true;
  }

  int64_t slice_extent(int blocks) const {
    return round_up(ceil_div(call_.channels, blocks), whole_channels_);
  }
  int64_t resident_bytes(int blocks) const {
    return round_up(slice_extent(blocks) * plane_of(call_) * element_bytes_, 128);
  }

  void lay_out(Plan& plan, int blocks, bool passes, bool with_weights) const {
    plan.dense = true;
    plan.cluster = blocks;
    plan.unaligned_planes = whole_channels_ > 1;
    plan.slice_extent = static_cast<int>(slice_extent(blocks));
    const int frames = call_.axes[kFrames].length, joints = call_.axes[kJoints].length;
    const int64_t plane = plane_of(call_);
    for (int axis : {kFrames, kJoints}) {
      plan.positions_per_block[axis] = ceil_div(call_.axes[axis].length, blocks);
    }
    plan.resident_bytes = static_cast<int>(resident_bytes(blocks));
    plan.channels_per_chunk = plan.slice_extent;
    plan.slots[1] = backward_ ? 1 : 0;
    if (passes) {
      const int64_t bytes = whole_channels_ * plane * element_bytes_;
      const int64_t wanted = tuning().chunk_bytes / bytes * whole_channels_;
      plan.channels_per_chunk =
          static_cast<int>(std::clamp<int64_t>(wanted, whole_channels_, plan.slice_extent));
      plan.slots[1] = 2;
    }
    plan.slot_bytes =
        static_cast<int>(round_up(plan.channels_per_chunk * plane * element_bytes_, 128));
    // S may replace a resident x in float32; for 16-bit elements it would be larger than x.
    plan.correlation_in_x = backward_ && !passes && element_bytes_ == 4;

    SharedLayout& layout = plan.layout;
    int64_t end = 0;
    const auto take = [&](int64_t floats) {
      const int64_t begin = end;
      end += round_up(floats, 4);
      return begin;
    };
    layout.sums[kFrames] = take(plan.slice_extent * frames);
    layout.sums[kJoints] = take(plan.slice_extent * (joints + (backward_ ? kWrap : 0)));
    layout.attention[kFrames] = take(frames);
    layout.scaled = take(joints + kWrap);
    for (int axis : {kFrames, kJoints}) {
      const int length = call_.axes[axis].length;
      if (backward_) {
        layout.grad_logits[axis] = take(length);
      } else {
        layout.logits[axis] = take(plan.positions_per_block[axis]);
      }
      layout.grad_attention[axis] = take(backward_ ? length : 0);
    }
    if (backward_ && !plan.correlation_in_x) layout.correlation = take(plane);
    if (!backward_) take_heads(plan, with_weights, take);
    layout.scalars = end = round_up(end, 32);
    // These replace x, which is not read any more.
    end += plan.resident_bytes / 4;
    if (plan.correlation_in_x) layout.correlation = take(plane);
    if (backward_) take_heads(plan, with_weights, take);
    const int64_t tensors =
        layout.scalars * 4 + plan.resident_bytes + int64_t{plan.slots[1]} * plan.slot_bytes;
    plan.shared_bytes = kPrefixBytes + std::max(tensors, 4 * end);
  }

  template <class Take>
  void take_heads(Plan& plan, bool with_weights, const Take& take) const {
    SharedLayout& layout = plan.layout;
    for (int axis : {kFrames, kJoints}) {
      const int64_t per_block = plan.positions_per_block[axis], hidden = call_.axes[axis].hidden;
      layout.staged[axis] = take(column_stride(call_.channels) * per_block);
      layout.hidden[axis] = take(column_stride(call_.axes[axis].hidden) * per_block);
      layout.grad_hidden[axis] = take(backward_ ? hidden * round_up(per_block, 4) : 0);
      plan.weight_bytes[axis] = with_weights ? weight_bytes(axis) : 0;
      layout.weights[axis] = take(plan.weight_bytes[axis] / 4);
    }
  }

  // 0 if one bulk copy cannot bring it.
  int weight_bytes(int axis) const {
    const Weight& w1 = call_.axes[axis].w1;
    const int64_t bytes =
        int64_t{call_.axes[axis].hidden} * call_.channels * (w1.dtype == Dtype::float32 ? 4 : 2);
    const bool in_copies =
        bytes % kCopyBytes == 0 && reinterpret_cast<uintptr_t>(w1.data) % kCopyBytes == 0;
    return in_copies && bytes <= limit_ ? static_cast<int>(bytes) : 0;
  }

  const CallParams& call_;
  bool backward_;
  const Device& device_;
  int64_t element_bytes_, whole_channels_, limit_;
};

}  // namespace

std::optional<Plan> plan_dense(const CallParams& call, Dtype dtype, Op op, const Device& device) {
  const int64_t plane = plane_of(call);
  const bool everything_is_valid =
      call.lengths == nullptr && call.frame_mask == nullptr && call.joint_mask == nullptr;
  // Samples are multiples of 16 bytes, a vector spans at most two frames, positions and sizes fit
  // in 32 bits.
  const bool in_vectors =
      call.channels > 0 && plane > 0 && call.channels % whole_channels(call, dtype) == 0 &&
      call.axes[kJoints].length >= kCopyBytes / bytes_of(dtype) && plane < 1 << 18;
  const bool serves = tuning().dense && device.most_cluster > 1 && dtype != Dtype::float64 &&
                      (op == Op::forward || op == Op::backward) && call.has_heads &&
                      call.groups == 1 && !call.channels_last && everything_is_valid &&
                      in_vectors && call.samples < 1 << 26;
  Plan plan;
  if (!serves || !DensePlanner(call, dtype, op, device).choose(plan)) return std::nullopt;
  return plan;
}

}  // namespace csta::cuda
