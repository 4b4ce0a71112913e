// Runs a CUDA kernel on the CPU, thread by thread: enough of the language for segedge/cuda/kernels.
//
// Here is what a kernel's source needs, compiled with each of hundreds; what runs its threads is in
// fibers.cpp, compiled once. What this does not show: races between barriers, warp divergence,
// memory ordering, speed.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

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
extern __attribute__((visibility("hidden"))) dim3 threadIdx, blockIdx, blockDim, gridDim;

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

// A barrier: the thread goes on when all living ones of its warp or block have come to it.
void wait_for_warp();
void wait_for_block();

// Calls `body(arguments)` for each thread of each block. Without barriers that is a loop.
void run_threads(void (*body)(void*), void* arguments, const unsigned* dims, bool has_barriers);

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
  const auto body = [](void* list) {
    call(target, static_cast<void**>(list), std::index_sequence_for<A...>{});
  };
  run_threads(body, arguments, dims, HAS_BARRIERS);
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

static void __syncwarp() { shim::wait_for_warp(); }
static void __syncthreads() { shim::wait_for_block(); }
