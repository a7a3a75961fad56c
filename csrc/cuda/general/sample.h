// One sample as a block sees it: its slice, the chunks that the slice is loaded in, and the valid
// positions.
#pragma once

#include "../common/table.h"

namespace csta::cuda {

// A chunk is contiguous in memory: whole planes of some channels, or some positions of one channel;
// in channels-last memory, all channels of some positions.
struct Chunk {
  int channel_begin, channel_end;
  int position_begin, position_end;
  int64_t offset;  // elements from the sample's start
  int channel_stride, position_stride;

  CSTA_DEVICE int channels() const { return channel_end - channel_begin; }
  CSTA_DEVICE int positions() const { return position_end - position_begin; }
};

// The part of a sample that a block owns.
struct Slice {
  int channel_begin, channel_end, frame_begin, frame_end;
  int chunks;

  CSTA_DEVICE Slice(const CallParams& call, int rank) {
    const Plan& plan = call.plan;
    const int frames = call.axes[kFrames].length, joints = call.axes[kJoints].length;
    const int whole = call.channels_last ? frames : call.channels;
    const int begin = min(whole, rank * plan.slice_extent),
              end = min(whole, begin + plan.slice_extent);
    channel_begin = call.channels_last ? 0 : begin;
    channel_end = call.channels_last ? call.channels : end;
    frame_begin = call.channels_last ? begin : 0;
    frame_end = call.channels_last ? end : frames;
    if (call.channels_last) {
      chunks = ceil_div((end - begin) * joints, plan.positions_per_chunk);
    } else if (plan.chunks_per_plane > 1) {
      chunks = (end - begin) * plan.chunks_per_plane;
    } else {
      chunks = ceil_div(end - begin, plan.channels_per_chunk);
    }
    if (call.channels == 0 || frames == 0 || joints == 0) chunks = 0;
  }

  CSTA_DEVICE Chunk chunk(const CallParams& call, int number) const {
    const Plan& plan = call.plan;
    const int joints = call.axes[kJoints].length, plane = call.axes[kFrames].length * joints;
    Chunk chunk{channel_begin, channel_end, 0, plane, 0, 1, call.channels};
    if (call.channels_last) {
      chunk.position_begin = frame_begin * joints + number * plan.positions_per_chunk;
      chunk.position_end = min(frame_end * joints, chunk.position_begin + plan.positions_per_chunk);
      chunk.offset = int64_t{chunk.position_begin} * call.channels;
      return chunk;
    }
    if (plan.chunks_per_plane > 1) {
      chunk.channel_begin = channel_begin + number / plan.chunks_per_plane;
      chunk.channel_end = chunk.channel_begin + 1;
      chunk.position_begin = number % plan.chunks_per_plane * plan.positions_per_chunk;
      chunk.position_end = min(plane, chunk.position_begin + plan.positions_per_chunk);
    } else {
      chunk.channel_begin = channel_begin + number * plan.channels_per_chunk;
      chunk.channel_end = min(channel_end, chunk.channel_begin + plan.channels_per_chunk);
    }
    chunk.offset = int64_t{chunk.channel_begin} * plane + chunk.position_begin;
    chunk.channel_stride = chunk.positions();
    chunk.position_stride = 1;
    return chunk;
  }
};

// Valid positions of a sample.
struct Valid {
  const uint8_t *frames, *joints;  // flags, or null if all below frame_end are valid
  int frame_end;                   // no frame from here on is valid
  int count[2];                    // T_n, V_n

  // Whether all joints of all frames before frame_end are valid.
  CSTA_DEVICE bool all() const { return frames == nullptr && joints == nullptr; }
  CSTA_DEVICE bool frame(int t) const {
    return t < frame_end && (frames == nullptr || frames[t] != 0);
  }
  CSTA_DEVICE bool joint(int v) const { return joints == nullptr || joints[v] != 0; }
  CSTA_DEVICE bool of_axis(int axis, int position) const {
    return axis == kFrames ? frame(position) : count[kJoints] > 0 && joint(position);
  }
};

// Sum over the block's threads. Called by all threads.
CSTA_DEVICE int count_over_block(int mine, int* scratch) {
  for (int step = 16; step > 0; step /= 2) mine += shuffle_xor(mine, step);
  block_barrier();
  if (thread() % 32 == 0) scratch[thread() / 32] = mine;
  block_barrier();
  int sum = 0;
  for (int warp = 0; warp < threads() / 32; ++warp) sum += scratch[warp];
  return sum;
}

CSTA_DEVICE int length_of(const CallParams& call, int64_t n) {
  const int frames = call.axes[kFrames].length;
  if (call.lengths == nullptr) return frames;
  const int64_t length = call.lengths[n];
  return length < 0 ? 0 : length > frames ? frames : static_cast<int>(length);
}

// Finds the valid positions of sample n; flags has one byte per frame and joint.
CSTA_DEVICE Valid find_valid(const CallParams& call, int64_t n, uint8_t* flags, int* scratch) {
  const int frames = call.axes[kFrames].length, joints = call.axes[kJoints].length;
  const int length = length_of(call, n);
  Valid valid{nullptr, nullptr, length, {length, joints}};
  if (call.frame_mask != nullptr) {
    int count = 0;
    for (int t = thread(); t < frames; t += threads()) {
      flags[t] = t < length && call.frame_mask[n * frames + t] != 0;
      count += flags[t];
    }
    valid.count[kFrames] = count_over_block(count, scratch);
    valid.frames = flags;
  }
  if (call.joint_mask != nullptr) {
    int count = 0;
    for (int v = thread(); v < joints; v += threads()) {
      flags[frames + v] = call.joint_mask[n * call.joint_mask_stride + v] != 0;
      count += flags[frames + v];
    }
    valid.count[kJoints] = count_over_block(count, scratch);
    valid.joints = flags + frames;
  }
  if (valid.count[kFrames] == 0 || valid.count[kJoints] == 0) {
    valid.frame_end = valid.count[kFrames] = valid.count[kJoints] = 0;
  }
  return valid;
}

}  // namespace csta::cuda
