// Second pass of the tail: every frame pixel finds its cell and writes what is asked for.
//
// One launch does it all. A thread owns 4 x 2 pixels, a warp a patch of 32 x 8. With stride 8 that
// is 4 x 1 cells, with stride 16 two halves: most patches of a street scene are uniform throughout
// and take the short path as one; in the others only the lanes on mixed cells interpolate, two or
// three classes as a rule, while the rest wait for some 100 instructions. That costs less than
// what compaction needs: a second launch (about 2 us), a list in memory, and scattered stores of
// 3-byte pixels; here every store of a warp fills whole 32-byte sectors.
//
// Bytes at 1024 x 2048: 2.1 MB of labels out; overlay 6.3 MB in and 6.3 MB out. The codes, masks
// and corners come from L1 and L2. At 3 TB/s that is 0.7 and 4.2 us.
// Instructions: about 150 a uniform thread with overlay, 262k threads = 8.2k warps: 1.4 us on 132
// multiprocessors, so memory is the limit.
//
// SOURCE  0: codes and masks of tail_cells, logits   1: codes of tail_points   2: labels of type RAW
// SEEN    1: outside of `seen_top` .. `seen_right` the network saw nothing: label MOST, confidence 0
// MOST    largest label: 255, or 65535 for more than 256 classes
// 256 threads; grid = (ceil(width / 128), ceil(height / 16)).

#define WARPS_X 4
#define WARPS_Y 2

#if SOURCE == 2
typedef RAW raw_t;
#else
typedef u16 raw_t;
#endif

struct Decision {  // about a thread's 4 x 2 pixels
  int label[2][4];
  float best[2][4];
#if CONFIDENCE
  float other[2][4];  // sum of exp(logit - best), or the second-best logit
#endif
};

struct Grid {
  const logit_t* logits;
  const u32* masks;
  const raw_t* codes;
  int height, width;
};

#if SOURCE == 0
struct Weights {
  int row[2], column[4];     // the pixels' cells
  float down[2], along[4];   // and their places inside
};

DEVICE Weights weights_of(const Spot& s, const Grid& g, i64 scale_y, i64 offset_y, i64 scale_x,
                          i64 offset_x) {
  Weights w;
#pragma unroll
  for (int r = 0; r < 2; r++) {  // pixels outside repeat the last one inside
    const int y = least(s.y + r, s.height - 1), last = most(g.height - 2, 0);
    const Position p = position_of(scale_y * y + offset_y, g.height);
    w.row[r] = least(p.index, last);
    w.down[r] = p.index > last ? 1.0f : p.weight;
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int x = least(s.x + i, s.width - 1), last = most(g.width - 2, 0);
    const Position p = position_of(scale_x * x + offset_x, g.width);
    w.column[i] = least(p.index, last);
    w.along[i] = p.index > last ? 1.0f : p.weight;
  }
  return w;
}

DEVICE void consider(Decision& d, int r, int i, int label, float value) {
  const bool wins = value > d.best[r][i];
#if CONFIDENCE == 1
  const float e = exp2_fast(-1.4426950408889634f * fabsf(value - d.best[r][i]));
  d.other[r][i] = wins ? fmaf(d.other[r][i], e, 1.0f) : d.other[r][i] + e;
#elif CONFIDENCE == 2
  d.other[r][i] = fmaxf(d.other[r][i], fminf(d.best[r][i], value));
#endif
  if (wins) d.best[r][i] = value, d.label[r][i] = label;
}

// All pixels of the thread that lie in one mixed cell, contender by contender.
DEVICE void interpolate(Decision& d, const Weights& w, const Grid& g, int row, int column,
                        int index) {
  const Cell cell = cell_at(row, column, g.height, g.width);
  for (int word = 0; word < MASK_WORDS; word++) {
    u32 mask = g.masks[index * MASK_WORDS + word];
    while (mask != 0) {
      const int label = word * 32 + __ffs((int)mask) - 1;
      mask &= mask - 1;
      const Corners c = corners_of(g.logits, cell, label, g.height * g.width);
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const float left = mix(c.v[0], c.v[2], w.down[r]);
        const float right = mix(c.v[1], c.v[3], w.down[r]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          if (w.row[r] == row && w.column[i] == column) {
            consider(d, r, i, label, mix(left, right, w.along[i]));
          }
        }
      }
    }
  }
}

DEVICE void settle(Decision& d, const Weights& w, int row, int column, int label) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (w.row[r] == row && w.column[i] == column) {
        d.label[r][i] = label;
#if CONFIDENCE
        d.best[r][i] = 1.0f, d.other[r][i] = CONFIDENCE == 1 ? 1.0f : 0.0f;
#endif
      }
    }
  }
}

// Visits the cells under a thread's pixels; positions grow along both axes.
DEVICE void decide(Decision& d, const Weights& w, const Grid& g) {
  const int cells_x = most(g.width - 1, 1);
  int row = w.row[0];
  while (true) {
    int column = w.column[0];
    while (true) {
      const int index = row * cells_x + column;
      const u32 code = g.codes[index];
      if (code == MIXED) {
        interpolate(d, w, g, row, column, index);
      } else {
        settle(d, w, row, column, (int)code);
      }
      if (column == w.column[3]) break;
      int next = w.column[3];
#pragma unroll
      for (int i = 2; i > 0; i--) {
        if (w.column[i] > column) next = w.column[i];
      }
      column = next;
    }
    if (row == w.row[1]) break;
    row = w.row[1];
  }
}
#else
DEVICE void look_up(Decision& d, const Spot& s, const Grid& g, i64 scale_y, i64 offset_y,
                    i64 scale_x, i64 offset_x) {  // the offsets hold the half for rounding
  int column[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int x = least(s.x + i, s.width - 1);
    column[i] = position_of(scale_x * x + offset_x, g.width).index;
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int y = least(s.y + r, s.height - 1);
    const raw_t* row = g.codes + position_of(scale_y * y + offset_y, g.height).index * g.width;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const i64 value = (i64)row[column[i]];
      d.label[r][i] = value < 0 || value > MOST ? MOST : (int)value;
    }
  }
}
#endif

