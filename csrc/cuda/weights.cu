// Gradients of the heads' weights: sums over samples and positions, in an order that the shapes
// decide. The samples fall into runs; a block sums one tile of a gradient over one run, and a
// second kernel adds the runs in order.
#include "kernels.h"
#include "numbers.h"

namespace csta::cuda {
namespace {

constexpr int kTile = 16, kSteps = 32;  // rows and columns of a tile; positions at once
constexpr int kThreads = kTile * kTile;
constexpr int kLoads = kTile * kSteps / kThreads;  // of a thread, of either factor at once

// All gradients' elements, one gradient after the other: where sum number s begins.
CSTA_DEVICE int64_t first_element(const WeightCall& call, int s) {
  int64_t first = 0;
  for (int i = 0; i < s; ++i) first += int64_t{call.sums[i].rows} * call.sums[i].columns;
  return first;
}
CSTA_DEVICE int tiles(int length) { return (length + kTile - 1) / kTile; }

// Block b takes tile b % tiles of run b / tiles.
template <class Scalar>
CSTA_KERNEL CSTA_BOUNDS(kThreads, 4) run_kernel(CSTA_PARAMETER WeightCall call) {
  auto* left = reinterpret_cast<Scalar*>(shared_memory());
  Scalar* right = left + kTile * (kSteps + 1);
  int64_t tile = block() / call.runs;
  const int64_t run = block() % call.runs;
  int s = 0;
  while (tile >= tiles(call.sums[s].rows) * tiles(call.sums[s].columns)) {
    tile -= tiles(call.sums[s].rows) * tiles(call.sums[s].columns);
    ++s;
  }
  const WeightSum& sum = call.sums[s];
  const int row_begin = static_cast<int>(tile) / tiles(sum.columns) * kTile;
  const int column_begin = static_cast<int>(tile) % tiles(sum.columns) * kTile;
  const int row = thread() / kTile, column = thread() % kTile;
  const int64_t begin = run * call.samples_of_a_run;
  const int64_t end =
      begin + call.samples_of_a_run < call.samples ? begin + call.samples_of_a_run : call.samples;
  Scalar total = 0;
  for (int64_t n = begin; n < end; ++n) {
    Scalar of_sample = 0;
    for (int l = 0; l < sum.length; l += kSteps) {
      const auto factor = [&](const void* from, int rows, int first, int load) {
        const int i = thread() + load * kThreads, step = i % kSteps, index = i / kSteps;
        if (l + step >= sum.length || first + index >= rows) return Scalar{0};
        if (from == nullptr) return Scalar{1};
        return static_cast<const Scalar*>(from)[(n * rows + first + index) * sum.length + l + step];
      };
      Scalar a[kLoads], b[kLoads];  // all on their way before the first is wanted
#pragma unroll
      for (int load = 0; load < kLoads; ++load) {
        a[load] = factor(sum.left, sum.rows, row_begin, load);
        b[load] = factor(sum.right, sum.columns, column_begin, load);
      }
      block_barrier();
#pragma unroll
      for (int load = 0; load < kLoads; ++load) {
        const int i = thread() + load * kThreads, at = i / kSteps * (kSteps + 1) + i % kSteps;
        left[at] = a[load];
        right[at] = b[load];
      }
      block_barrier();
      Scalar part = 0;
      for (int step = 0; step < smaller(kSteps, sum.length - l); ++step) {
        part += left[row * (kSteps + 1) + step] * right[column * (kSteps + 1) + step];
      }
      of_sample += part;
    }
    total += of_sample;
  }
  if (row_begin + row >= sum.rows || column_begin + column >= sum.columns) return;
  const int64_t all = first_element(call, kWeightSums);
  static_cast<Scalar*>(call.parts)[run * all + first_element(call, s) +
                                   int64_t{row_begin + row} * sum.columns + column_begin + column] =
      total;
}

template <class Scalar>
CSTA_DEVICE void write(void* out, Dtype dtype, int64_t i, Scalar value) {
  switch (dtype) {
    case Dtype::float32: static_cast<float*>(out)[i] = static_cast<float>(value); break;
    case Dtype::float64: static_cast<double*>(out)[i] = value; break;
    case Dtype::float16:
      static_cast<Half*>(out)[i] = narrow<Half>(static_cast<float>(value));
      break;
    case Dtype::bfloat16:
      static_cast<BFloat16*>(out)[i] = narrow<BFloat16>(static_cast<float>(value));
      break;
  }
}

template <class Scalar>
CSTA_KERNEL CSTA_BOUNDS(kThreads, 4) add_runs_kernel(CSTA_PARAMETER WeightCall call) {
  const int64_t all = first_element(call, kWeightSums);
  for (int64_t i = block() * threads() + thread(); i < all; i += blocks() * threads()) {
    const Scalar* part = static_cast<const Scalar*>(call.parts) + i;
    Scalar total = 0;
#pragma unroll 8
    for (int run = 0; run < call.runs; ++run) total += part[run * all];
    int s = 0;
    while (i >= first_element(call, s + 1)) ++s;
    write(call.sums[s].out, call.sums[s].dtype, i - first_element(call, s), total);
  }
}

template <class Scalar>
int launch_of(const WeightCall& call, void* stream) {
  int64_t all = 0, whole = 0;
  for (const WeightSum& sum : call.sums) {
    all += int64_t{sum.rows} * sum.columns;
    whole += int64_t{(sum.rows + kTile - 1) / kTile} * ((sum.columns + kTile - 1) / kTile);
  }
  if (all == 0) return 0;
  constexpr int64_t kBytes = 2 * kTile * (kSteps + 1) * sizeof(Scalar);
  if (call.runs > 0) {
    const int error =
        launch(&run_kernel<Scalar>, {whole * call.runs, kThreads, 1, kBytes}, call, stream);
    if (error != 0) return error;
  }
  const int64_t blocks = (all + kThreads - 1) / kThreads;
  return launch(&add_runs_kernel<Scalar>, {blocks < 1024 ? blocks : 1024, kThreads, 1, 0}, call,
                stream);
}

}  // namespace

int launch_weight_sums(const WeightCall& call, Dtype arithmetic, void* stream) {
  return arithmetic == Dtype::float64 ? launch_of<double>(call, stream)
                                      : launch_of<float>(call, stream);
}

}  // namespace csta::cuda
