// Queries of CUDA's runtime that are no launches: a device's limits, the current device, error
// texts.
#pragma once

#include "plan.h"

namespace csta::cuda {

// Limits of a device, queried once. Throws if the runtime cannot tell.
const Device& describe_device(int index);
// Makes a device current in this library's copy of the runtime. PyTorch has made it current in the
// driver, which is what the copy goes by, so this is a check as a rule.
void make_current(int index);
// Whether the host may read a tensor's values without synchronising: not on a GPU.
bool host_sees_values();
// Text of a CUDA error number.
const char* error_text(int error);

}  // namespace csta::cuda
