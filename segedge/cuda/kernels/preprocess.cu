// A frame to the network's input tensor in one pass: resample, pad, reorder, normalise.
//
// Bytes at 1024 x 2048 to 512 x 1024 float16: 6.3 MB in, 3.1 MB out (float32: 6.3): 3.1 us at
// 3 TB/s. Neighbouring lanes own neighbouring output pixels: their source pixels, 3 or 6 bytes
// apart, come from the same few cache lines, and a plane's store of a warp is 64 or 128 contiguous
// bytes, whole sectors. Lanes with several neighbouring pixels each would store wider vectors but
// touch twice the cache lines with every load, and loads are what there are most of here.
// A pixel pair of 3-byte pixels is read as three aligned words and shifted together: 3 loads, not 6.
//
// The kernel for the exact halving (means of 2 x 2 pixels, the commonest case: Cityscapes frames to
// 512 x 1024) reads 8-byte words, each once, and stores 4 pixels a thread as vectors.
//
// RULE      0: bilinear, 1: nearest, 2: many taps (antialias, area, Pillow's filters)
// BOX_Y, BOX_X   RULE 2: 1: mean over a box (area), 0: FILTER of half-width `reach`
// FILTER    RULE 2: 0: triangle, 1: Pillow's box, 2: Hamming, 3: bicubic, 4: Lanczos
// ROUNDED   RULE 2: 1: whole levels after each axis, rows first, as Pillow has them
// FORMAT    3: BGR/RGB, 4: BGRA/RGBA, 1: grey, 12: NV12
// SOURCE_0..2    which source channel goes to the tensor's channels 0..2
// HALF, NHWC     type and layout of the tensor
// ALIGNED   1: rows start at, and the row's bytes are, multiples of 4
// PAD_MEAN  1: outside the content is 0 once normalised, and `pad` counts for nothing
// NV12 only: LUMA_GAIN, LUMA_OFFSET, RED_V, GREEN_U, GREEN_V, BLUE_U (see preprocess.py)

#if HALF
typedef u16 value_t;
DEVICE value_t to_value(float value) { return float_to_half(value); }
#else
typedef float value_t;
DEVICE value_t to_value(float value) { return value; }
#endif

#define PIXELS 2  // a thread, 32 apart
#define ROWS 8

struct Color {
  float c[3];  // channels in the source's order; NV12: Y, U, V until converted, then R, G, B
};

struct Frame {
  const u8* data;
  i64 pitch;
  const u8* chroma;
  i64 chroma_pitch;
  int height, width;
#if RULE == 2 && FILTER == 1
  int row, column;  // of the whole resized frame: the output pixel
  double scale_y, scale_x;
#endif
};

struct Normal {
  float factor[3], bias[3];  // in the tensor's channel order
};

DEVICE Color mix_colors(const Color& a, const Color& b, float weight) {
  Color out;
#pragma unroll
  for (int k = 0; k < 3; k++) out.c[k] = fmaf(weight, b.c[k] - a.c[k], a.c[k]);
  return out;
}

DEVICE float byte_of(u32 word, int k) { return (float)((word >> (8 * k)) & 255u); }

DEVICE Color color_at(const u8* row, int x) {
  Color out;
#if FORMAT == 4 && ALIGNED
  const u32 word = ((const u32*)row)[x];
  out.c[0] = byte_of(word, 0), out.c[1] = byte_of(word, 1), out.c[2] = byte_of(word, 2);
#elif FORMAT == 1 || FORMAT == 12
  out.c[0] = (float)row[x];
  out.c[1] = out.c[2] = 0.0f;
#else
  const u8* at = row + (i64)FORMAT * x;
  out.c[0] = (float)at[0], out.c[1] = (float)at[1], out.c[2] = (float)at[2];
#endif
  return out;
}

// Mean of pixels x and x + 1 (the last one again at the border, where its weight is zero).
DEVICE Color mix_along(const u8* row, Position x, int width) {
#if FORMAT == 3 && ALIGNED
  const u32* words = (const u32*)row;
  const int byte = 3 * x.index, word = byte >> 2, last = (3 * width - 1) >> 2;
  const u32 w0 = words[word], w1 = words[least(word + 1, last)], w2 = words[least(word + 2, last)];
  const u32 a = __funnelshift_r(w0, w1, (byte & 3) * 8);  // B0 G0 R0 B1
  const u32 b = __funnelshift_r(w1, w2, (byte & 3) * 8);  // G1 R1
  const Color left = {{byte_of(a, 0), byte_of(a, 1), byte_of(a, 2)}};
  const Color right = {{byte_of(a, 3), byte_of(b, 0), byte_of(b, 1)}};
  return mix_colors(left, right, x.weight);
#else
  return mix_colors(color_at(row, x.index), color_at(row, least(x.index + 1, width - 1)), x.weight);
#endif
}

