// What the operations need of CUDA's runtime beside launches.
#pragma once

#include "plan.h"

namespace csta::cuda {

// The limits of a device; asked for once.
const Device& describe_device(int index);
// What an error's number means.
const char* error_text(int error);

}  // namespace csta::cuda
