// Runs one table of the CPU kernels over a grid of calls and checks every result, every guard band
// and every input. Usage: driver NAME EVERY [SPECIAL], for so many of the special shapes, or all of
// them, and every EVERYth of the others.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "buffer.h"
#include "cases.h"
#include "environment.h"

namespace {

using csta::Dtype;

// Rounding errors of the arithmetic, in its units, over the size of a number.
constexpr double kRoundings = 6;

double unit_roundoff(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32: return 0x1p-24;
    case Dtype::float64: return 0x1p-53;
    case Dtype::float16: return 0x1p-11;
    case Dtype::bfloat16: return 0x1p-8;
  }
  return 0;
}
double smallest(Dtype dtype) {
  if (dtype == Dtype::float16) return 0x1p-25;
  return dtype == Dtype::float64 ? 1e-300 : 1e-37;
}
Dtype arithmetic_of(Dtype dtype) { return dtype == Dtype::float64 ? dtype : Dtype::float32; }

// Counts how often the tolerance that accepted a result would have rejected a wrong one.
struct Rejections {
  int64_t rejected = 0, asked = 0;

  void count(bool was_rejected) {
    rejected += was_rejected;
    ++asked;
  }
  double percent() const { return asked == 0 ? 0 : 100.0 * rejected / asked; }
};

struct Report {
  int64_t cases = 0, failures = 0;
  double worst = 0;  // error over its bound
  Rejections zeros, reversals;

  void fail(const Case& tested, const std::string& what) {
    if (++failures <= 5) std::printf("  %s: %s\n", tested.describe().c_str(), what.c_str());
  }
};

struct Output {
  const char* name;
  Dtype dtype;
  const Numbers* want;
  bool is_features;  // of x's shape and layout
  Buffer buffer;
};

// One way to make the same call: none of it may change a bit of the results.
struct Variant {
  int threads;
  bool stream;
};
constexpr Variant kVariants[] = {{1, false}, {2, true}, {5, false}};

class Call {
 public:
  Call(const Case& tested, const Results& want, uint64_t seed)
      : case_(tested), in_(tested.inputs), want_(want), random_(seed), problem_(in_.problem) {}

  void run(Variant variant, Report& report) {
    stream_results = variant.stream;
    problem_.parallel = split_over(variant.threads);
    if (problem_.lengths != nullptr)
      problem_.lengths = reinterpret_cast<const int64_t*>(place(case_.lengths));
    if (problem_.frame_mask != nullptr)
      problem_.frame_mask = reinterpret_cast<const uint8_t*>(place(case_.frame_mask));
    if (problem_.joint_mask != nullptr)
      problem_.joint_mask = reinterpret_cast<const uint8_t*>(place(case_.joint_mask));
    const char* x = place_features(in_.x);
    couple(x, place_features(in_.grad_y));
    pool(x);
    for (const Buffer& input : inputs_) {
      if (!input.is_intact()) report.fail(case_, "an input was written");
    }
    for (const Output& output : outputs_) {
      if (!output.buffer.is_intact())
        report.fail(case_, std::string(output.name) + ": written beyond its ends");
    }
  }

