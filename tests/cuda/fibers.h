// Fibers: stacks of their own, and the switch between them. Known to the sanitizers, which would
// otherwise take a switched stack for a corrupt one and fibers for a single thread.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ADDRESS 1
#endif
#if defined(__SANITIZE_THREAD__) || defined(EMULATOR_UNDER_THREAD_SANITIZER)
#define EMULATOR_THREAD 1
#endif

namespace emulator {

struct Context {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;     // of the address sanitizer
  void* tsan_fiber = nullptr;     // of the thread sanitizer
  void* other_machine = nullptr;  // a ucontext_t where there is no switch in assembly
};

// Makes `fiber` begin in `entry`, which never returns, on stack number `number`.
void prepare(Context& fiber, size_t number, void (*entry)());
// Must be called first by entry.
void entered(Context& scheduler);
// From the scheduler to the fiber; returns when it switches back.
void switch_to(Context& scheduler, Context& fiber);
// From the fiber to the scheduler; `last` where it will not be resumed.
void switch_back(Context& fiber, Context& scheduler, bool last);
void retire(Context& fiber);

// Happens-before for the thread sanitizer: what came before a release comes before an acquire.
void release(void* tag);
void acquire(void* tag);

void poison(void* begin, size_t bytes);  // for the address sanitizer
void unpoison(void* begin, size_t bytes);

}  // namespace emulator
