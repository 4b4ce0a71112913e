// Types, half floats and index maps that all kernels share.
//
// Compiled by NVRTC for GPUs and, behind tests/cuda/shim/shim.hpp (which defines SEGEDGE_SHIM), by
// g++ for tests. No headers: NVRTC's wheel has none of cuda_fp16.h and the like.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__

#ifndef SEGEDGE_SHIM
DEVICE float half_to_float(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

DEVICE u16 float_to_half(float value) {
  u16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

DEVICE float exp2_fast(float x) {  // relative error below 2^-22 (PTX ISA, ex2.approx)
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
}
#endif

// An index map is `source = scale * destination + offset` in fixed point with FRACTION fractional
// bits: exact to 3e-8 of a pixel for any frame below 65536 pixels, the same on every machine. Float
// would be off by 1e-4 of a pixel at a position of 2000, and doubles crawl on consumer GPUs.
#define FRACTION 40

struct Position {
  int index;     // grid point below, 0..length-1
  float weight;  // share of the next one, 0..1
};

DEVICE i64 clamped(i64 at, int length) {
  const i64 most = (i64)(length - 1) << FRACTION;
  return at < 0 ? 0 : at > most ? most : at;
}

DEVICE float fraction_of(i64 at) {  // the upper 32 of the 40 fractional bits, as 0..1
  return (float)(u32)((u64)at >> (FRACTION - 32)) * 2.3283064365386963e-10f;
}

DEVICE Position position_of(i64 at, int length) {
  at = clamped(at, length);
  return {(int)(at >> FRACTION), fraction_of(at)};
}

// Exact at both ends, so that a huge value at weight zero does not drown the other one.
DEVICE float mix(float a, float b, float weight) { return fmaf(weight, b, (1.0f - weight) * a); }

DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE int most(int a, int b) { return a > b ? a : b; }