  void compare(Report& report) const {
    for (const Output& output : outputs_) compare(output, report);
  }
  void compare_bits(const Call& other, Report& report) const {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (outputs_[i].buffer.equals(other.outputs_[i].buffer)) continue;
      report.fail(case_,
                  std::string(outputs_[i].name) + ": differs with threads, streaming or alignment");
    }
  }

 private:
  int64_t offset() { return random_.below(16); }
  template <class Item>
  const char* place(const std::vector<Item>& items) {
    return inputs_.emplace_back(items, offset()).data();
  }
  const char* place(Dtype dtype, const Doubles& values) {
    return inputs_.emplace_back(dtype, values, offset()).data();
  }
  const char* place_features(const Doubles& values) {
    Doubles ordered(values.size());
    for (size_t i = 0; i < values.size(); ++i) ordered[case_.order[i]] = values[i];
    return place(problem_.dtype, ordered);
  }
  csta::Weight place_weight(const Doubles& values) {
    return {place(case_.weight_dtype, values), case_.weight_dtype};
  }
  csta::Head place_head(const HeadValues& head) {
    return {head.hidden, place_weight(head.w1), place_weight(head.b1), place_weight(head.w2),
            place_weight(head.b2)};
  }
  char* result(const char* name, Dtype dtype, const Numbers& want, bool is_features = false) {
    const int64_t size = element_size(dtype);
    Buffer buffer(static_cast<int64_t>(want.size()) * size, offset() * size);
    return outputs_.emplace_back(Output{name, dtype, &want, is_features, std::move(buffer)})
        .buffer.data();
  }
  csta::HeadGradients head_results(const HeadResults& want) {
    const Dtype dtype = case_.weight_dtype;
    return {result("grad_w1", dtype, want.w1), result("grad_b1", dtype, want.b1),
            result("grad_w2", dtype, want.w2), result("grad_b2", dtype, want.b2)};
  }

  void couple(const char* x, const char* grad_y) {
    const Dtype arithmetic = arithmetic_of(problem_.dtype);
    csta::Head frame_head{}, joint_head{};
    csta::LogitSource source{};
    if (in_.has_heads) {
      frame_head = place_head(in_.frame_head);
      joint_head = place_head(in_.joint_head);
      source.frame_head = &frame_head;
      source.joint_head = &joint_head;
    } else {
      source.frame_logits = place_weight(in_.frame_logits);
      source.joint_logits = place_weight(in_.joint_logits);
    }
    char* y = result("y", problem_.dtype, want_.y, true);
    char* frames = result("frame_attention", arithmetic, want_.frame_attention);
    char* joints = result("joint_attention", arithmetic, want_.joint_attention);
    csta::kernels(problem_).forward(problem_, source, x, y, {frames, joints});
    for (Output& output : outputs_) output.buffer.freeze();

    csta::AttentionIn attention{frames, joints, nullptr, nullptr};
    if (!in_.grad_frame_attention.empty())
      attention.grad_frames = place(arithmetic, in_.grad_frame_attention);
    if (!in_.grad_joint_attention.empty())
      attention.grad_joints = place(arithmetic, in_.grad_joint_attention);
    for (const bool input_gradient : {true, false}) {
      csta::LogitGradients gradients{};
      if (in_.has_heads) {
        gradients.frame_head = head_results(want_.frame_head);
        gradients.joint_head = head_results(want_.joint_head);
      } else {
        gradients.frame_logits = result("grad_frame_logits", arithmetic, want_.grad_frame_logits);
        gradients.joint_logits = result("grad_joint_logits", arithmetic, want_.grad_joint_logits);
      }
      char* grad_x =
          input_gradient ? result("grad_x", problem_.dtype, want_.grad_x, true) : nullptr;
      csta::kernels(problem_).backward(problem_, source, x, grad_y, attention, grad_x, gradients);
    }
  }

  void pool(const char* x) {
    const Dtype dtype = problem_.dtype;
    csta::Problem problem = problem_;  // there is no gain in a mean
    problem.groups = 1;
    problem.residual = false;
    char* frame_means = result("frame_means", dtype, want_.frame_means);
    char* joint_means = result("joint_means", dtype, want_.joint_means);
    csta::kernels(problem_).pool(problem, x, frame_means, joint_means);
    char* grad_x = result("pool_grad_x", dtype, want_.pool_grad_x, true);
    const char* grad_frames = place(dtype, in_.grad_frame_means);
    const char* grad_joints = place(dtype, in_.grad_joint_means);
    csta::kernels(problem_).pool_backward(problem, grad_frames, grad_joints, grad_x);
  }

  void compare(const Output& output, Report& report) const {
    const Numbers& want = *output.want;
    const double rounding = unit_roundoff(output.dtype), least = smallest(output.dtype);
    const double arithmetic = kRoundings * unit_roundoff(arithmetic_of(problem_.dtype));
    bool rejects_zeros = false, rejects_reversal = false;
    long double largest = 0, largest_change = 0, largest_error = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const long double value = want[i].value, change = value - want[want.size() - 1 - i].value;
      const long double bound = rounding * std::fabs(value) + arithmetic * want[i].error + least;
      const size_t place = output.is_features ? case_.order[i] : i;
      const double got = output.buffer.get(output.dtype, place);
      const auto error = static_cast<double>(std::fabs(got - value) / bound);
      if (!(error <= 1)) {
        char text[160];
        std::snprintf(text, sizeof text, "%s[%zu] is %.9g instead of %.9g, %.3g times the bound",
                      output.name, i, got, static_cast<double>(value), error);
        report.fail(case_, text);
        return;
      }
      report.worst = std::max(report.worst, error);
      rejects_zeros |= std::fabs(value) > bound;
      rejects_reversal |= std::fabs(change) > bound;
      largest = std::max(largest, std::fabs(value));
      largest_change = std::max(largest_change, std::fabs(change));
      largest_error = std::max(largest_error, want[i].error);
    }
    // Skipped where zeros, or the reversed result, are right up to rounding in double.
    if (largest > 1e-12 * largest_error) report.zeros.count(rejects_zeros);
    if (largest_change > 1e-12 * largest_error) report.reversals.count(rejects_reversal);
  }

  const Case& case_;
  const Inputs& in_;
  const Results& want_;
  Random random_;
  csta::Problem problem_;
  std::deque<Buffer> inputs_;
  std::deque<Output> outputs_;
};

