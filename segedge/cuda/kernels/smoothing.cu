// Smoothing over time: the guide image and how far it is from the past's, then logits mixed with
// their past; see segedge/reference/smoothing.py. Behind common.cu and logits.cu.
//
// TENSOR_HALF   1: the network's input is float16      FINER        guide cells a point and axis
// FLICKER       1: changed labels are counted          CUT_SHARE    of the points: another scene
// MOST_LOGIT    larger ones are left as they are       STILL_LEVELS grey levels
//
// Two launches over the same blocks of 256 grid points, because every point looks at its
// neighbours' change and at how many points changed.
//
// Bytes: the logits twice (the second time from L1 or L2) and once out, the past in and out; what
// has no weight of the past is not read: for 19 x 128 x 256 float32 5 to 10 MB a frame.

#if TENSOR_HALF
typedef u16 tensor_t;
DEVICE float tensor_value(tensor_t bits) { return half_to_float(bits); }
#else
typedef float tensor_t;
DEVICE float tensor_value(tensor_t value) { return value; }
#endif

#define FAR_AWAY 3e38f  // change of a point without a past; squared it is infinite

// In 32 bits, which `Smooth` sees to: dividing 64 would be a call, and spill registers.
DEVICE int sample_at(int cell, int tap, int taps, int cells, int pixels) {
  const u32 sample = 2 * ((u32)cell * taps + tap) + 1;
  return (int)(sample * pixels / (2 * (u32)cells * taps));
}

