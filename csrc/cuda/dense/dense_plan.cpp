// Whether the kernels of planes.h serve a call, and how: from its shape and the device's limits
// alone, as plan.cpp does.
#include <algorithm>
#include <numeric>

#include "../limits.h"
#include "../plan.h"

namespace csta::cuda {
namespace {

int64_t rounded(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

int64_t plane_of(const Call& call) {
  return int64_t{call.axes[kFrames].length} * call.axes[kJoints].length;
}
int64_t bytes_of(Dtype dtype) { return dtype == Dtype::float32 ? 4 : 2; }

// The fewest channels that are whole pieces of 16 bytes.
int64_t whole_channels(const Call& call, Dtype dtype) {
  const int64_t bytes = plane_of(call) * bytes_of(dtype);
  return kCopyBytes / std::gcd(bytes, int64_t{kCopyBytes});
}

class PlanesPlanner {
 public:
  PlanesPlanner(const Call& call, Dtype dtype, Task task, const Device& device)
      : call_(call),
        backward_(task == Task::backward),
        device_(device),
        element_bytes_(bytes_of(dtype)),
        whole_channels_(whole_channels(call, dtype)),
        limit_(std::min(device.shared_of_block, tuning().most_shared)) {}

  // The fewest blocks that leave room for others on their multiprocessors; else the fewest that
  // hold a sample. In backward x may pass in chunks.
  bool choose(Plan& best) const {
    const int parts = backward_ ? tuning().blocks_of_backward : tuning().blocks_of_forward;
    const int64_t part = std::min(limit_, device_.shared_of_processor / parts - 1024);
    bool found = false;
    const int most = std::min(device_.most_cluster, tuning().most_blocks_of_planes);
    const int64_t shares = call_.channels / whole_channels_;
    for (int blocks = 1; blocks <= most && (blocks == 1 || blocks <= shares); blocks *= 2) {
      for (const bool passes : {false, true}) {
        for (const bool with_weights : {true, false}) {
          Plan plan;
          if (passes && !backward_) continue;
          if (held_bytes(blocks) > limit_) continue;  // or else sizes would not be of 32 bits
          lay_out(plan, blocks, passes, with_weights);
          if (plan.shared_bytes > (found ? part : limit_)) continue;
          best = plan;
          found = true;
          if (plan.shared_bytes <= part) return complete(best);
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

  int64_t own(int blocks) const {
    return rounded((call_.channels + blocks - 1) / blocks, whole_channels_);
  }
  int64_t held_bytes(int blocks) const {
    return rounded(own(blocks) * plane_of(call_) * element_bytes_, 128);
  }

  void lay_out(Plan& plan, int blocks, bool passes, bool with_weights) const {
    plan.planes = true;
    plan.cluster = blocks;
    plan.ragged = whole_channels_ > 1;
    plan.own = static_cast<int>(own(blocks));
    const int frames = call_.axes[kFrames].length, joints = call_.axes[kJoints].length;
    const int64_t plane = plane_of(call_);
    for (int axis : {kFrames, kJoints}) {
      plan.share[axis] = (call_.axes[axis].length + blocks - 1) / blocks;
    }
    plan.held_bytes = static_cast<int>(held_bytes(blocks));
    plan.channels_of_chunk = plan.own;
    plan.slots[1] = backward_ ? 1 : 0;
    if (passes) {
      const int64_t bytes = whole_channels_ * plane * element_bytes_;
      const int64_t wanted = tuning().chunk_bytes / bytes * whole_channels_;
      plan.channels_of_chunk =
          static_cast<int>(std::clamp<int64_t>(wanted, whole_channels_, plan.own));
      plan.slots[1] = 2;
    }
    plan.slot_bytes =
        static_cast<int>(rounded(plan.channels_of_chunk * plane * element_bytes_, 128));
    // Where x lies there whole, sums of float32 may take its place when they are known; those of
    // 16-bit elements are wider.
    plan.products_in_x = backward_ && !passes && element_bytes_ == 4;

    Room& room = plan.room;
    int64_t end = 0;
    const auto take = [&](int64_t floats) {
      const int64_t begin = end;
      end += rounded(floats, 4);
      return begin;
    };
    room.sums[kFrames] = take(plan.own * frames);
    room.sums[kJoints] = take(plan.own * (joints + (backward_ ? kWrap : 0)));
    room.attention[kFrames] = take(frames);
    room.scaled = take(joints + kWrap);
    for (int axis : {kFrames, kJoints}) {
      const int length = call_.axes[axis].length;
      room.scores[axis] = take(backward_ ? length : plan.share[axis]);
      room.gradients[axis] = take(backward_ ? length : 0);
    }
    if (backward_ && !plan.products_in_x) room.products = take(plane);
    if (!backward_) take_heads(plan, with_weights, take);
    room.scalars = end = rounded(end, 32);
    // Nobody reads x any more when these are wanted.
    end += plan.held_bytes / 4;
    if (plan.products_in_x) room.products = take(plane);
    if (backward_) take_heads(plan, with_weights, take);
    const int64_t tensors =
        room.scalars * 4 + plan.held_bytes + int64_t{plan.slots[1]} * plan.slot_bytes;
    plan.shared_bytes = kPrefixBytes + std::max(tensors, 4 * end);
  }

  template <class Take>
  void take_heads(Plan& plan, bool with_weights, const Take& take) const {
    Room& room = plan.room;
    for (int axis : {kFrames, kJoints}) {
      const int64_t share = plan.share[axis], hidden = call_.axes[axis].hidden;
      room.staged[axis] = take(column_stride(call_.channels) * share);
      room.hidden[axis] = take(column_stride(call_.axes[axis].hidden) * share);
      room.slopes[axis] = take(backward_ ? hidden * rounded(share, 4) : 0);
      plan.weight_bytes[axis] = with_weights ? weight_bytes(axis) : 0;
      room.weights[axis] = take(plan.weight_bytes[axis] / 4);
    }
  }

  // Nothing where it cannot come by one bulk copy.
  int weight_bytes(int axis) const {
    const Weight& w1 = call_.axes[axis].w1;
    const int64_t bytes =
        int64_t{call_.axes[axis].hidden} * call_.channels * (w1.dtype == Dtype::float32 ? 4 : 2);
    const bool in_pieces =
        bytes % kCopyBytes == 0 && reinterpret_cast<uintptr_t>(w1.data) % kCopyBytes == 0;
    return in_pieces && bytes <= limit_ ? static_cast<int>(bytes) : 0;
  }

  const Call& call_;
  bool backward_;
  const Device& device_;
  int64_t element_bytes_, whole_channels_, limit_;
};

}  // namespace

bool plan_planes(Call& call, Dtype dtype, Task task, const Device& device) {
  const int64_t plane = plane_of(call);
  const bool everything_is_real =
      call.lengths == nullptr && call.frame_mask == nullptr && call.joint_mask == nullptr;
  // Samples of whole pieces of 16 bytes, each of at most two frames; positions and sizes in 32
  // bits.
  const bool in_packs =
      call.channels > 0 && plane > 0 && call.channels % whole_channels(call, dtype) == 0 &&
      call.axes[kJoints].length >= kCopyBytes / bytes_of(dtype) && plane < 1 << 18;
  const bool serves = tuning().planes && device.most_cluster > 1 && dtype != Dtype::float64 &&
                      (task == Task::forward || task == Task::backward) && call.has_heads &&
                      call.groups == 1 && !call.channels_last && everything_is_real && in_packs &&
                      call.samples < 1 << 26;
  Plan plan;
  if (!serves || !PlanesPlanner(call, dtype, task, device).choose(plan)) return false;
  call.plan = plan;
  return true;
}

}  // namespace csta::cuda
