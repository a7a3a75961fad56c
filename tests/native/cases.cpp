#include "cases.h"

#include <cmath>
#include <iterator>
#include <sstream>

#include "buffer.h"

namespace {

using csta::Dtype;
using csta::Gate;
using csta::Problem;

struct Shape {
  int64_t samples, channels, frames, joints;  // samples 0: a few
};

constexpr int64_t kJoints[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  15, 16,
                               17, 18, 20, 24, 25, 26, 31, 32, 33, 40, 65};
constexpr int64_t kFrames[] = {1, 2, 7, 8, 9, 16, 17, 63, 64, 65, 130};
constexpr int64_t kChannels[] = {1, 2, 3, 4, 5, 6, 7, 8, 16, 32};
// Empty axes; more samples than runs in the weights' gradients; rows longer than a writer's buffer;
// samples large enough to be split among threads. -1 samples are none.
constexpr Shape kSpecial[] = {
    {-1, 3, 4, 5},   {2, 3, 0, 5},    {2, 3, 4, 0},     {2, 0, 4, 5},    {2, 0, 0, 0},
    {130, 3, 4, 5},  {65, 2, 9, 17},  {1, 2, 3, 1100},  {1, 64, 3, 70},  {1, 1, 700, 3},
    {2, 130, 2, 25}, {2, 7, 150, 19}, {1, 20, 130, 26}, {4, 12, 64, 25}, {3, 8, 130, 25},
    {1, 64, 65, 17}, {2, 33, 67, 18}, {4, 3, 300, 20},
};

std::vector<Shape> all_shapes() {
  std::vector<Shape> shapes(std::begin(kSpecial), std::end(kSpecial));
  for (int64_t joints : kJoints) {
    for (int64_t frames : kFrames) {
      for (int64_t channels : kChannels) shapes.push_back({0, channels, frames, joints});
    }
  }
  return shapes;
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = all_shapes();
  return all;
}

Doubles draw(Random& random, Dtype dtype, int64_t count, double scale = 1) {
  Doubles values(static_cast<size_t>(count));
  for (double& value : values) value = random.uniform() * scale;
  round_to(dtype, values);
  return values;
}

HeadValues draw_head(Random& random, Dtype dtype, const Problem& p) {
  const int64_t hidden = 1 + random.below(8);
  return {hidden, draw(random, dtype, hidden * p.channels, 2), draw(random, dtype, hidden),
          draw(random, dtype, p.groups * hidden, 2), draw(random, dtype, p.groups)};
}

void draw_masks(Random& random, Case& drawn) {
  Problem& p = drawn.inputs.problem;
  const auto is_set = [&] { return static_cast<uint8_t>(random.below(3) > 0); };
  const int64_t kind = random.below(8);
  const bool nothing_real = random.below(3) == 0;
  const int64_t empty_sample = p.samples > 0 ? random.below(p.samples) : 0;
  if (kind == 1 || kind == 5 || kind == 6) {
    for (int64_t n = 0; n < p.samples; ++n) {
      const bool none = nothing_real && n == empty_sample;
      drawn.lengths.push_back(none ? 0 : random.below(p.frames + 1));
    }
    p.lengths = drawn.lengths.data();
  }
  if (kind == 2 || kind == 6 || kind == 7) {
    for (int64_t i = 0; i < p.samples * p.frames; ++i) {
      const bool none = nothing_real && i / p.frames == empty_sample;
      drawn.frame_mask.push_back(none ? 0 : is_set());
    }
    p.frame_mask = drawn.frame_mask.data();
  }
  if (kind == 3 || kind == 4 || kind == 5 || kind == 7) {
    p.joint_mask_stride = kind == 3 || kind == 7 ? 0 : p.joints;
    const int64_t rows = p.joint_mask_stride == 0 ? 1 : p.samples;
    for (int64_t i = 0; i < rows * p.joints; ++i) {
      const bool none = nothing_real && rows > 1 && i / p.joints == empty_sample;
      drawn.joint_mask.push_back(none ? 0 : is_set());
    }
    p.joint_mask = drawn.joint_mask.data();
  }
}

// Values at invalid positions must not matter.
void spoil_padding(Inputs& in) {
  const Problem& p = in.problem;
  const auto spoil_rows = [](Doubles& rows, const std::vector<char>& real, int64_t length,
                             int64_t rows_of_a_sample) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / length, l = static_cast<int64_t>(i) % length;
      if (!real[row / rows_of_a_sample * length + l]) rows[i] = NAN;
    }
  };
  spoil_rows(in.frame_logits, in.real_frames, p.frames, p.groups);
  spoil_rows(in.joint_logits, in.real_joints, p.joints, p.groups);
  spoil_rows(in.grad_frame_attention, in.real_frames, p.frames, p.groups);
  spoil_rows(in.grad_joint_attention, in.real_joints, p.joints, p.groups);
  spoil_rows(in.grad_frame_means, in.real_frames, p.frames, p.channels);
  spoil_rows(in.grad_joint_means, in.real_joints, p.joints, p.channels);
  for (int64_t i = 0; i < static_cast<int64_t>(in.x.size()); ++i) {
    const int64_t v = i % p.joints, t = i / p.joints % p.frames;
    const int64_t n = i / (p.joints * p.frames * p.channels);
    if (in.real_frames[n * p.frames + t] && in.real_joints[n * p.joints + v]) continue;
    in.x[i] = in.grad_y[i] = NAN;
  }
}

