#include "reference.h"

#include <algorithm>
#include <cmath>

namespace {

using csta::Gate;
using csta::Problem;
using Positions = std::vector<char>;

Number operator+(Number a, Number b) { return {a.value + b.value, a.error + b.error}; }
Number operator-(Number a, Number b) { return {a.value - b.value, a.error + b.error}; }
Number operator*(Number a, Number b) {
  return {a.value * b.value, std::fabs(a.value) * b.error + std::fabs(b.value) * a.error};
}
Number& operator+=(Number& a, Number b) { return a = a + b; }
Number exact(long double value) { return {value, std::fabs(value)}; }

// One of the two axes: its positions and those of the other.
struct Side {
  int64_t samples, channels, groups, length;
  const Positions& real;        // [N, length]
  const Positions& other_real;  // [N, other length]
  int64_t other_length;

  bool is_real(int64_t n, int64_t l) const { return real[n * length + l]; }
  long double other_count(int64_t n) const {
    const auto begin = other_real.begin() + n * other_length;
    return static_cast<long double>(std::count(begin, begin + other_length, 1));
  }
};

struct Sides {
  Side frames, joints;

  explicit Sides(const Inputs& in)
      : frames{in.problem.samples, in.problem.channels, in.problem.groups, in.problem.frames,
               in.real_frames,     in.real_joints,      in.problem.joints},
        joints{in.problem.samples, in.problem.channels, in.problem.groups, in.problem.joints,
               in.real_joints,     in.real_frames,      in.problem.frames} {}
};

// Calls function(n, c, t, v, index) at every position, with the indices of (N, C, T) and (N, C, V).
template <class Function>
void for_each_element(const Problem& p, const Function& function) {
  int64_t i = 0;
  for (int64_t n = 0; n < p.samples; ++n) {
    for (int64_t c = 0; c < p.channels; ++c) {
      for (int64_t t = 0; t < p.frames; ++t) {
        for (int64_t v = 0; v < p.joints; ++v) function(n, c, t, v, i++);
      }
    }
  }
}

// out [rows, length] = bias + matrix [rows, depth] times in [depth, length] for every sample.
Numbers product(const Doubles& matrix, const Doubles& bias, const Numbers& in, const Side& side,
                int64_t rows, int64_t depth) {
  Numbers out(side.samples * rows * side.length);
  for (int64_t n = 0; n < side.samples; ++n) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t l = 0; l < side.length; ++l) {
        Number& sum = out[(n * rows + row) * side.length + l];
        sum = exact(bias[row]);
        for (int64_t k = 0; k < depth; ++k) {
          sum += exact(matrix[row * depth + k]) * in[(n * depth + k) * side.length + l];
        }
      }
    }
  }
  return out;
}

// Step 2: the hidden layer after its relu.
Numbers evaluate_hidden(const HeadValues& head, const Numbers& means, const Side& side,
                        long double& nearest_kink) {
  Numbers hidden = product(head.w1, head.b1, means, side, head.hidden, side.channels);
  for (Number& value : hidden) {
    nearest_kink = std::min(nearest_kink, std::fabs(value.value));
    if (value.value <= 0) value = {};
  }
  return hidden;
}

// Step 3, in place, for one group of one sample.
void apply_gate(Gate gate, const Side& side, int64_t n, Number* row) {
  long double top = -INFINITY, total = 0, total_error = 0;
  for (int64_t l = 0; l < side.length; ++l) {
    if (side.is_real(n, l)) top = std::max(top, row[l].value);
  }
  for (int64_t l = 0; l < side.length; ++l) {
    if (!side.is_real(n, l)) {
      row[l] = {};
    } else if (gate == Gate::softmax) {
      const long double e = std::exp(row[l].value - top);
      row[l] = {e, e * (1 + row[l].error)};
      total += e;
      total_error += row[l].error;
    } else {
      const long double a = 1 / (1 + std::exp(-row[l].value));
      row[l] = {a, a * (1 + (1 - a) * row[l].error)};
    }
  }
  if (gate == Gate::sigmoid || total == 0) return;
  for (int64_t l = 0; l < side.length; ++l) {
    row[l] = {row[l].value / total, (row[l].error + row[l].value * total_error / total) / total};
  }
}

Numbers attention_of(Gate gate, const Side& side, Numbers logits) {
  for (int64_t row = 0; row < side.samples * side.groups; ++row) {
    apply_gate(gate, side, row / side.groups, logits.data() + row * side.length);
  }
  return logits;
}

