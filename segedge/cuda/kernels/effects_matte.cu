// Opacity of a foreground set of classes, and what is made of it at once; entropy of all classes.
//
// The margin of a pixel is the best interpolated logit of the foreground minus the best of the
// others. Where one class is the best of each set at all four corners of a cell, the margin is
// bilinear inside: four loads of the two planes that `matte_points` leaves. Only in the other cells
// all classes are interpolated.
//
// TARGET  0: opacity, 1: picture with opacity, 2: frame over a background
// FROM    0: logits, 1: labels of LABEL_BYTES bytes
// One pixel a thread; blocks of 32 x 8. Neighbouring threads touch neighbouring bytes.

#if FROM == 0
struct Place {  // a pixel's cell and where it lies inside
  int row, column;
  float down, along;
};

DEVICE Place place_of(int y, int x, int grid_height, int grid_width, i64 scale_y, i64 offset_y,
                      i64 scale_x, i64 offset_x) {
  const Position v = position_of(scale_y * y + offset_y, grid_height);
  const Position h = position_of(scale_x * x + offset_x, grid_width);
  const int last_row = most(grid_height - 2, 0), last_column = most(grid_width - 2, 0);
  Place p = {least(v.index, last_row), least(h.index, last_column), v.weight, h.weight};
  if (v.index > last_row) p.down = 1.0f;
  if (h.index > last_column) p.along = 1.0f;
  return p;
}

DEVICE float at_place(const Corners& c, const Place& p) {
  return mix(mix(c.v[0], c.v[2], p.down), mix(c.v[1], c.v[3], p.down), p.along);
}

// Best logit of background and foreground at each grid point, and which class it is.
extern "C" __global__ void __launch_bounds__(256)
    matte_points(const logit_t* __restrict__ logits, int points, const u8* __restrict__ flags,
                 float* best, u16* winner) {
  const int point = blockIdx.x * 256 + threadIdx.x;
  if (point >= points) return;
  // Not arrays: an index that is known at run time only would put them into local memory.
  float behind = -HUGE_LOGIT, front = -HUGE_LOGIT;
  u16 behind_label = 0xffffu, front_label = 0xffffu;
#if SIGMOID
  if (flags[0]) {
    front = 0.0f, front_label = 0;
  } else {
    behind = 0.0f, behind_label = 0;
  }
#endif
  for (int c = 0; c < CHANNELS; c++) {
#if NHWC
    const float raw = raw_logit(logits + (i64)point * CHANNELS + c);
#else
    const float raw = raw_logit(logits + (i64)c * points + point);
#endif
    const float v = finite_logit(raw);
    const int own = SIGMOID ? c + 1 : c;
    if (flags[own]) {
      if (v > front) front = v, front_label = (u16)own;
    } else {
      if (v > behind) behind = v, behind_label = (u16)own;
    }
  }
  best[point] = behind, best[points + point] = front;
  winner[point] = behind_label, winner[points + point] = front_label;
}

DEVICE float margin_of(const logit_t* logits, const u8* flags, const float* best,
                       const u16* winner, const Place& p, int grid_height, int grid_width) {
  const int points = grid_height * grid_width;
  const int below = least(p.row + 1, grid_height - 1), right = least(p.column + 1, grid_width - 1);
  const int at[4] = {p.row * grid_width + p.column, p.row * grid_width + right,
                     below * grid_width + p.column, below * grid_width + right};
  bool uniform = true;
  Corners margin;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    margin.v[k] = best[points + at[k]] - best[at[k]];
    uniform = uniform && winner[at[k]] == winner[at[0]] &&
              winner[points + at[k]] == winner[points + at[0]];
  }
  if (uniform) return at_place(margin, p);
  const Cell cell = cell_at(p.row, p.column, grid_height, grid_width);
  float behind = -HUGE_LOGIT, front = -HUGE_LOGIT;
  for (int c = 0; c < CLASSES; c++) {
    const float v = at_place(corners_of(logits, cell, c, points), p);
    if (flags[c]) {
      front = fmaxf(front, v);
    } else {
      behind = fmaxf(behind, v);
    }
  }
  return front - behind;
}

