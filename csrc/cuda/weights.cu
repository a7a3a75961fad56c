// Gradients of the heads' weights from what backward stored: sums over samples and positions, in an
// order fixed by the shape. One kernel sums a tile of a gradient over a run of samples, a second
// one adds the runs in order.
#include "common/divisor.h"
#include "common/numbers.h"
#include "kernels.h"

namespace csta::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 16, kColumns = 64, kSteps = 32;           // of a tile; positions per step
constexpr int kOutputs = kRows * kColumns / kThreads;           // per thread
constexpr int kAcross = kColumns / kOutputs;                    // threads per row
constexpr int kLoads = (kRows + kColumns) * kSteps / kThreads;  // loads per thread, of both factors
constexpr int kStride = kSteps + 4;  // row pitch: a multiple of 4, padded against bank conflicts
constexpr int kAtOnce = 16,
              kSegments = kThreads / kAtOnce;  // elements per block; parts of their runs

// Offset of gradient s in a run: gradients follow each other, each row followed by its bias.
CSTA_DEVICE int64_t first_element(const WeightParams& call, int s) {
  int64_t first = 0;
  for (int i = 0; i < s; ++i) first += int64_t{call.sums[i].rows} * (call.sums[i].columns + 1);
  return first;
}
// A row without columns still has a tile, for its bias.
CSTA_HOST_DEVICE int tiles_across(const WeightSum& sum) {
  return sum.columns > 0 ? ceil_div(sum.columns, kColumns) : 1;
}
CSTA_HOST_DEVICE int tiles(const WeightSum& sum) {
  return ceil_div(sum.rows, kRows) * tiles_across(sum);
}

// Block b sums tile b / runs over run b % runs.
template <class Scalar>
CSTA_KERNEL CSTA_LAUNCH_BOUNDS(kThreads, 2) run_kernel(CSTA_GRID_CONSTANT WeightParams call) {
  auto* factors = reinterpret_cast<Scalar*>(shared_memory());  // [rows, then columns][steps]
  const int run = static_cast<int>(block() % call.runs);
  int tile = static_cast<int>(block() / call.runs), s = 0;
  while (tile >= tiles(call.sums[s])) tile -= tiles(call.sums[s++]);
  const WeightSum& sum = call.sums[s];
  const int across = tiles_across(sum);
  const int row_begin = tile / across * kRows, column_begin = tile % across * kColumns;
  const int row = thread() / kAcross, column = thread() % kAcross;

  // Loop over samples and steps of positions; the next step's loads are in flight during this one.
  const int64_t begin = run * call.samples_of_a_run, rest = call.samples - begin;
  const int samples = static_cast<int>(rest < call.samples_of_a_run ? rest : call.samples_of_a_run);
  const int rounds = ceil_div(sum.length, kSteps);
  Scalar prefetched[kLoads];
  const auto load = [&](int64_t n, int l) {
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int i = thread() + k * kThreads, index = i / kSteps, step = l + i % kSteps;
      const bool left = index < kRows;
      const int line = left ? row_begin + index : column_begin + index - kRows;
      const int lines = left ? sum.rows : sum.columns;
      const auto* from = static_cast<const Scalar*>(left ? sum.left : sum.right);
      const bool there = line < lines && step < sum.length;
      prefetched[k] = there ? from[(n * lines + line) * sum.length + step] : Scalar{0};
    }
  };
  Scalar totals[kOutputs] = {}, of_sample[kOutputs] = {}, bias = 0, bias_of_sample = 0;
  if (samples > 0) load(begin, 0);
  for (int i = 0; i < samples * rounds; ++i) {
    const int n = i / rounds, round = i - n * rounds;
    block_barrier();
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int item = thread() + k * kThreads;
      factors[item / kSteps * kStride + item % kSteps] = prefetched[k];
    }
    block_barrier();
    const bool ends = round + 1 == rounds;
    if (i + 1 < samples * rounds) load(begin + n + ends, ends ? 0 : (round + 1) * kSteps);
    Scalar partial[kOutputs] = {}, bias_partial = 0;
    const int steps = sum.length - round * kSteps;  // the others are 0