#if FORMAT == 12
DEVICE Color chroma_at(const u8* row, int x) {
  Color out;
#if ALIGNED
  const u32 both = ((const u16*)row)[x];
  out.c[1] = (float)(both & 255u), out.c[2] = (float)(both >> 8);
#else
  out.c[1] = (float)row[2 * x], out.c[2] = (float)row[2 * x + 1];
#endif
  out.c[0] = 0.0f;
  return out;
}

DEVICE float level(float value) { return fminf(fmaxf(value, 0.0f), 255.0f); }

DEVICE Color rgb_of(const Color& yuv) {  // linear, so it may follow the resampling
  const float y = LUMA_GAIN * (yuv.c[0] - LUMA_OFFSET), u = yuv.c[1] - 128.0f, v = yuv.c[2] - 128.0f;
  return {{level(fmaf(RED_V, v, y)), level(y - GREEN_U * u - GREEN_V * v), level(fmaf(BLUE_U, u, y))}};
}

// Bilinear on the chroma plane. Samples lie level with even columns and between two rows, as H.264
// and H.265 have it unless they say otherwise: x / 2, and (y + 1/2) / 2 - 1/2.
DEVICE Color sample_chroma(const Frame& f, i64 at_y, i64 at_x) {
  const int height = (f.height + 1) >> 1, width = (f.width + 1) >> 1;
  const Position y = position_of((at_y >> 1) - ((i64)1 << (FRACTION - 2)), height);
  const Position x = position_of(at_x >> 1, width);
  const int next = least(x.index + 1, width - 1);
  const u8* upper = f.chroma + y.index * f.chroma_pitch;
  const u8* lower = f.chroma + least(y.index + 1, height - 1) * f.chroma_pitch;
  return mix_colors(mix_colors(chroma_at(upper, x.index), chroma_at(upper, next), x.weight),
                    mix_colors(chroma_at(lower, x.index), chroma_at(lower, next), x.weight), y.weight);
}
#endif

#if RULE == 0
DEVICE Color sample(const Frame& f, i64 at_y, i64 at_x, float, float) {
  const Position y = position_of(at_y, f.height), x = position_of(at_x, f.width);
  const u8* upper = f.data + y.index * f.pitch;
  const u8* lower = f.data + least(y.index + 1, f.height - 1) * f.pitch;
  Color color = mix_colors(mix_along(upper, x, f.width), mix_along(lower, x, f.width), y.weight);
#if FORMAT == 12
  const Color uv = sample_chroma(f, at_y, at_x);
  color.c[1] = uv.c[1], color.c[2] = uv.c[2];
#endif
  return color;
}
#elif RULE == 1
DEVICE Color sample(const Frame& f, i64 at_y, i64 at_x, float, float) {  // offsets hold the half
  const int y = position_of(at_y, f.height).index, x = position_of(at_x, f.width).index;
  Color color = color_at(f.data + y * f.pitch, x);
#if FORMAT == 12
  const Color uv = chroma_at(f.chroma + (y >> 1) * f.chroma_pitch, x >> 1);
  color.c[1] = uv.c[1], color.c[2] = uv.c[2];
#endif
  return color;
}
#else
// The pixels that one axis of the filter covers, cut at the border. Coordinates are relative to
// `base`, so that float is exact enough.
#if FILTER == 3
#define SUPPORT 2.0f
#elif FILTER == 4
#define SUPPORT 3.0f
#elif FILTER == 1
#define SUPPORT 0.5f
#else
#define SUPPORT 1.0f
#endif
#define NEAR 1e-5f  // what rounding may do to a position, or to a value of 0..255

struct Window {
  int base, first, last;
  float low, high;  // box: its ends; else the centre and 1 / what one unit of the filter covers
};

DEVICE Window window_of(i64 at, int length, float reach, bool box) {
  Window w;
  w.base = (int)(at >> FRACTION);
  const float centre = fraction_of(at & (((i64)1 << FRACTION) - 1));
  if (box) {  // pixel i covers i - 1/2 .. i + 1/2 around its centre
    w.low = fmaxf(centre - reach, (float)-w.base - 0.5f);
    w.high = fminf(centre + reach, (float)(length - w.base) - 0.5f);
    w.first = w.base + (int)floorf(w.low + 0.5f), w.last = w.base + (int)ceilf(w.high + 0.5f) - 1;
  } else {
    w.low = centre, w.high = SUPPORT / reach;
    w.first = w.base + (int)floorf(centre - reach) + 1;
    w.last = w.base + (int)ceilf(centre + reach) - 1;
  }
  w.first = most(w.first, 0), w.last = least(w.last, length - 1);
  return w;
}