// Blocks a multiprocessor that the registers must allow. Left alone, ptxas aims at four and spills
// a few bytes where that is one register too few.
#if CONFIDENCE
#define LEAST_BLOCKS 2
#elif MASK_WORDS > 1 || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000)
#define LEAST_BLOCKS 3
#else
#define LEAST_BLOCKS 4
#endif

extern "C" __global__ void __launch_bounds__(256, LEAST_BLOCKS)
    tail_fill(const logit_t* __restrict__ logits, const u32* __restrict__ masks,
              const raw_t* __restrict__ codes, int grid_height, int grid_width, i64 scale_y,
              i64 offset_y, i64 scale_x, i64 offset_x, int height, int width, u8* labels,
              i64 labels_pitch, const u8* frame, i64 frame_pitch, u8* overlay, i64 overlay_pitch,
              const u8* frame_uv, i64 frame_uv_pitch, u8* overlay_uv, i64 overlay_uv_pitch,
              const uint2* __restrict__ tints, u8* confidence, i64 confidence_pitch,
              u64* class_pixels
#if SEEN
              ,
              int seen_top, int seen_left, int seen_bottom, int seen_right
#endif
) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int patch_x = (blockIdx.x * WARPS_X + warp % WARPS_X) * PATCH_WIDTH;
  const int patch_y = (blockIdx.y * WARPS_Y + warp / WARPS_X) * PATCH_HEIGHT;
  const Spot spot = {patch_x + (lane & 7) * 4, patch_y + (lane >> 3) * 2, width, height};
#if COUNT
  __shared__ u32 counts[CLASSES];
  for (int c = threadIdx.x; c < CLASSES; c += 256) counts[c] = 0;
  __syncthreads();
#endif
#if OVERLAY == 1 && ALIGNED
  __shared__ __align__(8) u32 stages[WARPS_X * WARPS_Y][STAGE_WORDS];
  const bool whole = patch_x + PATCH_WIDTH <= width && patch_y + PATCH_HEIGHT <= height;
  Patch patch;  // loaded first: it arrives while the labels are decided
  if (whole) patch = load_patch(frame + patch_y * frame_pitch + 3 * patch_x, frame_pitch, lane);
#endif
  Decision d;
#pragma unroll
  for (int k = 0; k < 8; k++) {
    d.label[k >> 2][k & 3] = 0, d.best[k >> 2][k & 3] = LOWEST_LOGIT;
#if CONFIDENCE
    d.other[k >> 2][k & 3] = CONFIDENCE == 1 ? 0.0f : LOWEST_LOGIT;
#endif
  }
  const Grid grid = {logits, masks, codes, grid_height, grid_width};
#if SOURCE == 0
  decide(d, weights_of(spot, grid, scale_y, offset_y, scale_x, offset_x), grid);
#else
  look_up(d, spot, grid, scale_y, offset_y, scale_x, offset_x);
#endif

#if SEEN
  bool seen[2][4];
#pragma unroll
  for (int k = 0; k < 8; k++) {
    const int y = spot.y + (k >> 2), x = spot.x + (k & 3);
    seen[k >> 2][k & 3] = y >= seen_top && y < seen_bottom && x >= seen_left && x < seen_right;
    if (!seen[k >> 2][k & 3]) d.label[k >> 2][k & 3] = MOST;
  }
#endif
#if TYPE_LABELS
  write_labels(spot, {labels, labels_pitch}, d.label);
#endif
#if OVERLAY == 1 && ALIGNED
  if (whole) {
    paint_patch(patch, overlay + patch_y * overlay_pitch + 3 * patch_x, overlay_pitch, lane,
                stages[warp], tints, d.label);
  } else
#endif
#if OVERLAY == 1
    paint_pixels(spot, {overlay, overlay_pitch}, {(u8*)frame, frame_pitch}, tints, d.label);
#elif OVERLAY == 2
  paint_luma(spot, {overlay, overlay_pitch}, {(u8*)frame, frame_pitch}, tints, d.label);
  paint_chroma(spot, {overlay_uv, overlay_uv_pitch}, {(u8*)frame_uv, frame_uv_pitch}, tints,
               d.label);
#endif
#if CONFIDENCE
  float value[2][4];
#pragma unroll
  for (int k = 0; k < 8; k++) {
    const int r = k >> 2, i = k & 3;
    value[r][i] = CONFIDENCE == 1 ? 1.0f / d.other[r][i] : d.best[r][i] - d.other[r][i];
#if SEEN
    if (!seen[r][i]) value[r][i] = 0.0f;
#endif
  }
  write_confidence(spot, {confidence, confidence_pitch}, value);
#endif
#if COUNT
  count_labels(spot, counts, d.label);
  __syncthreads();
  for (int c = threadIdx.x; c < CLASSES; c += 256) {
    if (counts[c] != 0) atomicAdd(&class_pixels[c], (u64)counts[c]);
  }
#endif
}
