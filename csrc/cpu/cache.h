// Size from which nontemporal stores pay: results of fewer bytes stay in the last-level cache.
#pragma once

#include <cstdint>

namespace csta {

int64_t nontemporal_threshold();

}  // namespace csta