std::vector<int64_t> memory_order(const Problem& p) {
  std::vector<int64_t> order;
  for (int64_t n = 0; n < p.samples; ++n) {
    for (int64_t c = 0; c < p.channels; ++c) {
      for (int64_t t = 0; t < p.frames; ++t) {
        for (int64_t v = 0; v < p.joints; ++v) {
          order.push_back(p.channels_last ? ((n * p.frames + t) * p.joints + v) * p.channels + c
                                          : static_cast<int64_t>(order.size()));
        }
      }
    }
  }
  return order;
}

void draw_values(Random& random, Case& drawn) {
  Inputs& in = drawn.inputs;
  const Problem& p = in.problem;
  const Dtype arithmetic = p.dtype == Dtype::float64 ? Dtype::float64 : Dtype::float32;
  const int64_t frame_rows = p.samples * p.frames, joint_rows = p.samples * p.joints;
  const int64_t elements = frame_rows * p.channels * p.joints;
  in.x = draw(random, p.dtype, elements);
  in.grad_y = draw(random, p.dtype, elements);
  in.grad_frame_means = draw(random, p.dtype, frame_rows * p.channels);
  in.grad_joint_means = draw(random, p.dtype, joint_rows * p.channels);
  if (random.below(2) == 0) {
    in.grad_frame_attention = draw(random, arithmetic, frame_rows * p.groups);
  }
  if (random.below(2) == 0) {
    in.grad_joint_attention = draw(random, arithmetic, joint_rows * p.groups);
  }
  if (in.has_heads) {
    in.frame_head = draw_head(random, drawn.weight_dtype, p);
    in.joint_head = draw_head(random, drawn.weight_dtype, p);
  } else {
    in.frame_logits = draw(random, drawn.weight_dtype, frame_rows * p.groups, 4);
    in.joint_logits = draw(random, drawn.weight_dtype, joint_rows * p.groups, 4);
  }
}

}  // namespace

int64_t special_count() { return static_cast<int64_t>(std::size(kSpecial)); }

int64_t case_count() { return static_cast<int64_t>(shapes().size()); }

std::unique_ptr<Case> make_case(int64_t number, Dtype dtype, bool channels_last) {
  auto made = std::make_unique<Case>();
  made->seed =
      static_cast<uint64_t>((number * 4 + static_cast<int64_t>(dtype)) * 2 + channels_last);
  Random random(made->seed);
  const Shape& shape = shapes()[static_cast<size_t>(number)];
  const bool is_large = shape.channels * shape.frames * shape.joints > 20000;
  Problem& p = made->inputs.problem;
  p = Problem{};
  p.samples = shape.samples < 0   ? 0
              : shape.samples > 0 ? shape.samples
                                  : 1 + random.below(is_large ? 2 : 4);
  p.channels = shape.channels;
  p.frames = shape.frames;
  p.joints = shape.joints;
  const int64_t groups[] = {1, p.channels % 2 == 0 ? 2 : 1, std::max<int64_t>(p.channels, 1)};
  p.groups = groups[random.below(3)];
  p.dtype = dtype;
  p.channels_last = channels_last;
  p.gate = random.below(2) == 0 ? Gate::softmax : Gate::sigmoid;
  p.scale_by_mean = random.below(2) == 0;
  p.scale = random.below(2) == 0 ? 1 : -1.75;
  p.residual = random.below(2) == 0;
  made->inputs.has_heads = random.below(3) > 0;
  // x's dtype or the compute dtype: both are accepted.
  made->weight_dtype = random.below(2) == 0 || dtype == Dtype::float64 ? dtype : Dtype::float32;
  draw_masks(random, *made);
  find_real_positions(made->inputs);
  made->order = memory_order(p);
  draw_values(random, *made);
  if (!p.residual && random.below(2) == 0) spoil_padding(made->inputs);
  return made;
}

std::string Case::describe() const {
  const Problem& p = inputs.problem;
  std::ostringstream text;
  text << "N=" << p.samples << " C=" << p.channels << " T=" << p.frames << " V=" << p.joints
       << " G=" << p.groups << (p.gate == Gate::softmax ? " softmax" : " sigmoid")
       << (inputs.has_heads ? " heads" : " logits") << " scale=";
  p.scale_by_mean ? text << "mean" : text << p.scale;
  if (p.residual) text << " residual";
  if (p.lengths != nullptr) text << " lengths";
  if (p.frame_mask != nullptr) text << " frame_mask";
  if (p.joint_mask != nullptr)
    text << (p.joint_mask_stride == 0 ? " (V) " : " (N, V) ") << "joint_mask";
  return text.str();
}
