// Size of the last-level cache, read once.
#include "cache.h"

#include <algorithm>
#include <cstdio>

namespace csta {
namespace {

constexpr int64_t kUsualCache = int64_t{16} << 20;
constexpr int64_t kMostKept = int64_t{24} << 20;

// Read from sysfs: sysconf reports some processors' last-level cache many times too large.
int64_t last_level_cache() {
  std::FILE* file = std::fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
  if (file == nullptr) return kUsualCache;
  long long size = 0;
  char unit = 0;
  const int found = std::fscanf(file, "%lld%c", &size, &unit);
  std::fclose(file);
  if (found < 1 || size <= 0) return kUsualCache;
  return size << (found < 2 ? 0 : unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
}

}  // namespace

int64_t nontemporal_threshold() {
  // Half of the last-level cache: a larger result leaves the cache before it is read. A very large
  // cache serves many more cores than this process has, and a training step touches several tensors
  // of the size: there the gain was measured to begin at about 24 MiB.
  static const int64_t threshold = std::min(last_level_cache() / 2, kMostKept);
  return threshold;
}

}  // namespace csta
