// Runs the threads of a kernel's blocks one after another, on the CPU.
//
// Every thread of a block is a fiber with its own stack. A fiber runs until it ends or meets a
// barrier; __syncwarp and __syncthreads hold it until all living threads of its warp or block are
// there. Kernels without barriers need no fibers and run faster.
#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

#include "shim.hpp"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, size)
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {

enum State { READY, AT_WARP, AT_BLOCK, DONE };
#ifdef __SANITIZE_ADDRESS__  // it takes a jump to another stack for the end of this one
using Place = ucontext_t;
static void go(Place& from, Place& to) { swapcontext(&from, &to); }
static void begin(Place& from, ucontext_t& at) { swapcontext(&from, &at); }
#else  // several times faster: a ucontext asks the system for its signal mask at each switch
using Place = jmp_buf;
__attribute__((noinline)) static void go(Place& from, Place& to) {
  if (!_setjmp(from)) _longjmp(to, 1);
}
__attribute__((noinline)) static void begin(Place& from, ucontext_t& at) {
  if (!_setjmp(from)) setcontext(&at);
}
#endif

struct Fiber {
  Place place;
  std::vector<char> stack;
  State state;
  dim3 index;
};
static Place scheduler;
static std::deque<Fiber> fibers;  // they never move
static Fiber* running;
static void (*body)(void*);
static void* body_arguments;

static void wait(State at) {
  running->state = at;
  go(running->place, scheduler);
}

static void enter() {
  for (;;) {
    wait(DONE);  // until a block needs this thread
    body(body_arguments);
  }
}

static void start(Fiber& fiber) {
  fiber.stack.resize(1 << 16);
  ASAN_UNPOISON_MEMORY_REGION(fiber.stack.data(), fiber.stack.size());
  ucontext_t at;
  getcontext(&at);
  at.uc_stack.ss_sp = fiber.stack.data();
  at.uc_stack.ss_size = fiber.stack.size();
  at.uc_link = nullptr;
  makecontext(&at, enter, 0);
  running = &fiber;
  begin(scheduler, at);
}

// Runs all threads that can run; true while some are left. Frees warps, then the block.
static bool turn() {
  for (Fiber& fiber : fibers) {
    if (fiber.state != READY) continue;
    running = &fiber;
    threadIdx = fiber.index;
    go(scheduler, fiber.place);
  }
  bool any_warp = false, any_block = false;
  for (std::size_t first = 0; first < fibers.size(); first += 32) {
    const std::size_t end = std::min(first + 32, fibers.size());
    bool at_warp = false, at_block = false;
    for (std::size_t i = first; i < end; i++) {
      at_warp |= fibers[i].state == AT_WARP, at_block |= fibers[i].state == AT_BLOCK;
    }
    if (at_warp && at_block) std::fprintf(stderr, "shim: a warp is split\n"), std::abort();
    for (std::size_t i = first; i < end && at_warp; i++) {
      if (fibers[i].state == AT_WARP) fibers[i].state = READY;
    }
    any_warp |= at_warp, any_block |= at_block;
  }
  if (any_block && !any_warp) {
    for (Fiber& fiber : fibers) {
      if (fiber.state == AT_BLOCK) fiber.state = READY;
    }
  }
  return any_warp || any_block;
}

void wait_for_warp() { wait(AT_WARP); }
void wait_for_block() { wait(AT_BLOCK); }

void run_threads(void (*given)(void*), void* arguments, const unsigned* dims, bool has_barriers) {
  body = given, body_arguments = arguments;
  gridDim = {dims[0], dims[1], dims[2]}, blockDim = {dims[3], dims[4], dims[5]};
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  while (has_barriers && fibers.size() < threads) start(fibers.emplace_back());
  for (unsigned block = 0; block < gridDim.x * gridDim.y * gridDim.z; block++) {
    blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
    for (unsigned t = 0; t < threads; t++) {
      threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
      if (has_barriers) {
        fibers[t].index = threadIdx;
        fibers[t].state = READY;
      } else {
        body(body_arguments);
      }
    }
    while (has_barriers && turn()) {
    }
  }
}

}  // namespace shim
