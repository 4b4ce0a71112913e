// Runs a CUDA kernel on the CPU, thread by thread: enough of the language for segedge/cuda/kernels.
//
// Every thread of a block is a fiber with its own stack. A fiber runs until it ends or meets a
// barrier; __syncwarp and __syncthreads hold it until all living threads of its warp or block are
// there. Kernels without barriers need no fibers and run faster. What this does not
// show: races between barriers, warp divergence, memory ordering, speed.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <tuple>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, size)
#endif

#define SEGEDGE_SHIM
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static  // one block runs at a time

struct dim3 {
  unsigned x, y, z;
};
struct uint2 {
  unsigned x, y;
};
struct float4 {
  float x, y, z, w;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::fabs;
static float half_to_float(unsigned short bits) {
  _Float16 half;
  std::memcpy(&half, &bits, 2);
  return static_cast<float>(half);
}
static unsigned short float_to_half(float value) {
  const _Float16 half = static_cast<_Float16>(value);
  unsigned short bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}
static float exp2_fast(float x) { return std::exp2(x); }
static int __ffs(int bits) { return __builtin_ffs(bits); }
static inline float sinpif(float x) { return (float)std::sin(3.14159265358979323846 * x); }
static inline float cospif(float x) { return (float)std::cos(3.14159265358979323846 * x); }
static inline double __dmul_rn(double a, double b) { return a * b; }
static int __popc(unsigned bits) { return __builtin_popcount(bits); }
static unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<std::uint64_t>(high) << 32) | low) >> (shift & 31));
}
static unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const std::uint64_t both = (static_cast<std::uint64_t>(b) << 32) | a;
  unsigned out = 0;
  for (int k = 0; k < 4; k++) {
    out |= static_cast<unsigned>((both >> (8 * ((selector >> (4 * k)) & 7))) & 255u) << (8 * k);
  }
  return out;
}
template <class T>
static T atomicAdd(T* at, T value) {
  return std::exchange(*at, *at + value);
}
template <class T>
static T atomicOr(T* at, T value) {
  return std::exchange(*at, *at | value);
}
template <class T>
static T atomicMin(T* at, T value) {
  return std::exchange(*at, std::min(*at, value));
}
template <class T>
static T atomicMax(T* at, T value) {
  return std::exchange(*at, std::max(*at, value));
}
template <class T>
static T atomicCAS(T* at, T expected, T value) {
  return std::exchange(*at, *at == expected ? value : *at);
}

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

template <class... A, std::size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}

// Grid x block launches of a kernel. `arguments` points at one value each, `sizes` tells how many
// bytes the caller took each for. Returns -1, or the index of an argument that does not fit.
template <bool HAS_BARRIERS, class... A>
static int run(void (*kernel)(A...), const unsigned* dims, void** arguments, const int* sizes,
               int count) {
  const int expected[] = {static_cast<int>(sizeof(A))...};
  if (count != static_cast<int>(sizeof...(A))) return 1000 + static_cast<int>(sizeof...(A));
  for (int i = 0; i < count; i++) {
    if (sizes[i] != expected[i]) return i;
  }
  static void (*target)(A...);
  target = kernel;
  body = [](void* list) {
    call(target, static_cast<void**>(list), std::index_sequence_for<A...>{});
  };
  body_arguments = arguments;
  gridDim = {dims[0], dims[1], dims[2]}, blockDim = {dims[3], dims[4], dims[5]};
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  while (HAS_BARRIERS && fibers.size() < threads) start(fibers.emplace_back());
  for (unsigned block = 0; block < gridDim.x * gridDim.y * gridDim.z; block++) {
    blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
    for (unsigned t = 0; t < threads; t++) {
      threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
      if constexpr (HAS_BARRIERS) {
        fibers[t].index = threadIdx;
        fibers[t].state = READY;
      } else {
        body(body_arguments);
      }
    }
    while (HAS_BARRIERS && turn()) {
    }
  }
  return -1;
}

// Width of each parameter, and whether it is a pointer: the simulated driver (../driver) copies
// parameters when a kernel is launched and runs it later.
template <class... A>
static void describe(void (*)(A...), int* sizes, int* is_pointer, int room) {
  const int width[] = {static_cast<int>(sizeof(A))...};
  const int pointer[] = {std::is_pointer_v<A>...};
  const int count = std::min(room, static_cast<int>(sizeof...(A)));
  std::copy_n(width, count, sizes);
  std::copy_n(pointer, count, is_pointer);
}

}  // namespace shim

static void __syncwarp() { shim::wait(shim::AT_WARP); }
static void __syncthreads() { shim::wait(shim::AT_BLOCK); }
