// First pass of the tail: what can happen inside each cell of the logit grid.
//
// A cell is the square between four neighbouring grid points; bilinear interpolation inside is a
// convex combination of these corners. So
//   - a class that wins at all four corners wins everywhere: the cell is *uniform*, its code is the
//     label;
//   - in a *mixed* cell a class whose corners are all at or below those of one class that wins at
//     some corner can never win alone. The others, two or three of 19 in practice, are the
//     contenders: one bit each in the cell's mask. (The test "largest corner below the largest of
//     the smallest corners" is implied by this one.)
// Where confidence is asked for, the mask holds every class that can matter to it instead
// (RULE 1: probability, 2: margin), and a cell is uniform where that is a single class.
//
// Bytes: the logits once from memory (2.5 MB for 19 x 128 x 256 float32, the other three reads of
// each value hit L1), 2 + 4 * MASK_WORDS bytes a cell out. The classes are shared by SLICES threads
// a cell, because a grid has too few cells to fill a GPU and too many classes to wait for in turn.
//
// CELLS x SLICES threads; grid.x = ceil(cells in a row / CELLS), grid.y = rows of cells.

#ifndef RULE
#define RULE 0
#endif
#define NEGLIGIBLE 17.0f  // exp(-17): below 5e-8 of the winner, as in the CPU twin

#if NHWC
#define SLICE_INDEX threadIdx.x
#define CELL_INDEX threadIdx.y
#else
#define SLICE_INDEX threadIdx.y
#define CELL_INDEX threadIdx.x
#endif
#define TURNS ((CLASSES + SLICES - 1) / SLICES)

DEVICE float lowest_of(const Corners& c) {
  return fminf(fminf(c.v[0], c.v[1]), fminf(c.v[2], c.v[3]));
}

DEVICE float highest_of(const Corners& c) {
  return fmaxf(fmaxf(c.v[0], c.v[1]), fmaxf(c.v[2], c.v[3]));
}

DEVICE bool is_dominated(const Corners& c, const Corners& by) {
  return by.v[0] >= c.v[0] && by.v[1] >= c.v[1] && by.v[2] >= c.v[2] && by.v[3] >= c.v[3];
}

DEVICE void zero_counts(u64* class_pixels) {
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  if (class_pixels == nullptr || blockIdx.x != 0 || blockIdx.y != 0) return;
  for (int c = thread; c < CLASSES; c += blockDim.x * blockDim.y) class_pixels[c] = 0;
}

extern "C" __global__ void __launch_bounds__(CELLS* SLICES)
    tail_cells(const logit_t* __restrict__ logits, int grid_height, int grid_width, u16* codes,
               u32* masks, u64* class_pixels) {
  __shared__ float best_value[SLICES][4][CELLS];
  __shared__ int best_label[SLICES][4][CELLS];
  __shared__ int winners[4][CELLS];
  __shared__ u32 mask[CELLS][MASK_WORDS];
#if RULE
  __shared__ float highest_low[SLICES][CELLS], second_low[SLICES][CELLS];
  float first = LOWEST_LOGIT, second = LOWEST_LOGIT;
#endif
  const int slice = SLICE_INDEX, mine = CELL_INDEX;
  const int cells_x = most(grid_width - 1, 1), plane = grid_height * grid_width;
  const int column = blockIdx.x * CELLS + mine, row = blockIdx.y;
  // Threads beyond the row repeat its last cell, so that all of them reach the barriers.
  const Cell cell = cell_at(row, least(column, cells_x - 1), grid_height, grid_width);
  zero_counts(class_pixels);

  float best[4] = {LOWEST_LOGIT, LOWEST_LOGIT, LOWEST_LOGIT, LOWEST_LOGIT};
  int label[4] = {0, 0, 0, 0};
#pragma unroll 4
  for (int turn = 0; turn < TURNS; turn++) {
    const int c = turn * SLICES + slice;
    if (c >= CLASSES) break;
    const Corners corners = corners_of(logits, cell, c, plane);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      if (corners.v[k] > best[k]) best[k] = corners.v[k], label[k] = c;
    }
#if RULE
    const float low = lowest_of(corners);
    second = fmaxf(second, fminf(first, low));
    first = fmaxf(first, low);
#endif
  }
