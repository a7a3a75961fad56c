// The definition of the layer (docs/definition.md) as plain loops in long double. Every number
// carries a first-order bound of the rounding errors that a calculation in less precision makes on
// the way to it, so that results of cancellation are held neither to the impossible nor to nothing.
#pragma once

#include <vector>

#include "cpu/kernels.h"

// error is in units of the roundoff, and never less than the value's magnitude.
struct Number {
  long double value = 0, error = 0;
};
using Numbers = std::vector<Number>;
using Doubles = std::vector<double>;

struct HeadValues {
  int64_t hidden = 0;
  Doubles w1, b1, w2, b2;
};
struct HeadResults {
  Numbers w1, b1, w2, b2;
};

// One call's inputs; features and all of their shape in the order (N, C, T, V) whatever the layout.
struct Inputs {
  csta::Problem problem;
  bool has_heads;
  HeadValues frame_head, joint_head;
  Doubles frame_logits, joint_logits;  // [N, G, T], [N, G, V], without heads
  Doubles x, grad_y;
  Doubles grad_frame_attention, grad_joint_attention;  // or empty
  Doubles grad_frame_means, grad_joint_means;          // [N, C, T], [N, C, V]
  std::vector<char> real_frames, real_joints;          // [N, T], [N, V], from find_real_positions
};

struct Results {
  Numbers y, frame_attention, joint_attention;
  Numbers grad_x, grad_frame_logits, grad_joint_logits;
  HeadResults frame_head, joint_head;  // gradients of their weights
  Numbers frame_means, joint_means, pool_grad_x;
  long double nearest_kink;  // the smallest magnitude of anything that went into a relu
};

void find_real_positions(Inputs& inputs);
Results evaluate(const Inputs& inputs);
