// The grid of calls that the driver makes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "reference.h"

struct Case {
  Inputs inputs;
  csta::Dtype weight_dtype;  // of heads and logits
  std::vector<int64_t> lengths;
  std::vector<uint8_t> frame_mask, joint_mask;
  std::vector<int64_t> order;  // place in memory of each element of (N, C, T, V)
  uint64_t seed;

  std::string describe() const;
};

int64_t case_count();
// Number of special shapes, which come before the regular grid.
int64_t special_count();
// The number seeds everything except shape, dtype and layout.
std::unique_ptr<Case> make_case(int64_t number, csta::Dtype dtype, bool channels_last);

// Repeatable random numbers (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t bits = state_ += 0x9e3779b97f4a7c15;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    return bits ^ (bits >> 31);
  }
  int64_t below(int64_t end) { return static_cast<int64_t>(next() % static_cast<uint64_t>(end)); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-52 - 1; }  // [-1, 1)

 private:
  uint64_t state_;
};