#pragma unroll
  for (int k = 0; k < 4; k++) {
    best_value[slice][k][mine] = best[k];
    best_label[slice][k][mine] = label[k];
  }
#if RULE
  highest_low[slice][mine] = first;
  second_low[slice][mine] = second;
#endif
  for (int w = slice; w < MASK_WORDS; w += SLICES) mask[mine][w] = 0;
  __syncthreads();

  for (int k = slice; k < 4; k += SLICES) {  // one slice a corner; the lowest label wins a tie
    float value = best_value[0][k][mine];
    int winner = best_label[0][k][mine];
#pragma unroll
    for (int s = 1; s < SLICES; s++) {
      const float other = best_value[s][k][mine];
      const int rival = best_label[s][k][mine];
      if (other > value || (other == value && rival < winner)) value = other, winner = rival;
    }
    winners[k][mine] = winner;
  }
#if RULE
  first = highest_low[0][mine], second = second_low[0][mine];
  for (int s = 1; s < SLICES; s++) {
    second = fmaxf(fmaxf(second, second_low[s][mine]), fminf(first, highest_low[s][mine]));
    first = fmaxf(first, highest_low[s][mine]);
  }
#endif
  __syncthreads();

  int winner[4];
#pragma unroll
  for (int k = 0; k < 4; k++) winner[k] = winners[k][mine];
  bool uniform = winner[0] == winner[1] && winner[0] == winner[2] && winner[0] == winner[3];
#if RULE
  const float floor_logit = RULE == 1 ? first - NEGLIGIBLE : second;
#pragma unroll 4
  for (int c = slice; c < CLASSES; c += SLICES) {
    if (highest_of(corners_of(logits, cell, c, plane)) >= floor_logit) {
      atomicOr(&mask[mine][c >> 5], 1u << (c & 31));
    }
  }
#else
  if (!uniform) {
    Corners rivals[4];
#pragma unroll
    for (int k = 0; k < 4; k++) rivals[k] = corners_of(logits, cell, winner[k], plane);
    for (int c = slice; c < CLASSES; c += SLICES) {
      bool keep = c == winner[0] || c == winner[1] || c == winner[2] || c == winner[3];
      if (!keep) {
        const Corners corners = corners_of(logits, cell, c, plane);
        keep = !is_dominated(corners, rivals[0]) && !is_dominated(corners, rivals[1]) &&
               !is_dominated(corners, rivals[2]) && !is_dominated(corners, rivals[3]);
      }
      if (keep) atomicOr(&mask[mine][c >> 5], 1u << (c & 31));
    }
  }
#endif
  __syncthreads();

  if (column >= cells_x) return;
  const int index = row * cells_x + column;
#if RULE
  int contenders = 0;
  for (int w = 0; w < MASK_WORDS; w++) contenders += __popc(mask[mine][w]);
  uniform = uniform && contenders == 1;
#endif
  if (slice == 0) codes[index] = uniform ? (u16)winner[0] : (u16)MIXED;
  if (uniform) return;
  for (int w = slice; w < MASK_WORDS; w += SLICES) masks[index * MASK_WORDS + w] = mask[mine][w];
}

// Argmax at each grid point, for frames whose pixels are exactly the grid points (stride 1): then
// nothing is interpolated. CELLS threads a block, a thread a grid point.
extern "C" __global__ void __launch_bounds__(256)
    tail_points(const logit_t* __restrict__ logits, int points, u16* codes, u64* class_pixels) {
  const int point = blockIdx.x * 256 + threadIdx.x;
  zero_counts(class_pixels);
  if (point >= points) return;
  float best = SIGMOID ? 0.0f : LOWEST_LOGIT;
  int label = 0;
#pragma unroll 8
  for (int c = 0; c < CHANNELS; c++) {
    const i64 at = NHWC ? (i64)point * CHANNELS + c : (i64)c * points + point;
    const float value = finite_logit(raw_logit(logits + at));
    if (value > best) best = value, label = SIGMOID ? 1 : c;
  }
  codes[point] = (u16)label;
}

// For networks that give labels there is no first pass; this only prepares the pixel counts.
extern "C" __global__ void __launch_bounds__(256) tail_zero(u64* class_pixels) {
  zero_counts(class_pixels);
}
