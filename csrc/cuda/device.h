// What the operations need of CUDA's runtime beside launches.
#pragma once

#include "plan.h"

namespace csta::cuda {

// The limits of a device; asked for once. Throws where the runtime has no answer.
const Device& describe_device(int index);
// Has the runtime work on a device that PyTorch has made the current one. The runtime is a copy of
// the library's own, and goes by what is current for the driver: it need not be told, as a rule.
void make_current(int index);
// Whether a tensor's values may be looked at without waiting for a device: not on a GPU.
bool host_sees_values();
// What an error's number means.
const char* error_text(int error);

}  // namespace csta::cuda