#pragma unroll 1
    for (int step = 0; step < kSteps && step < steps; step += 4) {
      const auto left = Vec<Scalar, 4>::load(factors + row * kStride + step);
#pragma unroll
      for (int i = 0; i < 4; ++i) bias_partial += left.values[i];
#pragma unroll
      for (int k = 0; k < kOutputs; ++k) {
        const int line = kRows + column + k * kAcross;
        const auto right = Vec<Scalar, 4>::load(factors + line * kStride + step);
#pragma unroll
        for (int i = 0; i < 4; ++i) partial[k] += left.values[i] * right.values[i];
      }
    }
#pragma unroll
    for (int k = 0; k < kOutputs; ++k) {
      of_sample[k] += partial[k];
      if (ends) totals[k] += of_sample[k];
      if (ends) of_sample[k] = 0;
    }
    bias_of_sample += bias_partial;
    if (ends) bias += bias_of_sample;
    if (ends) bias_of_sample = 0;
  }
  if (row_begin + row >= sum.rows) return;
  auto* out = static_cast<Scalar*>(call.parts) + run * first_element(call, kWeightSums) +
              first_element(call, s) + int64_t{row_begin + row} * (sum.columns + 1);
#pragma unroll
  for (int k = 0; k < kOutputs; ++k) {
    const int there = column_begin + column + k * kAcross;
    if (there < sum.columns) out[there] = totals[k];
  }
  if (column_begin == 0 && column == 0) out[sum.columns] = bias;
}

template <class Scalar>
CSTA_DEVICE void write(const Weight& to, int64_t i, Scalar value) {
  void* out = const_cast<void*>(to.data);
  switch (to.dtype) {
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

// A block adds the runs of kAtOnce neighbouring elements: segments of runs in parallel, then the
// segments in order.
template <class Scalar>
CSTA_KERNEL CSTA_LAUNCH_BOUNDS(kThreads, 4) add_runs_kernel(CSTA_GRID_CONSTANT WeightParams call) {
  auto* sums = reinterpret_cast<Scalar*>(shared_memory());  // [segments][elements]
  const int64_t all = first_element(call, kWeightSums);
  const int at = thread() % kAtOnce, segment = thread() / kAtOnce;
  const int64_t i = block() * kAtOnce + at;
  const int each = ceil_div(call.runs, kSegments);
  Scalar part = 0;
  if (i < all) {
    const Scalar* of_run = static_cast<const Scalar*>(call.parts) + i;
#pragma unroll 8
    for (int run = segment * each; run < min(call.runs, (segment + 1) * each); ++run) {
      part += of_run[run * all];
    }
  }
  sums[thread()] = part;
  block_barrier();
  if (segment > 0 || i >= all) return;
  Scalar total = 0;
#pragma unroll
  for (int k = 0; k < kSegments; ++k) total += sums[k * kAtOnce + at];
  int s = 0;
  while (i >= first_element(call, s + 1)) ++s;
  const WeightSum& sum = call.sums[s];
  const int64_t local = i - first_element(call, s), row = local / (sum.columns + 1);
  const int64_t column = local - row * (sum.columns + 1);
  if (column < sum.columns) {
    write(sum.out, row * sum.columns + column, total);
  } else {
    write(sum.bias, row, total);
  }
}

template <class Scalar>
int launch_of(const WeightParams& call, void* stream) {
  int64_t all = 0, blocks = 0;
  for (const WeightSum& sum : call.sums) {
    all += int64_t{sum.rows} * (sum.columns + 1);
    blocks += int64_t{tiles(sum)} * call.runs;
  }
  if (blocks > 0) {
    constexpr int64_t kBytes = (kRows + kColumns) * kStride * sizeof(Scalar);
    const int error = launch(&run_kernel<Scalar>, {blocks, kThreads, 1, kBytes}, call, stream);
    if (error != 0) return error;
  }
  constexpr int64_t kBytes = kThreads * sizeof(Scalar);
  return launch(&add_runs_kernel<Scalar>, {ceil_div(all, kAtOnce), kThreads, 1, kBytes}, call,
                stream);
}

}  // namespace

int launch_weight_sums(const WeightParams& call, Dtype arithmetic, void* stream) {
  return arithmetic == Dtype::float64 ? launch_of<double>(call, stream)
                                      : launch_of<float>(call, stream);
}

}  // namespace csta::cuda