// Gradients of the logits from those of the attention.
Numbers gate_backward(Gate gate, const Side& side, const Numbers& attention, Numbers grad) {
  for (int64_t row = 0; row < side.samples * side.groups; ++row) {
    const Number* a = attention.data() + row * side.length;
    Number* da = grad.data() + row * side.length;
    const int64_t n = row / side.groups;
    Number mean;
    for (int64_t l = 0; l < side.length; ++l) {
      if (side.is_real(n, l)) mean += a[l] * da[l];
    }
    for (int64_t l = 0; l < side.length; ++l) {
      if (!side.is_real(n, l)) {
        da[l] = {};
      } else {
        da[l] = gate == Gate::softmax ? a[l] * (da[l] - mean) : a[l] * (exact(1) - a[l]) * da[l];
      }
    }
  }
  return grad;
}

// Gradients of a head's weights, and through it of the means.
Numbers head_backward(const HeadValues& head, const Side& side, const Numbers& means,
                      const Numbers& hidden, const Numbers& grad_logits, HeadResults& grad) {
  const int64_t width = head.hidden, length = side.length;
  grad.w1.resize(width * side.channels);
  grad.b1.resize(width);
  grad.w2.resize(side.groups * width);
  grad.b2.resize(side.groups);
  Numbers grad_means(means.size());
  for (int64_t n = 0; n < side.samples; ++n) {
    for (int64_t l = 0; l < length; ++l) {
      for (int64_t g = 0; g < side.groups; ++g) {
        grad.b2[g] += grad_logits[(n * side.groups + g) * length + l];
      }
      for (int64_t h = 0; h < width; ++h) {
        const Number active = hidden[(n * width + h) * length + l];
        Number dh;
        for (int64_t g = 0; g < side.groups; ++g) {
          const Number ds = grad_logits[(n * side.groups + g) * length + l];
          grad.w2[g * width + h] += ds * active;
          dh += exact(head.w2[g * width + h]) * ds;
        }
        if (active.value <= 0) continue;
        grad.b1[h] += dh;
        for (int64_t c = 0; c < side.channels; ++c) {
          const int64_t position = (n * side.channels + c) * length + l;
          grad.w1[h * side.channels + c] += dh * means[position];
          grad_means[position] += exact(head.w1[h * side.channels + c]) * dh;
        }
      }
    }
  }
  return grad_means;
}

Numbers as_numbers(const Doubles& values) {
  Numbers numbers;
  for (double value : values) numbers.push_back(exact(value));
  return numbers;
}

}  // namespace

void find_real_positions(Inputs& in) {
  const Problem& p = in.problem;
  in.real_frames.assign(p.samples * p.frames, 0);
  in.real_joints.assign(p.samples * p.joints, 0);
  for (int64_t n = 0; n < p.samples; ++n) {
    bool any_frame = false, any_joint = false;
    for (int64_t t = 0; t < p.frames; ++t) {
      const bool real = (p.lengths == nullptr || t < p.lengths[n]) &&
                        (p.frame_mask == nullptr || p.frame_mask[n * p.frames + t]);
      any_frame |= in.real_frames[n * p.frames + t] = real;
    }
    for (int64_t v = 0; v < p.joints; ++v) {
      const bool real = p.joint_mask == nullptr || p.joint_mask[n * p.joint_mask_stride + v];
      any_joint |= in.real_joints[n * p.joints + v] = real;
    }
    if (any_frame && any_joint) continue;
    std::fill_n(in.real_frames.begin() + n * p.frames, p.frames, 0);
    std::fill_n(in.real_joints.begin() + n * p.joints, p.joints, 0);
  }
}