// Entropy of the softmax over that of equal classes, 0..1; one pass, as the best grows.
extern "C" __global__ void __launch_bounds__(256)
    entropy_pixels(const logit_t* __restrict__ logits, int grid_height, int grid_width,
                   i64 scale_y, i64 offset_y, i64 scale_x, i64 offset_x, int height, int width,
                   float scale, u8* out, i64 out_pitch) {
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
  if (x >= width || y >= height) return;
  const Place p =
      place_of(y, x, grid_height, grid_width, scale_y, offset_y, scale_x, offset_x);
  const Cell cell = cell_at(p.row, p.column, grid_height, grid_width);
  float best = 0.0f, sum = 0.0f, mean = 0.0f;  // sum of e^(v - best), of that times (v - best)
  for (int c = 0; c < CLASSES; c++) {
    const float v = at_place(corners_of(logits, cell, c, grid_height * grid_width), p);
    if (c == 0) {
      best = v, sum = 1.0f;
      continue;
    }
    const float apart = fmaxf(-fabsf(v - best), -80.0f);
    const float e = exp2_fast(1.4426950408889634f * apart);
    if (v > best) {
      mean = e * fmaf(sum, apart, mean), sum = fmaf(sum, e, 1.0f), best = v;
    } else {
      sum += e, mean = fmaf(e, apart, mean);
    }
  }
  *((float*)(out + y * out_pitch) + x) = (logf(sum) - mean / sum) * scale;
}
#else
#if LABEL_BYTES == 2
typedef u16 matte_label_t;
#else
typedef u8 matte_label_t;
#endif
#endif

DEVICE u32 smooth_opacity(float margin, float scale) {  // scale = 1 / (2 edge)
  const float t = fminf(fmaxf(fmaf(margin, scale, 0.5f), 0.0f), 1.0f);
  return (u32)(255.0f * (t * t * (3.0f - 2.0f * t)) + 0.5f);
}

DEVICE u8 over(u32 front, u32 behind, u32 alpha) {
  return (u8)((front * alpha + behind * (255u - alpha) + 127u) / 255u);
}

extern "C" __global__ void __launch_bounds__(256)
#if FROM == 0
    matte_pixels(const logit_t* __restrict__ logits, const u8* __restrict__ flags,
                 const float* __restrict__ best, const u16* __restrict__ winner, int grid_height,
                 int grid_width, i64 scale_y, i64 offset_y, i64 scale_x, i64 offset_x,
                 float scale,
#else
    matte_labels(const u8* __restrict__ labels, i64 labels_pitch, const u8* __restrict__ flags,
                 int classes,
#endif
                 int height, int width, const u8* __restrict__ frame, i64 frame_pitch,
                 const u8* __restrict__ behind, i64 behind_pitch, u8* out, i64 out_pitch) {
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
  if (x >= width || y >= height) return;
#if FROM == 0
  const Place p =
      place_of(y, x, grid_height, grid_width, scale_y, offset_y, scale_x, offset_x);
  const u32 alpha = smooth_opacity(
      margin_of(logits, flags, best, winner, p, grid_height, grid_width), scale);
#else
  const int label = *((const matte_label_t*)(labels + y * labels_pitch) + x);
  const u32 alpha = flags[least(label, classes)] ? 255u : 0u;
#endif
#if TARGET == 0
  out[y * out_pitch + x] = (u8)alpha;
#else
  const u8* in = frame + y * frame_pitch + 3 * x;
#if TARGET == 1
  u8* to = out + y * out_pitch + 4 * x;
#pragma unroll
  for (int k = 0; k < 3; k++) to[k] = alpha ? in[k] : (u8)0;
  to[3] = (u8)alpha;
#else
  const u8* back = behind + y * behind_pitch + 3 * x;
  u8* to = out + y * out_pitch + 3 * x;
#pragma unroll
  for (int k = 0; k < 3; k++) to[k] = over(in[k], back[k], alpha);
#endif
#endif
}
