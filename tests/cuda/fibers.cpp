#include "fibers.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#ifdef EMULATOR_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMULATOR_THREAD
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif
#ifdef __x86_64__
// A call of this function is the switch: what the caller may rely on is saved on its own stack.
// swapcontext would do, but asks the system for the signal mask each time: 50 times slower.
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch,.-emulator_switch
.section .note.GNU-stack,"",@progbits
.text
)");
#else
#include <ucontext.h>
#endif

namespace emulator {
namespace {

constexpr size_t kPage = 4096;
#if defined(EMULATOR_ADDRESS) || defined(EMULATOR_THREAD)
constexpr size_t kStackBytes = 256 * 1024;
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

// Stack number `number`, below which lies a page that must not be touched.
char* stack(size_t number) {
  static std::vector<char*> stacks;
  while (stacks.size() <= number) {
    void* fresh = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fresh == MAP_FAILED) throw std::runtime_error("no memory for a fiber's stack");
    mprotect(fresh, kPage, PROT_NONE);
    stacks.push_back(static_cast<char*>(fresh) + kPage);
  }
  return stacks[number];
}

void change_stacks(Context& from, Context& to) {
#ifdef __x86_64__
  emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
  if (from.other_machine == nullptr) from.other_machine = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.other_machine),
              static_cast<ucontext_t*>(to.other_machine));
#endif
}

}  // namespace

void prepare(Context& fiber, size_t number, void (*entry)()) {
  fiber = {};
  fiber.stack = stack(number);
  fiber.stack_bytes = kStackBytes;
  unpoison(fiber.stack, fiber.stack_bytes);
#ifdef EMULATOR_THREAD
  // Kept for the next cluster: making one takes the sanitizer longer than running it.
  static std::vector<void*> fibers;
  while (fibers.size() <= number) fibers.push_back(__tsan_create_fiber(0));
  fiber.tsan_fiber = fibers[number];
#endif
#ifdef __x86_64__
  // Stack alignment as after a call: 8 off a multiple of 16, at a return address.
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes) - 1;
  *top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = fiber.stack;
  context->uc_stack.ss_size = kStackBytes;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  fiber.other_machine = context;
#endif
}

void entered([[maybe_unused]] Context& scheduler) {
#ifdef EMULATOR_ADDRESS
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &scheduler.stack_bytes);
  scheduler.stack = static_cast<char*>(const_cast<void*>(bottom));
#endif
}

void switch_to(Context& scheduler, Context& fiber) {
#ifdef EMULATOR_ADDRESS
  __sanitizer_start_switch_fiber(&scheduler.fake_stack, fiber.stack, fiber.stack_bytes);
#endif
#ifdef EMULATOR_THREAD
  scheduler.tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber.tsan_fiber, 1);  // 1: the switch itself orders nothing
#endif
  change_stacks(scheduler, fiber);
#ifdef EMULATOR_ADDRESS
  __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
#endif
}

void switch_back(Context& fiber, Context& scheduler, [[maybe_unused]] bool last) {
#ifdef EMULATOR_ADDRESS
  __sanitizer_start_switch_fiber(last ? nullptr : &fiber.fake_stack, scheduler.stack,
                                 scheduler.stack_bytes);
#endif
#ifdef EMULATOR_THREAD
  __tsan_switch_to_fiber(scheduler.tsan_fiber, 1);
#endif
  change_stacks(fiber, scheduler);
#ifdef EMULATOR_ADDRESS
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &bottom, &scheduler.stack_bytes);
  scheduler.stack = static_cast<char*>(const_cast<void*>(bottom));
#endif
}

void retire([[maybe_unused]] Context& fiber) {
#ifndef __x86_64__
  delete static_cast<ucontext_t*>(fiber.other_machine);
#endif
}

void release([[maybe_unused]] void* tag) {
#ifdef EMULATOR_THREAD
  __tsan_release(tag);
#endif
}

void acquire([[maybe_unused]] void* tag) {
#ifdef EMULATOR_THREAD
  __tsan_acquire(tag);
#endif
}

void poison([[maybe_unused]] void* begin, [[maybe_unused]] size_t bytes) {
#ifdef EMULATOR_ADDRESS
  __asan_poison_memory_region(begin, bytes);
#endif
}

void unpoison([[maybe_unused]] void* begin, [[maybe_unused]] size_t bytes) {
#ifdef EMULATOR_ADDRESS
  __asan_unpoison_memory_region(begin, bytes);
#endif
}

}  // namespace emulator
