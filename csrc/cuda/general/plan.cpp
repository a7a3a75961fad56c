// Plan of the general kernels, which serve every call: cluster size, chunks, the layout of a
// block's memory, slots.
#include "../plan.h"

#include <algorithm>

#include "../limits.h"

namespace csta::cuda {
namespace {

int64_t bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float64: return 8;
    case Dtype::float32: return 4;
    default: return 2;
  }
}

class Planner {
 public:
  Planner(const CallParams& call, Dtype dtype, Op op, const Device& device)
      : call_(call),
        op_(op),
        device_(device),
        element_bytes_(bytes_of(dtype)),
        scalar_bytes_(dtype == Dtype::float64 ? 8 : 4),
        channels_(call.channels),
        frames_(call.axes[kFrames].length),
        joints_(call.axes[kJoints].length),
        limit_(std::min(device.shared_of_block, tuning().most_shared)),
        fair_share_(std::min(limit_, device.shared_of_processor / blocks_per_processor() - 1024)) {}

  // How many blocks a cluster has: 1, 2, 4 and so on, by these rules.
  // Where a tensor is kept between the two passes over it:
  //   1. the fewest that keep it in their fair share of a multiprocessor, so that other blocks read
  //      or write there while the heads are computed;
  //   2. else the fewest that keep it;
  //   3. else the most, which read the least again.
  // Where a tensor is read once:
  //   4. the most whose blocks fill their slots twice, so that few samples use the whole device.
  bool choose(Plan& best) const {
    return keeps_a_tensor() ? choose_for_keeping(best) : choose_for_streaming(best);
  }

 private:
  bool choose_for_keeping(Plan& best) const {
    bool found = false, kept = false;
    for (int blocks = 1; blocks <= most_blocks(); blocks *= 2) {
      Plan plan;
      if (!fill(plan, blocks)) continue;
      const int64_t bytes = bytes_if_kept(plan);
      if (bytes > fair_share_ && kept) continue;
      best = plan;
      found = true;
      if (bytes <= fair_share_) break;
      kept = bytes <= limit_;
    }
    return found;
  }

  bool choose_for_streaming(Plan& best) const {
    bool found = false;
    for (int blocks = 1; blocks <= most_blocks(); blocks *= 2) {
      Plan plan;
      if (!fill(plan, blocks)) continue;
      if (found && chunks(plan) < 2 * tuning().slots_of_stream) break;
      best = plan;
      found = true;
    }
    return found;
  }

  // Length of the axis that a cluster's blocks share.
  int64_t extent() const { return call_.channels_last ? frames_ : channels_; }
  int64_t most_blocks() const {
    const int most = std::min(device_.most_cluster, tuning().most_blocks);
    return std::min<int64_t>(most, std::max<int64_t>(1, extent()));
  }
  int blocks_per_processor() const {
    return op_ == Op::backward ? tuning().blocks_of_backward : tuning().blocks_of_forward;
  }

  bool fill(Plan& plan, int blocks) const {
    plan.cluster = blocks;
    plan.threads = tuning().threads;
    plan.slice_extent = static_cast<int>(std::max<int64_t>(1, ceil_div(extent(), blocks)));
    for (int axis : {kFrames, kJoints}) {
      plan.positions_per_block[axis] =
          static_cast<int>(std::max<int64_t>(1, ceil_div(call_.axes[axis].length, blocks)));
    }
    const int64_t width = channels_ / call_.groups;
    plan.groups = call_.channels_last || width == 0
                      ? call_.groups
                      : static_cast<int>(
                            std::min<int64_t>(call_.groups, (plan.slice_extent - 1) / width + 2));
    cut(plan);
    plan.correlation_scalars = std::max(plan.positions_per_chunk, 1024) + kWrap;
    lay_out(plan);
    return distribute(plan);
  }