// Near a kink of relu, rounding decides the gradients: the case cannot be judged.
void run_case(const Case& tested, Report& report) {
  const Results want = evaluate(tested.inputs);
  if (want.nearest_kink < 1e-5) return;
  Call first(tested, want, tested.seed);
  first.run(kVariants[0], report);
  first.compare(report);
  for (size_t i = 1; i < std::size(kVariants); ++i) {
    Call other(tested, want, tested.seed + (any_alignment ? i : 0));
    other.run(kVariants[i], report);
    other.compare_bits(first, report);
  }
  ++report.cases;
}

bool run_configuration(const char* table, Dtype dtype, bool channels_last, int64_t every,
                       int64_t first, int64_t special) {
  static const char* const names[] = {"float32", "float64", "float16", "bfloat16"};
  Report report;
  for (int64_t number = 0; number < case_count(); ++number) {
    const bool is_special = number < special_count();
    if (is_special ? number >= special : number % every != first) continue;
    run_case(*make_case(number, dtype, channels_last), report);
  }
  const bool is_sharp = report.zeros.percent() > 99 && report.reversals.percent() > 98;
  const bool passed = report.cases > 0 && report.failures == 0 && is_sharp;
  std::printf(
      "%s %s %s %s: %ld calls, %ld failures, worst error %.2f of the bound, "
      "which rejects %.1f %% of zeroed and %.1f %% of reversed results\n",
      passed ? "PASS" : "FAIL", table, names[static_cast<int>(dtype)],
      channels_last ? "channels-last" : "contiguous", static_cast<long>(report.cases),
      static_cast<long>(report.failures), report.worst, report.zeros.percent(),
      report.reversals.percent());
  std::fflush(stdout);
  return passed;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3 || count > 4 || std::atoi(arguments[2]) < 1) {
    std::fprintf(stderr, "usage: %s NAME EVERY [SPECIAL]\n", arguments[0]);
    return 2;
  }
  const int64_t every = std::atoi(arguments[2]);
  const int64_t special = count > 3 ? std::atoi(arguments[3]) : special_count();
  bool passed = true;
  int64_t configuration = 0;
  for (const Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16}) {
    for (const bool channels_last : {false, true}) {
      passed &= run_configuration(arguments[1], dtype, channels_last, every,
                                  configuration++ % every, special);
    }
  }
  return passed ? 0 : 1;
}
