// Step 2 and its gradient at a block's own positions of an axis: means in, logits or the means'
// gradients out. Every function is called by all threads and has no barrier at its start or end.
#pragma once

#include "table.h"

namespace csta::cuda {

// Rotates the first thread between small loops that have no barrier between them, so that idle
// threads take the next loop.
class ThreadRotation {
 public:
  CSTA_DEVICE explicit ThreadRotation(int next = 0) : next_(next % threads()) {}
  CSTA_DEVICE int first(int items) {
    const int behind = thread() - next_;
    next_ = (next_ + items) % threads();
    return behind < 0 ? behind + threads() : behind;
  }

 private:
  int next_;
};

// Calls function with a weight's numbers as their dtype: x's or the compute dtype.
template <class Element, class Function>
CSTA_DEVICE void with_numbers(const Weight& weight, const Function& function) {
  using Scalar = Arithmetic<Element>;
  if constexpr (!std::is_same_v<Element, Scalar>) {
    if (weight.dtype != Dtype::float32) return function(static_cast<const Element*>(weight.data));
  }
  function(static_cast<const Scalar*>(weight.data));
}
template <class Element>
CSTA_DEVICE Arithmetic<Element> number(const Weight& weight, int i) {
  Arithmetic<Element> found = 0;
  with_numbers<Element>(weight, [&](const auto* numbers) {
    found = static_cast<Arithmetic<Element>>(widen(numbers[i]));
  });
  return found;
}

// Partial dot product: thread `part` takes every split-th group of 4 terms; kAtOnce loads are in
// flight, to hide their latency from the few threads.
template <class Scalar, class Number>
CSTA_DEVICE Scalar dot(const Number* weights, bool aligned, const Scalar* values, int terms,
                       int part, int split) {
  constexpr int kAtOnce = 16 / static_cast<int>(sizeof(Scalar));
  Scalar total = 0;
  int at = 4 * part;  // next group of 4
  const auto add = [&](Scalar(&sums)[4]) {
    const Vec<Number, 4> a =
        aligned ? Vec<Number, 4>::load(weights + at) : Vec<Number, 4>::load_unaligned(weights + at);
    const Vec<Scalar, 4> b = Vec<Scalar, 4>::load(values + at);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      sums[k] += static_cast<Scalar>(widen(a.values[k])) * b.values[k];
    }
    at += 4 * split;
  };
#pragma unroll 1
  while (at + (kAtOnce - 1) * 4 * split < terms / 4 * 4) {
    Scalar sums[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) add(sums);
    total += (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
#pragma unroll 1
  while (at < terms / 4 * 4) {
    Scalar sums[4] = {0, 0, 0, 0};
    add(sums);
    total += (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
  if (part == split - 1) {
    for (int term = terms / 4 * 4; term < terms; ++term) {
      total += static_cast<Scalar>(widen(weights[term])) * values[term];
    }
  }
  return total;
}

// Rows of a weight times columns: calls finish(row, l, sum over terms of weights[row, term]
// in[term, l]) for own positions l, whose terms are contiguous. Neighbouring threads share long
// sums.
template <class Number, class Scalar, class Finish>
CSTA_DEVICE void rows_times(const PositionRange& range, int rows, int terms, const Number* weights,
                            const Table<Scalar>& in, ThreadRotation& rotation,
                            const Finish& finish) {
  const int split = threads_per_sum(terms), count = range.count();
  const bool aligned = terms % 4 == 0 && Vec<Number, 4>::is_aligned(weights);
  const int items = round_up(rows * count * split, 32);  // whole warps, for the shuffles
  for (int i = rotation.first(items); i < items; i += threads()) {
    const int output = i / split, part = i % split;
    const int row = output / count, l = range.begin + output - row * count;
    const int there = min(row, rows - 1);
    Scalar sum = dot(weights + there * terms, aligned, &in.at(0, l), terms, part, split);
    for (int step = 1; step < split; step *= 2) sum += shuffle_xor(sum, step);
    if (row < rows && part == 0) finish(row, l, sum);
  }
}

// Columns of a weight times rows: calls finish(row, l, sum over terms of weights[term, row]
// in(term, l)) for own positions l, 4 at a time; in(term, l, Scalar[4]) loads them.
template <class Number, class Scalar, class In, class Finish>
CSTA_DEVICE void columns_times(const PositionRange& range, int rows, int terms,
                               const Number* weights, const In& in, ThreadRotation& rotation,
                               const Finish& finish) {
  const int items = rows * ceil_div(range.count(), 4);
  for (int i = rotation.first(items); i < items; i += threads()) {
    const int tile = i / rows, row = i - tile * rows, first = range.begin + 4 * tile;
    Scalar sums[4] = {0, 0, 0, 0};
#pragma unroll 1
    for (int term = 0; term < terms; term += 8) {
      Scalar partial[4] = {0, 0, 0, 0};
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (term + i >= terms) continue;
        const auto weight = static_cast<Scalar>(widen(weights[(term + i) * rows + row]));
        Scalar values[4];
        in(term + i, first, values);
#pragma unroll
        for (int k = 0; k < 4; ++k) partial[k] += weight * values[k];
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) sums[k] += partial[k];
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (first + k < range.end) finish(row, first + k, sums[k]);
    }
  }
}

// store(h, l, relu(W1 p + b1)); NaN passes through.
template <class Element, class Store>
CSTA_DEVICE void hidden_forward(const AxisParams& head, const Weight& w1,
                                const PositionRange& range, int channels,
                                const Table<Arithmetic<Element>>& means, ThreadRotation& rotation,
                                const Store& store) {
  using Scalar = Arithmetic<Element>;
  with_numbers<Element>(w1, [&](const auto* w1) {
    rows_times(range, head.hidden, channels, w1, means, rotation, [&](int h, int l, Scalar sum) {
      const Scalar value = sum + number<Element>(head.b1, h);
      store(h, l, value <= 0 ? Scalar{0} : value);
    });
  });
}

// store(g, l, W2 h + b2).
template <class Element, class Store>
CSTA_DEVICE void logits_forward(const AxisParams& head, const PositionRange& range, int groups,
                                const Table<Arithmetic<Element>>& hidden, ThreadRotation& rotation,
                                const Store& store) {
  using Scalar = Arithmetic<Element>;
  with_numbers<Element>(head.w2, [&](const auto* w2) {
    rows_times(range, groups, head.hidden, w2, hidden, rotation,
               [&](int g, int l, Scalar sum) { store(g, l, sum + number<Element>(head.b2, g)); });
  });
}

// store(h, l, dz): dz = W2' ds where h > 0, else 0.
template <class Element, class Store>
CSTA_DEVICE void hidden_backward(const AxisParams& head, const PositionRange& range, int groups,
                                 const Table<Arithmetic<Element>>& grad_logits,
                                 const Table<Arithmetic<Element>>& hidden, ThreadRotation& rotation,
                                 const Store& store) {
  using Scalar = Arithmetic<Element>;
  with_numbers<Element>(head.w2, [&](const auto* w2) {
    using Number = std::decay_t<decltype(*w2)>;
    columns_times<Number, Scalar>(
        range, head.hidden, groups, w2,
        [&](int g, int l, Scalar(&values)[4]) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            values[k] = grad_logits.at(g, min(l + k, range.end - 1));
          }
        },
        rotation,
        [&](int h, int l, Scalar sum) { store(h, l, hidden.at(h, l) <= 0 ? Scalar{0} : sum); });
  });
}

// Gradient of x through a mean: dp = W1' dz, divided by the number of positions of the mean.
template <class Element>
CSTA_DEVICE void means_backward(const AxisParams& head, const Weight& w1,
                                const PositionRange& range, int channels, int count,
                                const Table<Arithmetic<Element>>& grad_hidden,
                                const Table<Arithmetic<Element>>& gradients,
                                ThreadRotation& rotation) {
  using Scalar = Arithmetic<Element>;
  with_numbers<Element>(w1, [&](const auto* w1) {
    using Number = std::decay_t<decltype(*w1)>;
    columns_times<Number, Scalar>(
        range, channels, head.hidden, w1,
        [&](int h, int l, Scalar(&values)[4]) {
          const auto four = Vec<Scalar, 4>::load(&grad_hidden.at(h, l));
#pragma unroll
          for (int k = 0; k < 4; ++k) values[k] = four.values[k];
        },
        rotation,
        [&](int c, int l, Scalar sum) {
          gradients.at(c, l) = sum / static_cast<Scalar>(max(count, 1));
        });
  });
}

}  // namespace csta::cuda
