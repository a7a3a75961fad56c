// Environment of the kernels, under the driver's control. environment.cpp replaces
// csrc/cpu/cache.cpp and, with CSTA_EXACT_SCRATCH, csrc/cpu/scratch.cpp.
#pragma once

#include "cpu/kernels.h"

// Use nontemporal stores for results of any size.
extern bool stream_results;

// Whether the same bits are wanted wherever tensors begin, or only where they begin alike.
extern const bool any_alignment;

// Parallel loop that splits every range, however small, into one part per thread and starts new
// threads for them.
csta::Parallel split_over(int threads);
