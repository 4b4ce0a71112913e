// Effects that need no logits: blurred background, outlines, heat, the frame beside its overlay.
//
// LABEL_BYTES  bytes of a label, 1 or 2
// One pixel (or block of pixels) a thread; blocks of 32 x 8 threads.

#if LABEL_BYTES == 2
typedef u16 paint_label_t;
#else
typedef u8 paint_label_t;
#endif

DEVICE int label_at(const u8* labels, i64 pitch, int y, int x) {
  return *((const paint_label_t*)(labels + y * pitch) + x);
}

// Sums over step x step pixels, each weighing 256 - opacity: blue, green, red, weight.
extern "C" __global__ void __launch_bounds__(256)
    sum_blocks(const u8* __restrict__ frame, i64 frame_pitch, const u8* __restrict__ alpha,
               i64 alpha_pitch, int height, int width, int step, int rows, int columns,
               float4* sums) {
  const int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 8 + threadIdx.y;
  if (column >= columns || row >= rows) return;
  const int bottom = least(row * step + step, height), right = least(column * step + step, width);
  u32 total[3] = {0, 0, 0}, weight = 0;
  for (int y = row * step; y < bottom; y++) {
    for (int x = column * step; x < right; x++) {
      const u32 w = 256u - alpha[y * alpha_pitch + x];
      const u8* in = frame + y * frame_pitch + 3 * x;
#pragma unroll
      for (int k = 0; k < 3; k++) total[k] += w * in[k];
      weight += w;
    }
  }
  sums[row * columns + column] =
      float4{(float)total[0], (float)total[1], (float)total[2], (float)weight};
}

// A Gaussian along one axis, the border repeated. Its taps need no common factor: colours are
// divided by the weights, which have it, too. The second axis divides.
extern "C" __global__ void __launch_bounds__(256)
    blur_blocks(const float4* __restrict__ from, int rows, int columns, int radius, float fall,
                int down, float4* blurred, u32* colors) {
  const int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 8 + threadIdx.y;
  if (column >= columns || row >= rows) return;
  float4 sum = float4{0.0f, 0.0f, 0.0f, 0.0f};
  for (int k = -radius; k <= radius; k++) {
    const int y = down ? most(0, least(row + k, rows - 1)) : row;
    const int x = down ? column : most(0, least(column + k, columns - 1));
    const float4 one = from[y * columns + x];
    const float tap = exp2_fast(-fall * (float)(k * k));
    sum.x = fmaf(tap, one.x, sum.x), sum.y = fmaf(tap, one.y, sum.y);
    sum.z = fmaf(tap, one.z, sum.z), sum.w = fmaf(tap, one.w, sum.w);
  }
  if (!down) {
    blurred[row * columns + column] = sum;
    return;
  }
  colors[row * columns + column] = (u32)(sum.x / sum.w + 0.5f) |
                                   ((u32)(sum.y / sum.w + 0.5f) << 8) |
                                   ((u32)(sum.z / sum.w + 0.5f) << 16);
}

// The frame over the blurred background, interpolated between the blocks' centres.
extern "C" __global__ void __launch_bounds__(256)
    compose_blurred(const u8* __restrict__ frame, i64 frame_pitch, const u8* __restrict__ alpha,
                    i64 alpha_pitch, int height, int width, const u32* __restrict__ colors,
                    int rows, int columns, i64 scale, i64 offset, u8* out, i64 out_pitch) {
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
  if (x >= width || y >= height) return;
  const Position v = position_of(scale * y + offset, rows);
  const Position h = position_of(scale * x + offset, columns);
  const int below = least(v.index + 1, rows - 1), right = least(h.index + 1, columns - 1);
  const u32 corner[4] = {
      colors[v.index * columns + h.index], colors[v.index * columns + right],
      colors[below * columns + h.index], colors[below * columns + right]};
  const u32 a = alpha[y * alpha_pitch + x];
  const u8* in = frame + y * frame_pitch + 3 * x;
  u8* to = out + y * out_pitch + 3 * x;
#pragma unroll
  for (int k = 0; k < 3; k++) {
    float c[4];
#pragma unroll
    for (int n = 0; n < 4; n++) c[n] = (float)((corner[n] >> (8 * k)) & 255u);
    const float mixed = mix(mix(c[0], c[2], v.weight), mix(c[1], c[3], v.weight), h.weight);
    const u32 behind = (u32)(mixed + 0.5f);
    to[k] = (u8)((in[k] * a + behind * (255u - a) + 127u) / 255u);
  }
}

// Pixels of drawn classes with another label within `radius` rows and columns get their colour.
extern "C" __global__ void __launch_bounds__(256)
    draw_outline(const u8* __restrict__ labels, i64 labels_pitch, const u8* __restrict__ flags,
                 const u8* __restrict__ colors, int classes, int radius, int height, int width,
                 const u8* __restrict__ frame, i64 frame_pitch, u8* out, i64 out_pitch) {
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
  if (x >= width || y >= height) return;
  const int own = label_at(labels, labels_pitch, y, x), known = least(own, classes);
  bool border = false;
  if (flags[known]) {
    const int top = most(0, y - radius), bottom = least(height - 1, y + radius);
    const int left = most(0, x - radius), right = least(width - 1, x + radius);
    for (int v = top; v <= bottom && !border; v++) {
      for (int h = left; h <= right; h++) {
        border = border || label_at(labels, labels_pitch, v, h) != own;
      }
    }
  }
  const u8* in = frame + y * frame_pitch + 3 * x;
  u8* to = out + y * out_pitch + 3 * x;
#pragma unroll
  for (int k = 0; k < 3; k++) to[k] = border ? colors[3 * known + k] : in[k];
}

// The frame tinted by doubt; `sure` says that the values are its opposite. labels may be 0: all.
extern "C" __global__ void __launch_bounds__(256)
    paint_heat(const u8* __restrict__ values, i64 values_pitch, int sure,
               const u8* __restrict__ labels, i64 labels_pitch, const u8* __restrict__ flags,
               int classes, const u16* __restrict__ tints, int weight, int height, int width,
               const u8* __restrict__ frame, i64 frame_pitch, u8* out, i64 out_pitch) {
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
  if (x >= width || y >= height) return;
  const u8* in = frame + y * frame_pitch + 3 * x;
  u8* to = out + y * out_pitch + 3 * x;
  const bool is_drawn = !labels || flags[least(label_at(labels, labels_pitch, y, x), classes)];
  const float value = *((const float*)(values + y * values_pitch) + x);
  const float doubt = fminf(fmaxf(sure ? 1.0f - value : value, 0.0f), 1.0f);
  const u16* tint = tints + 3 * (int)(255.0f * doubt + 0.5f);
#pragma unroll
  for (int k = 0; k < 3; k++) {
    to[k] = is_drawn ? (u8)((in[k] * (u32)weight + tint[k]) >> 8) : in[k];
  }
}

// Rows of bytes from one picture to another.
extern "C" __global__ void __launch_bounds__(256)
    copy_rows(const u8* __restrict__ from, i64 from_pitch, int rows, int row_bytes, u8* to,
              i64 to_pitch) {
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
  if (x < row_bytes && y < rows) to[y * to_pitch + x] = from[y * from_pitch + x];
}
