// Reading logits: layout, half floats, NaN and the background of sigmoid heads.
//
// CLASSES  classes, 2 for a sigmoid head     SIGMOID  1: class 0 has logit zero everywhere
// HALF     1: logits are float16             NHWC     1: classes are the innermost axis
// LOGS     1: what is read are probabilities (of a sigmoid's one class, less a half), and what is
//          wanted is logits whose softmax they are, for a confidence

#if HALF
typedef u16 logit_t;
DEVICE float raw_logit(const logit_t* at) { return half_to_float(*at); }
#else
typedef float logit_t;
DEVICE float raw_logit(const logit_t* at) { return *at; }
#endif

#define HUGE_LOGIT 1e30f
#define LOWEST_LOGIT -3e38f
#define CHANNELS (SIGMOID ? 1 : CLASSES)
#define MASK_WORDS ((CLASSES + 31) / 32)
#define MIXED 0xffffu

// NaN and minus infinity count as -1e30, plus infinity as 1e30: fmaxf drops NaN.
DEVICE float finite_logit(float value) {
  return fminf(fmaxf(value, -HUGE_LOGIT), HUGE_LOGIT);
}

#if LOGS && SIGMOID
DEVICE float class_logit(float value) {
  const float v = finite_logit(value);  // near a half the subtraction is exact, that from 1 not
  return logf(fmaxf(0.5f + v, 1e-6f)) - logf(fmaxf(0.5f - v, 1e-6f));
}
#elif LOGS
DEVICE float class_logit(float value) { return logf(fmaxf(finite_logit(value), 1e-30f)); }
#else
DEVICE float class_logit(float value) { return finite_logit(value); }
#endif

struct Corners {
  float v[4];  // above left, above right, below left, below right
};

struct Cell {  // element offsets of the corners inside a plane (NCHW) or of their vectors (NHWC)
  int at[4];
};

DEVICE Cell cell_at(int row, int column, int grid_height, int grid_width) {
  const int below = least(row + 1, grid_height - 1), right = least(column + 1, grid_width - 1);
  Cell cell = {{row * grid_width + column, row * grid_width + right, below * grid_width + column,
                below * grid_width + right}};
#if NHWC
#pragma unroll
  for (int k = 0; k < 4; k++) cell.at[k] *= CHANNELS;
#endif
  return cell;
}

DEVICE Corners corners_of(const logit_t* logits, const Cell& cell, int label, int plane) {
  Corners corners;
  const int channel = SIGMOID ? label - 1 : label;
  if (SIGMOID && label == 0) {
    corners.v[0] = corners.v[1] = corners.v[2] = corners.v[3] = 0.0f;
    return corners;
  }
#if NHWC
  const logit_t* base = logits + channel;
#else
  const logit_t* base = logits + (i64)channel * plane;
#endif
#pragma unroll
  for (int k = 0; k < 4; k++) corners.v[k] = class_logit(raw_logit(base + cell.at[k]));
  return corners;
}
