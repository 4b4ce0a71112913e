// The network of FakeCudaBackend: classes by brightness, as `segedge.backends.fake` says.
//
// CLASSES  logit channels      STRIDE  input pixels a logit     HALF  1: tensor and logits float16
// A thread a grid point; 256 threads a block.

#if HALF
typedef u16 value_t;
DEVICE float read_value(const value_t* at) { return half_to_float(*at); }
DEVICE value_t as_value(float value) { return float_to_half(value); }
#else
typedef float value_t;
DEVICE float read_value(const value_t* at) { return *at; }
DEVICE value_t as_value(float value) { return value; }
#endif

extern "C" __global__ void __launch_bounds__(256)
    fake_network(const value_t* __restrict__ tensor, int height, int width, value_t* logits,
                 int grid_height, int grid_width) {
  const int point = blockIdx.x * 256 + threadIdx.x, points = grid_height * grid_width;
  if (point >= points) return;
  const int y = point / grid_width * STRIDE, x = point % grid_width * STRIDE;
  const value_t* pixel = tensor + (i64)y * width + x;
  const i64 plane = (i64)height * width;
  const float sum = read_value(pixel) + read_value(pixel + plane) + read_value(pixel + 2 * plane);
  const float brightness = sum / 3.0f;
  for (int k = 0; k < CLASSES; k++) {
    const float center = CLASSES > 1 ? -2.0f + 4.0f * (float)k / (float)(CLASSES - 1) : -2.0f;
    logits[(i64)k * points + point] = as_value(-fabsf(brightness - center));
  }
}