#if FILTER == 1
// A pixel is in Pillow's box or not; where one lies on the box's end, the rounding of its doubles
// decides. `out` is the output pixel, `scale` the input's length over the output's.
DEVICE Window box_of(int out, double scale, int length) {
  const double stretch = scale > 1.0 ? scale : 1.0, one = 1.0 / stretch, half = 0.5 * stretch;
  const double centre = __dmul_rn((double)out + 0.5, scale);
  Window w = {0, most((int)(centre - half + 0.5), 0), least((int)(centre + half + 0.5), length) - 1};
  if (((double)w.first - centre + 0.5) * one <= -0.5) w.first++;
  if (((double)w.last - centre + 0.5) * one > 0.5) w.last--;
  w.low = (float)centre, w.high = 0.0f;
  return w;
}
#endif

#if FILTER >= 2
DEVICE float sinc(float x) {  // of x != 0; sinf would keep local memory for huge angles
  return sinpif(x) / (3.14159265358979f * x);
}
#endif

// What a pixel weighs at a distance in units of the filter.
DEVICE float filtered(float x) {
#if FILTER == 0
  return fmaxf(1.0f - x, 0.0f);
#elif FILTER == 1
  return 1.0f;
#elif FILTER == 2
  return x < 1e-6f ? 1.0f : x < 1.0f ? sinc(x) * (0.54f + 0.46f * cospif(x)) : 0.0f;
#elif FILTER == 3
  if (x < 1.0f) return fmaf(fmaf(1.5f, x, -2.5f), x * x, 1.0f);
  return x < 2.0f ? fmaf(fmaf(fmaf(-0.5f, x, 2.5f), x, -4.0f), x, 2.0f) : 0.0f;
#else
  return x < 1e-6f ? 1.0f : x < 3.0f ? sinc(x) * sinc(x / 3.0f) : 0.0f;
#endif
}

DEVICE float weight_of(const Window& w, int i, bool box) {
  const float at = (float)(i - w.base);
  if (i > w.last) return 0.0f;
  if (box) return fmaxf(fminf(at + 0.5f, w.high) - fmaxf(at - 0.5f, w.low), 0.0f);
  return filtered(fabsf(at - w.low) * w.high);
}

DEVICE void add(Color& sum, const Color& color, float weight) {
#pragma unroll
  for (int k = 0; k < 3; k++) sum.c[k] = fmaf(weight, color.c[k], sum.c[k]);
}

// Weighted sum along one row; returns the sum of the weights.
DEVICE float sum_row(Color& sum, const u8* row, const u8* chroma, const Window& w, int width) {
  float total = 0.0f;
#if FORMAT == 3 && ALIGNED
  const u32* words = (const u32*)row;  // four pixels are three words, shifted into place
  const int byte = 3 * w.first, shift = (byte & 3) * 8, end = (3 * width - 1) >> 2;
  int word = byte >> 2;
  u32 carry = words[word];
  for (int i = w.first; i <= w.last; i += 4, word += 3) {
    const u32 n0 = words[least(word + 1, end)], n1 = words[least(word + 2, end)];
    const u32 n2 = words[least(word + 3, end)];
    const u32 a = __funnelshift_r(carry, n0, shift), b = __funnelshift_r(n0, n1, shift);
    const u32 c = __funnelshift_r(n1, n2, shift);
    carry = n2;
    const float w0 = weight_of(w, i, BOX_X), w1 = weight_of(w, i + 1, BOX_X);
    const float w2 = weight_of(w, i + 2, BOX_X), w3 = weight_of(w, i + 3, BOX_X);
    add(sum, {{byte_of(a, 0), byte_of(a, 1), byte_of(a, 2)}}, w0);
    add(sum, {{byte_of(a, 3), byte_of(b, 0), byte_of(b, 1)}}, w1);
    add(sum, {{byte_of(b, 2), byte_of(b, 3), byte_of(c, 0)}}, w2);
    add(sum, {{byte_of(c, 1), byte_of(c, 2), byte_of(c, 3)}}, w3);
    total += w0 + w1 + w2 + w3;
  }
#else
  for (int i = w.first; i <= w.last; i++) {
    const float weight = weight_of(w, i, BOX_X);
    Color color = color_at(row, i);
#if FORMAT == 12
    const Color uv = chroma_at(chroma, i >> 1);  // replicated: the filter smooths it anyway
    color.c[1] = uv.c[1], color.c[2] = uv.c[2];
#endif
    add(sum, color, weight);
    total += weight;
  }
#endif
  return total;
}