Results evaluate(const Inputs& in) {
  const Problem& p = in.problem;
  const Sides sides(in);
  const int64_t width = p.groups > 0 ? p.channels / p.groups : 0;
  const auto is_real = [&](int64_t n, int64_t t, int64_t v) {
    return sides.frames.is_real(n, t) && sides.joints.is_real(n, v);
  };
  const auto in_frames = [&](int64_t n, int64_t c, int64_t t) {
    return (n * p.channels + c) * p.frames + t;
  };
  const auto in_joints = [&](int64_t n, int64_t c, int64_t v) {
    return (n * p.channels + c) * p.joints + v;
  };
  const auto frame_row = [&](int64_t n, int64_t c, int64_t t) {
    return (n * p.groups + c / width) * p.frames + t;
  };
  const auto joint_row = [&](int64_t n, int64_t c, int64_t v) {
    return (n * p.groups + c / width) * p.joints + v;
  };
  std::vector<long double> frame_share(p.samples), joint_share(p.samples), kappa(p.samples);
  for (int64_t n = 0; n < p.samples; ++n) {
    const long double joint_count = sides.frames.other_count(n),
                      frame_count = sides.joints.other_count(n);
    frame_share[n] = 1 / std::max(joint_count, 1.0L);
    joint_share[n] = 1 / std::max(frame_count, 1.0L);
    const long double mean = p.gate == Gate::softmax ? frame_count * joint_count : 1;
    kappa[n] = p.scale_by_mean ? mean : p.scale;
  }

  Results out;
  out.nearest_kink = INFINITY;
  out.frame_means.resize(p.samples * p.channels * p.frames);
  out.joint_means.resize(p.samples * p.channels * p.joints);
  for_each_element(p, [&](int64_t n, int64_t c, int64_t t, int64_t v, int64_t i) {
    if (!is_real(n, t, v)) return;
    out.frame_means[in_frames(n, c, t)] += exact(in.x[i]) * exact(frame_share[n]);
    out.joint_means[in_joints(n, c, v)] += exact(in.x[i]) * exact(joint_share[n]);
  });

  Numbers frame_hidden, joint_hidden;
  Numbers frame_logits = as_numbers(in.frame_logits), joint_logits = as_numbers(in.joint_logits);
  if (in.has_heads) {
    frame_hidden = evaluate_hidden(in.frame_head, out.frame_means, sides.frames, out.nearest_kink);
    joint_hidden = evaluate_hidden(in.joint_head, out.joint_means, sides.joints, out.nearest_kink);
    frame_logits = product(in.frame_head.w2, in.frame_head.b2, frame_hidden, sides.frames, p.groups,
                           in.frame_head.hidden);
    joint_logits = product(in.joint_head.w2, in.joint_head.b2, joint_hidden, sides.joints, p.groups,
                           in.joint_head.hidden);
  }
  out.frame_attention = attention_of(p.gate, sides.frames, frame_logits);
  out.joint_attention = attention_of(p.gate, sides.joints, joint_logits);

  const Number rho = exact(p.residual ? 1 : 0);
  Numbers grad_frames(frame_logits.size()), grad_joints(joint_logits.size());
  out.y.resize(in.x.size());
  out.grad_x.resize(in.x.size());
  for_each_element(p, [&](int64_t n, int64_t c, int64_t t, int64_t v, int64_t i) {
    if (!is_real(n, t, v)) {
      if (p.residual) out.y[i] = exact(in.x[i]), out.grad_x[i] = exact(in.grad_y[i]);
      return;
    }
    const Number a_f = out.frame_attention[frame_row(n, c, t)];
    const Number a_j = out.joint_attention[joint_row(n, c, v)];
    const Number gain = rho + exact(kappa[n]) * a_f * a_j;
    const Number s = exact(kappa[n]) * exact(in.x[i]) * exact(in.grad_y[i]);
    out.y[i] = exact(in.x[i]) * gain;
    out.grad_x[i] = exact(in.grad_y[i]) * gain;
    grad_frames[frame_row(n, c, t)] += s * a_j;
    grad_joints[joint_row(n, c, v)] += s * a_f;
  });
  for (size_t i = 0; i < in.grad_frame_attention.size(); ++i)
    grad_frames[i] += exact(in.grad_frame_attention[i]);
  for (size_t i = 0; i < in.grad_joint_attention.size(); ++i)
    grad_joints[i] += exact(in.grad_joint_attention[i]);
  out.grad_frame_logits = gate_backward(p.gate, sides.frames, out.frame_attention, grad_frames);
  out.grad_joint_logits = gate_backward(p.gate, sides.joints, out.joint_attention, grad_joints);

  Numbers grad_frame_means, grad_joint_means;
  if (in.has_heads) {
    grad_frame_means = head_backward(in.frame_head, sides.frames, out.frame_means, frame_hidden,
                                     out.grad_frame_logits, out.frame_head);
    grad_joint_means = head_backward(in.joint_head, sides.joints, out.joint_means, joint_hidden,
                                     out.grad_joint_logits, out.joint_head);
  }
  out.pool_grad_x.resize(in.x.size());
  for_each_element(p, [&](int64_t n, int64_t c, int64_t t, int64_t v, int64_t i) {
    if (!is_real(n, t, v)) return;
    const int64_t frame = in_frames(n, c, t), joint = in_joints(n, c, v);
    out.pool_grad_x[i] = exact(in.grad_frame_means[frame]) * exact(frame_share[n]) +
                         exact(in.grad_joint_means[joint]) * exact(joint_share[n]);
    if (!in.has_heads) return;
    out.grad_x[i] += grad_frame_means[frame] * exact(frame_share[n]);
    out.grad_x[i] += grad_joint_means[joint] * exact(joint_share[n]);
  });
  return out;
}
