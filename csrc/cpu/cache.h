// How large a result must be for stores past the caches to pay.
#pragma once

#include <cstdint>

namespace csta {

int64_t nontemporal_threshold();

}  // namespace csta