DEVICE Color scaled(const Color& sum, float scale) {
  Color color = {{sum.c[0] * scale, sum.c[1] * scale, sum.c[2] * scale}};
#if ROUNDED
#pragma unroll
  for (int k = 0; k < 3; k++)
    color.c[k] = fminf(fmaxf(floorf(color.c[k] + 0.5f + 4.0f * NEAR), 0.0f), 255.0f);
#endif
  return color;
}

DEVICE Color sample(const Frame& f, i64 at_y, i64 at_x, float reach_y, float reach_x) {
#if FILTER == 1
  const Window rows = box_of(f.row, f.scale_y, f.height);
  const Window columns = box_of(f.column, f.scale_x, f.width);
#else
  const Window rows = window_of(at_y, f.height, reach_y, BOX_Y);
  const Window columns = window_of(at_x, f.width, reach_x, BOX_X);
#endif
  Color color = {{0.0f, 0.0f, 0.0f}};
  float total = 0.0f;
  for (int y = rows.first; y <= rows.last; y++) {
    Color row = {{0.0f, 0.0f, 0.0f}};
    const float weight = weight_of(rows, y, BOX_Y);
    const u8* chroma = FORMAT == 12 ? f.chroma + (y >> 1) * f.chroma_pitch : f.data;
    const float sum = sum_row(row, f.data + y * f.pitch, chroma, columns, f.width);
    add(color, scaled(row, 1.0f / sum), weight);
    total += weight;
  }
  return scaled(color, 1.0f / total);
}
#endif

DEVICE void store(value_t* tensor, int height, int width, int y, int x, const Color& color,
                  const Normal& n) {
  const float value[3] = {color.c[SOURCE_0], color.c[SOURCE_1], color.c[SOURCE_2]};
#pragma unroll
  for (int k = 0; k < 3; k++) {
    const i64 at = NHWC ? ((i64)y * width + x) * 3 + k : ((i64)k * height + y) * width + x;
    tensor[at] = to_value(fmaf(value[k], n.factor[k], n.bias[k]));
  }
}

// 32 x 8 threads; grid = (ceil(width / 64), ceil(height / 8)). `top`..`right` bound the content;
// outside is `pad`, 0..255.
#if RULE == 2 && FILTER >= 2  // left alone, ptxas aims at more blocks and spills
#define BOUNDS __launch_bounds__(256, 2)
#else
#define BOUNDS __launch_bounds__(256)
#endif
extern "C" __global__ void BOUNDS
    preprocess(const u8* __restrict__ frame, i64 pitch, const u8* __restrict__ chroma,
               i64 chroma_pitch, int frame_height, int frame_width, i64 scale_y, i64 offset_y,
               i64 scale_x, i64 offset_x, float reach_y, float reach_x, int top, int left,
               int bottom, int right, value_t* tensor, int height, int width, float pad,
               float factor_0, float factor_1, float factor_2, float bias_0, float bias_1,
               float bias_2
#if RULE == 2 && FILTER == 1
               ,
               double frame_scale_y, double frame_scale_x, int skip_y, int skip_x
#endif
) {
  Frame f = {frame, pitch, chroma, chroma_pitch, frame_height, frame_width};
  const Normal n = {{factor_0, factor_1, factor_2}, {bias_0, bias_1, bias_2}};
  const int y = blockIdx.y * ROWS + threadIdx.y;
  if (y >= height) return;
#pragma unroll
  for (int k = 0; k < PIXELS; k++) {
    const int x = (blockIdx.x * PIXELS + k) * 32 + threadIdx.x;
    if (x >= width) return;
    Color color = {{pad, pad, pad}};
    Normal normal = n;
#if PAD_MEAN
    normal = {{0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f}};
#endif
    if (y >= top && y < bottom && x >= left && x < right) {
      normal = n;
#if RULE == 2 && FILTER == 1
      f.row = y + skip_y, f.column = x + skip_x;
      f.scale_y = frame_scale_y, f.scale_x = frame_scale_x;
#endif
      color = sample(f, scale_y * y + offset_y, scale_x * x + offset_x, reach_y, reach_x);
#if FORMAT == 12
      color = rgb_of(color);
#endif
    }
    store(tensor, height, width, y, x, color, normal);
  }
}