  // Chunk size near tuning().chunk_bytes: whole planes, or whole frames, where they are smaller.
  void cut(Plan& plan) const {
    const int64_t plane = std::max<int64_t>(1, frames_ * joints_);
    const int64_t slice = plan.slice_extent * (call_.channels_last ? channels_ * joints_ : plane);
    const bool whole =
        op_ == Op::forward && keeps_a_tensor() && slice * element_bytes_ <= tuning().whole_bytes;
    const int64_t wanted =
        std::max<int64_t>(1, whole ? slice : tuning().chunk_bytes / element_bytes_);
    int64_t channels = channels_, positions = 0;
    plan.chunks_per_plane = 1;
    if (call_.channels_last) {
      positions = std::max<int64_t>(1, wanted / std::max<int64_t>(1, channels_));
    } else if (plane <= wanted) {
      channels = std::min<int64_t>(plan.slice_extent, wanted / plane);
      positions = plane;
    } else {
      channels = 1;
      positions = wanted;
    }
    positions = std::min(positions, plane);
    if (positions > joints_ && joints_ > 0) positions -= positions % joints_;
    if (!call_.channels_last) plan.chunks_per_plane = static_cast<int>(ceil_div(plane, positions));
    plan.channels_per_chunk = static_cast<int>(std::max<int64_t>(1, channels));
    plan.positions_per_chunk = static_cast<int>(positions);
    plan.slot_bytes =
        static_cast<int>(round_up(plan.channels_per_chunk * positions * element_bytes_ + 16, 128));
  }

  int64_t chunks(const Plan& plan) const {
    if (channels_ == 0 || frames_ == 0 || joints_ == 0) return 0;
    if (call_.channels_last) return ceil_div(plan.slice_extent * joints_, plan.positions_per_chunk);
    if (plan.chunks_per_plane > 1) return int64_t{plan.slice_extent} * plan.chunks_per_plane;
    return ceil_div(plan.slice_extent, plan.channels_per_chunk);
  }

  void lay_out(Plan& plan) const {
    SharedLayout& layout = plan.layout;
    int64_t end = 0;
    const auto take = [&](bool needed, int64_t scalars) {
      const int64_t begin = end;
      if (needed) end += round_up(scalars, 4);
      return begin;
    };
    const bool backward = op_ == Op::backward, pools = op_ == Op::pool;
    const bool heads = call_.has_heads, means = heads || pools;
    const bool gates = op_ == Op::forward || backward;
    const int64_t of_frames = call_.channels_last ? channels_ : frames_;
    const int64_t of_joints = (call_.channels_last ? channels_ : plan.slice_extent) * joints_;
    layout.sums[kFrames] = take(means, plan.slice_extent * of_frames);
    layout.sums[kJoints] = take(means, of_joints);
    for (int axis : {kFrames, kJoints}) {
      const int64_t per_block = plan.positions_per_block[axis];
      layout.staged[axis] = take(heads, column_stride(call_.channels) * per_block);
    }
    for (int axis : {kFrames, kJoints}) {
      const int64_t per_block = plan.positions_per_block[axis];
      const int hidden = call_.axes[axis].hidden;
      layout.hidden[axis] = take(heads, column_stride(hidden) * per_block);
      layout.logits[axis] = take(heads && !backward, call_.groups * per_block);
      layout.grad_hidden[axis] = take(heads && backward, hidden * round_up(per_block, 4));
    }
    for (int axis : {kFrames, kJoints}) {
      layout.attention[axis] = take(gates, int64_t{plan.groups} * call_.axes[axis].length);
    }
    layout.scaled = take(gates, plan.groups * (joints_ + kWrap));
    for (int axis : {kFrames, kJoints}) {
      layout.grad_attention[axis] = take(backward, int64_t{plan.groups} * call_.axes[axis].length);
    }
    layout.correlation = take(backward, plan.correlation_scalars);
    layout.valid = take(true, ceil_div(frames_ + joints_, scalar_bytes_));
    layout.scalars = end;
  }

