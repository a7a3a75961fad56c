// Operator pool: x comes through a ring of chunks and leaves as means; its backward writes grad_x
// from the means' gradients.
#include "../dispatch.h"
#include "gather.h"
#include "passes.h"
#include "reweight.h"

namespace csta::cuda {
namespace {

template <class Element>
class Pool {
  using Scalar = Arithmetic<Element>;

 public:
  CSTA_DEVICE explicit Pool(const CallParams& call)
      : call_(call), block_(call), ring_(block_.ring(0)) {
    block_barrier();
  }

  CSTA_DEVICE void run(int64_t n) {
    const int joints = call_.axes[kJoints].length;
    const auto* x = static_cast<const Element*>(call_.x) +
                    n * call_.channels * call_.axes[kFrames].length * joints;
    const int chunks = block_.slice.chunks, slots = ring_.slots();
    const int read_end = length_of(call_, n) * joints;
    const auto load = [&](int j) { ring_.load(x, block_.slice.chunk(call_, j), j, read_end); };
    for (int j = 0; j < min(chunks, slots); ++j) load(j);
    const Valid valid = find_valid(call_, n, block_.flags(), block_.scratch());
    const SharedLayout& layout = call_.plan.layout;
    block_.clear(layout.sums[kFrames], layout.staged[kFrames] - layout.sums[kFrames]);
    block_barrier();
    for (int j = 0; j < chunks; ++j) {
      const Chunk chunk = block_.slice.chunk(call_, j);
      ring_.wait_for(j);
      pool(call_, chunk, ring_.data(x, chunk, j), valid, block_.own_sums(kFrames),
           block_.own_sums(kJoints));
      block_barrier();
      if (j + slots < chunks) load(j + slots);
    }
    cluster_arrive();
    cluster_wait();
    ThreadRotation rotation;
#pragma unroll 1
    for (int axis = kFrames; axis <= kJoints; ++axis) {
      const AxisParams& params = call_.axes[axis];
      auto* out = static_cast<Element*>(params.pooled) + n * call_.channels * params.length;
      gather_means(block_, axis, valid, rotation, [&](int c, int l, Scalar mean) {
        out[int64_t{c} * params.length + l] = narrow<Element>(mean);
      });
    }
    cluster_arrive();  // peers may still read this block's sums
    cluster_wait();
  }

 private:
  const CallParams& call_;
  Block<Element> block_;
  Ring<Element> ring_;
};

template <class Element>
CSTA_KERNEL CSTA_LAUNCH_BOUNDS(kMostThreads, 2) pool_kernel(CSTA_GRID_CONSTANT CallParams call) {
  Pool<Element> pool(call);
  const int64_t step = blocks() / cluster_size();
  for (int64_t n = block() / cluster_size(); n < call.samples; n += step) pool.run(n);
}

// grad_x = dp_f / V_n + dp_j / T_n where valid. A block takes planes (channels-last: frames) of one
// sample after the other.
template <class Element>
CSTA_KERNEL CSTA_LAUNCH_BOUNDS(kMostThreads, 2)
    pool_backward_kernel(CSTA_GRID_CONSTANT CallParams call) {
  using Scalar = Arithmetic<Element>;
  const int frames = call.axes[kFrames].length, joints = call.axes[kJoints].length;
  const int rank = cluster_rank();
  auto* flags = reinterpret_cast<uint8_t*>(shared_memory() + kPrefixBytes);
  if (!call.plan.layout_in_shared) {
    flags = static_cast<uint8_t*>(call.global_layouts) + block() * (frames + joints);
  }
  const Slice slice(call, rank);
  for (int64_t n = block() / cluster_size(); n < call.samples; n += blocks() / cluster_size()) {
    block_barrier();
    const Valid valid =
        find_valid(call, n, flags, reinterpret_cast<int*>(shared_memory() + kBarrierBytes));
    block_barrier();
    const auto frame_count = static_cast<Scalar>(max(valid.count[kFrames], 1));
    const auto joint_count = static_cast<Scalar>(max(valid.count[kJoints], 1));
    const auto* of_frames =
        static_cast<const Element*>(call.axes[kFrames].pooled) + n * call.channels * frames;
    const auto* of_joints =
        static_cast<const Element*>(call.axes[kJoints].pooled) + n * call.channels * joints;
    auto* out = static_cast<Element*>(call.out) + n * call.channels * frames * joints;
    for (int j = 0; j < slice.chunks; ++j) {
      const Chunk chunk = slice.chunk(call, j);
      const int count = chunk.channels() * chunk.positions();
      for (int i = thread(); i < count; i += threads()) {
        const Position at(call, chunk, i);
        Scalar value = 0;
        if (valid.frame(at.t) && valid.joint(at.v)) {
          const int64_t frame = int64_t{at.c} * frames + at.t;
          const int64_t joint = int64_t{at.c} * joints + at.v;
          value = static_cast<Scalar>(widen(of_frames[frame])) / joint_count +
                  static_cast<Scalar>(widen(of_joints[joint])) / frame_count;
        }
        out[chunk.offset + i] = narrow<Element>(value);
      }
    }
  }
}

}  // namespace

int launch_pool(const CallParams& call, Dtype dtype, void* stream) {
  return launch_for(dtype, call, stream,
                    [](auto element) { return &pool_kernel<decltype(element)>; });
}

int launch_pool_backward(const CallParams& call, Dtype dtype, void* stream) {
  return launch_for(dtype, call, stream,
                    [](auto element) { return &pool_backward_kernel<decltype(element)>; });
}

}  // namespace csta::cuda
