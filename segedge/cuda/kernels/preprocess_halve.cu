// Preprocessing where the frame is exactly twice the content: means of 2 x 2 pixels.
//
// Needs 3-byte pixels, an NCHW tensor, frame rows at multiples of 8 bytes, and content whose left
// and right edges are multiples of 4: then 4 output pixels are 24 bytes of two rows, read as three
// 8-byte words each, and one vector in each plane. Each byte is read once.
//
// HALF, SOURCE_0..2 as in preprocess.cu. The bias holds nothing for the sum of four: the factor is
// a quarter of the usual one, `pad` four times the level.

#if HALF
typedef u16 value_t;
#else
typedef float value_t;
#endif

DEVICE void store_four(value_t* at, const float* v) {
#if HALF
  uint2 both;
  both.x = float_to_half(v[0]) | ((u32)float_to_half(v[1]) << 16);
  both.y = float_to_half(v[2]) | ((u32)float_to_half(v[3]) << 16);
  *(uint2*)at = both;
#else
  *(float4*)at = float4{v[0], v[1], v[2], v[3]};
#endif
}

struct Bytes {  // 24 bytes of a row: 8 pixels
  uint2 part[3];
};

DEVICE Bytes load_bytes(const u8* at) {
  Bytes bytes;
#pragma unroll
  for (int k = 0; k < 3; k++) bytes.part[k] = ((const uint2*)at)[k];
  return bytes;
}

DEVICE u32 byte_at(const Bytes& bytes, int k) {  // k is known at compile time
  const uint2 part = bytes.part[k >> 3];
  return (((k & 4) ? part.y : part.x) >> (8 * (k & 3))) & 255u;
}

// 32 x 8 threads of 4 pixels; grid = (ceil(width / 128), ceil(height / 8)).
extern "C" __global__ void __launch_bounds__(256)
    preprocess_halve(const u8* __restrict__ frame, i64 pitch, int top, int left, int bottom,
                     int right, value_t* tensor, int height, int width, float pad, float factor_0,
                     float factor_1, float factor_2, float bias_0, float bias_1, float bias_2,
                     int skip_y, int skip_x) {
  const int y = blockIdx.y * 8 + threadIdx.y, x = (blockIdx.x * 32 + threadIdx.x) * 4;
  if (y >= height || x >= width) return;
  float sums[3][4];
  if (y >= top && y < bottom && x >= left && x < right) {
    const u8* at = frame + (i64)2 * (y + skip_y) * pitch + (i64)6 * (x + skip_x);
    const Bytes upper = load_bytes(at), lower = load_bytes(at + pitch);
#pragma unroll
    for (int k = 0; k < 12; k++) {
      const int first = k / 3 * 6 + k % 3;  // of output pixel k / 3, channel k % 3
      sums[k % 3][k / 3] = (float)(byte_at(upper, first) + byte_at(upper, first + 3) +
                                   byte_at(lower, first) + byte_at(lower, first + 3));
    }
  } else {
#pragma unroll
    for (int k = 0; k < 12; k++) sums[k % 3][k / 3] = pad;
  }
  const float factor[3] = {factor_0, factor_1, factor_2}, bias[3] = {bias_0, bias_1, bias_2};
  const int channel[3] = {SOURCE_0, SOURCE_1, SOURCE_2};
#pragma unroll
  for (int k = 0; k < 3; k++) {
    float value[4];
#pragma unroll
    for (int i = 0; i < 4; i++) value[i] = fmaf(sums[channel[k]][i], factor[k], bias[k]);
    store_four(tensor + ((i64)k * height + y) * width + x, value);
  }
}