  int64_t layout_bytes(const Plan& plan) const {
    return round_up(plan.layout.scalars * scalar_bytes_, 128);
  }
  // Slots of a tensor that is read once: x in backward, everything where logits are given. Fewer
  // where grad_y then stays and another block still fits.
  int64_t slots_of_stream(const Plan& plan) const {
    int64_t slots = std::min<int64_t>(chunks(plan), tuning().slots_of_stream);
    if (op_ != Op::backward || !keeps_a_tensor()) return slots;
    const int64_t rest =
        fair_share_ - kPrefixBytes - layout_bytes(plan) - chunks(plan) * plan.slot_bytes;
    if (rest >= 2 * plan.slot_bytes) slots = std::min(slots, rest / plan.slot_bytes);
    return slots;
  }
  bool keeps_a_tensor() const {
    return call_.has_heads && (op_ == Op::forward || op_ == Op::backward);
  }
  int64_t bytes_if_kept(const Plan& plan) const {
    int64_t slots = chunks(plan);
    if (op_ == Op::backward) slots += slots_of_stream(plan);
    return kPrefixBytes + layout_bytes(plan) + slots * plan.slot_bytes;
  }

  // Puts the layout in shared memory if enough slots remain, and fills the rest with slots.
  bool distribute(Plan& plan) const {
    const int64_t streams = op_ == Op::backward ? 2 : 1;
    plan.slots[0] = plan.slots[1] = 0;
    if (op_ == Op::pool_backward) {
      plan.layout_in_shared = layout_bytes(plan) <= 16384;
      plan.shared_bytes = kPrefixBytes + (plan.layout_in_shared ? layout_bytes(plan) : 0);
      return true;
    }
    const int64_t stream = std::max<int64_t>(1, slots_of_stream(plan));
    plan.layout_in_shared =
        kPrefixBytes + layout_bytes(plan) + streams * stream * plan.slot_bytes <= limit_;
    const int64_t fixed = kPrefixBytes + (plan.layout_in_shared ? layout_bytes(plan) : 0);
    const int64_t slots_that_fit = (limit_ - fixed) / plan.slot_bytes;
    if (slots_that_fit < streams) return false;
    const int64_t all = std::max<int64_t>(1, chunks(plan));
    int64_t x_slots = 0;
    if (streams == 2) x_slots = std::min(stream, slots_that_fit / 2);
    const int64_t most = keeps_a_tensor() ? all : stream;
    const int64_t first = std::min({most, slots_that_fit - x_slots, int64_t{kMostSlots}});
    plan.slots[0] = static_cast<int>(first);
    plan.slots[1] = static_cast<int>(x_slots);
    plan.shared_bytes = fixed + (first + x_slots) * plan.slot_bytes;
    return true;
  }

  const CallParams& call_;
  Op op_;
  const Device& device_;
  int64_t element_bytes_, scalar_bytes_, channels_, frames_, joints_;
  int64_t limit_, fair_share_;  // bytes of shared memory: the maximum, and the aim, per block
};

}  // namespace

Tuning& tuning() {
  static Tuning tuning;
  return tuning;
}

void set_divisors(CallParams& call) {
  call.by_slice = Divisor(call.plan.slice_extent);
  for (int axis : {kFrames, kJoints}) {
    call.by_position_range[axis] = Divisor(call.plan.positions_per_block[axis]);
    call.by_length[axis] = Divisor(call.axes[axis].length);
  }
}

bool make_plan(CallParams& call, Dtype dtype, Op op, const Device& device) {
  const int64_t frames = call.axes[kFrames].length, joints = call.axes[kJoints].length;
  int64_t rows = std::max(call.channels, call.groups);
  for (const AxisParams& axis : call.axes) rows = std::max<int64_t>(rows, axis.hidden);
  rows += 20;  // see column_stride
  constexpr int64_t kMost = int64_t{1} << 30;
  if (frames * joints > kMost || rows * (frames + joints) > kMost) return false;
  for (const AxisParams& axis : call.axes) {
    if (int64_t{axis.hidden} * std::max(call.channels, call.groups) > kMost) return false;
  }
  call.by_channels = Divisor(call.channels);
  call.by_joints = Divisor(joints);
  call.by_plane = Divisor(frames * joints);
  call.by_width = Divisor(call.channels / call.groups);
  if (!Planner(call, dtype, op, device).choose(call.plan)) return false;
  set_divisors(call);
  const int64_t most = call.plan.layout_in_shared ? kMost : 2 * int64_t{device.multiprocessors};
  call.plan.clusters =
      static_cast<int>(std::min(call.samples, std::max<int64_t>(1, most / call.plan.cluster)));
  return true;
}

}  // namespace csta::cuda
