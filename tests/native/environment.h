// What the kernels take from their surroundings, under the driver's control. environment.cpp stands
// in for csrc/cpu/cache.cpp and, where CSTA_EXACT_SCRATCH is defined, for csrc/cpu/scratch.cpp.
#pragma once

#include "cpu/kernels.h"

// Whether results go past the caches, whatever their size.
extern bool stream_results;

// Whether the same bits are wanted wherever tensors begin, or only where they begin alike.
extern const bool any_alignment;

// Cuts each range into as many pieces as there are threads, however small, and runs each piece on
// a new thread.
csta::Parallel split_over(int threads);