extern "C" __global__ void __launch_bounds__(256)
    smooth_guide(const tensor_t* __restrict__ tensor, i64 green, int row_step, int column_step,
                 int network_height, int network_width, int grid_height, int grid_width, int taps_y,
                 int taps_x, float factor, float bias, float limit, const float* past_guide,
                 const float* last_guide, int afresh, float* guide, float* change, float* motion,
                 int* differs) {
  __shared__ int total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  const int point = blockIdx.x * 256 + threadIdx.x;
  if (point < grid_height * grid_width) {
    const int y = point / grid_width, x = point % grid_width;
    float most = 0.0f, moved = 0.0f;
    for (int i = 0; i < FINER; i++) {
      for (int j = 0; j < FINER; j++) {
        const int row = FINER * y + i, column = FINER * x + j;
        float sum = 0.0f;
        for (int a = 0; a < taps_y; a++) {
          const int from = sample_at(row, a, taps_y, FINER * grid_height, network_height);
          for (int b = 0; b < taps_x; b++) {
            const int at = sample_at(column, b, taps_x, FINER * grid_width, network_width);
            sum += tensor_value(tensor[green + (i64)from * row_step + (i64)at * column_step]);
          }
        }
        const float level = sum * factor + bias;
        const int cell = row * FINER * grid_width + column;
        guide[cell] = level;
        if (!afresh) {
          most = fmaxf(most, fabsf(level - past_guide[cell]));
#if FLICKER
          moved = fmaxf(moved, fabsf(level - last_guide[cell]));
#endif
        }
      }
    }
    most = afresh ? FAR_AWAY : most;
    change[point] = most;
#if FLICKER
    motion[point] = moved;
#endif
    if (most > limit) atomicAdd(&total, 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) differs[blockIdx.x] = total;
}

DEVICE float neighbours_most(const float* values, int y, int x, int height, int width) {
  float found = 0.0f;
#pragma unroll
  for (int i = -1; i <= 1; i++) {
    const int row = least(most(y + i, 0), height - 1) * width;
#pragma unroll
    for (int j = -1; j <= 1; j++) {
      found = fmaxf(found, values[row + least(most(x + j, 0), width - 1)]);
    }
  }
  return found;
}

DEVICE i64 logit_at(int point, int channel, int points) {
  return NHWC ? (i64)point * CHANNELS + channel : (i64)channel * points + point;
}

// Takes over a label; counts it in `changed` and `returned` where the point was still.
DEVICE void note_label(u16* last, int points, int point, int label, bool follows, bool still,
                       int* changed, int* returned) {
  const int before = last[point];
  if (follows && still && label != before) {
    atomicAdd(changed, 1);
    if (label == last[points + point]) atomicAdd(returned, 1);
  }
  last[point] = (u16)label;
  last[points + point] = (u16)(follows ? before : label);
}

// `past` is laid out like the logits. `labels` are those without smoothing of the last frame and of
// the one before, then those with it; `counts`: still points, changed and returned ones without
// smoothing, the same with it.
extern "C" __global__ void __launch_bounds__(256)
    smooth_blend(logit_t* logits, int grid_height, int grid_width, float per_tolerance,
                 float per_lead, float kept, int afresh, float* past, float* past_guide,
                 float* last_guide, u16* labels, u64* counts, const float* guide,
                 const float* change, const float* motion, const int* differs) {
  __shared__ int total;
#if FLICKER
  __shared__ int counted[5];
  if (threadIdx.x < 5) counted[threadIdx.x] = 0;
#endif
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  int part = 0;
  for (int block = threadIdx.x; block < gridDim.x; block += 256) part += differs[block];
  if (part) atomicAdd(&total, part);
  __syncthreads();

  const int points = grid_height * grid_width;
  const int point = blockIdx.x * 256 + threadIdx.x;
  const bool is_cut = (float)total > CUT_SHARE * (float)points;
  if (point < points) {
    const int y = point / grid_width, x = point % grid_width;
    const float away = neighbours_most(change, y, x, grid_height, grid_width) * per_tolerance;
    float share = is_cut ? 0.0f : kept * fmaxf(1.0f - away * away, 0.0f);

    bool fit = true;
    float best = LOWEST_LOGIT, second = SIGMOID ? 0.0f : LOWEST_LOGIT;
    int label = 0;
#pragma unroll 4
    for (int c = 0; c < CHANNELS; c++) {
      float value = raw_logit(logits + logit_at(point, c, points));
      if (SIGMOID && value > 0.0f) label = 1;
      fit = fit && fabsf(value) <= MOST_LOGIT;
      if (SIGMOID) value = fabsf(value);
      if (!SIGMOID) second = fmaxf(second, fminf(best, value));
      if (value > best) best = value, label = SIGMOID ? label : c;
    }
    share = fit ? share / (1.0f + (best - second) * per_lead) : 0.0f;

    float mixed_best = SIGMOID ? 0.0f : LOWEST_LOGIT;
    int mixed_label = 0;
#pragma unroll 4
    for (int c = 0; c < CHANNELS; c++) {
      const i64 at = logit_at(point, c, points);
      float value = raw_logit(logits + at);
      if (share > 0.0f) {
        value += share * (past[at] - value);
#if HALF
        logits[at] = float_to_half(value);
#else
        logits[at] = value;
#endif
      }
      past[at] = fit ? value : 0.0f;
      if (value > mixed_best) mixed_best = value, mixed_label = SIGMOID ? 1 : c;
    }

    for (int i = 0; i < FINER; i++) {
      for (int j = 0; j < FINER; j++) {
        const int cell = (FINER * y + i) * FINER * grid_width + FINER * x + j;
        float level = guide[cell];
#if FLICKER
        last_guide[cell] = level;
#endif
        if (share > 0.0f) level += share * (past_guide[cell] - level);
        past_guide[cell] = fit ? level : FAR_AWAY;
      }
    }
#if FLICKER
    const bool follows = !is_cut && afresh == 0;
    const bool still = neighbours_most(motion, y, x, grid_height, grid_width) < STILL_LEVELS;
    if (follows && still) atomicAdd(&counted[0], 1);
    note_label(labels, points, point, label, follows, still, &counted[1], &counted[2]);
    note_label(labels + 2 * points, points, point, mixed_label, follows, still, &counted[3],
               &counted[4]);
#endif
  }
#if FLICKER
  __syncthreads();
  if (threadIdx.x < 5 && counted[threadIdx.x]) {
    atomicAdd(&counts[threadIdx.x], (u64)counted[threadIdx.x]);
  }
#endif
}
