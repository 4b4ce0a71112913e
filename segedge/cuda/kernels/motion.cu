// Logits of one key frame or two, carried along fields of motion onto a finer grid; see
// segedge/reference/motion.py. Behind common.cu and logits.cu.
//
// One thread a carried point: where it was is worked out once a key, in double (far points would
// lose their fractions), then every channel is read there. Neighbouring threads read neighbouring
// points. Bytes: 8 corners a channel and point, nearly all from L1 or L2, and 4 out: for
// 19 x 127 x 255 float32 from two keys 2.5 MB out and 2.5 MB in.

#define MOST_LEVELS 255.0

struct Axis {
  double scale, offset;  // grid points from pixels of the frame
  int points;            // of the key's grid
  int pixels;            // of the frame
  int blocks;            // of the field
};

// Position on the key's grid of a carried point, and its pixel of the frame.
DEVICE double pixel_of(int point, const Axis& axis) {
  const double position = (double)point / FINER;
  return axis.scale == 0.0 ? 0.0 : (position - axis.offset) / axis.scale;
}

struct Between {
  int low, high;
  double share;
};

DEVICE Between blocks_at(double pixel, const Axis& axis) {
  double at = (pixel + 0.5) * axis.blocks / axis.pixels - 0.5;
  at = at < 0.0 ? 0.0 : at > axis.blocks - 1.0 ? axis.blocks - 1.0 : at;
  const int low = (int)at;
  return {low, least(low + 1, axis.blocks - 1), at - low};
}

// A displacement, cut where it leaves the frame; NaN counts as one up or left.
DEVICE double inside(double move, double pixel, int pixels) {
  const double lowest = pixel > 0.0 ? -pixel : 0.0;
  const double highest = pixel < pixels - 1.0 ? pixels - 1.0 - pixel : 0.0;
  move = move > lowest ? move : lowest;
  return move < highest ? move : highest;
}

DEVICE double bilinear(const float* values, int step, int row, const Between& y, const Between& x) {
  const double a = values[y.low * row + x.low * step], b = values[y.low * row + x.high * step];
  const double c = values[y.high * row + x.low * step], d = values[y.high * row + x.high * step];
  const double left = a + (c - a) * y.share, right = b + (d - b) * y.share;
  return left + (right - left) * x.share;
}

struct Place {
  Cell cell;
  float down, across;
  double weight;
};

DEVICE double on_grid(int point, double move, const Axis& axis) {
  const double at = (double)point / FINER + axis.scale * move;
  return at < 0.0 ? 0.0 : at > axis.points - 1.0 ? axis.points - 1.0 : at;
}

DEVICE Place place_of(int y, int x, const float* displacement, const float* residual,
                      double nearness, const Axis& rows, const Axis& columns) {
  const double pixel_y = pixel_of(y, rows), pixel_x = pixel_of(x, columns);
  const Between down = blocks_at(pixel_y, rows), across = blocks_at(pixel_x, columns);
  const int row = 2 * columns.blocks;
  const double move_x = inside(bilinear(displacement, 2, row, down, across), pixel_x,
                               columns.pixels);
  const double move_y = inside(bilinear(displacement + 1, 2, row, down, across), pixel_y,
                               rows.pixels);
  double left_over = bilinear(residual, 1, columns.blocks, down, across);
  left_over = left_over > 0.0 ? left_over : 0.0;  // NaN is not
  left_over = left_over < MOST_LEVELS ? left_over : MOST_LEVELS;
  const double at_y = on_grid(y, move_y, rows), at_x = on_grid(x, move_x, columns);
  const int top = (int)at_y, left = (int)at_x;
  Place place;
  place.cell = cell_at(top, left, rows.points, columns.points);
  place.down = (float)(at_y - top);
  place.across = (float)(at_x - left);
  place.weight = nearness / (left_over + LEAST_RESIDUAL);
  return place;
}

DEVICE float read_at(const logit_t* logits, const Place& place, int channel, int plane) {
#if NHWC
  const logit_t* base = logits + channel;
#else
  const logit_t* base = logits + (i64)channel * plane;
#endif
  float v[4];
#pragma unroll
  for (int k = 0; k < 4; k++) v[k] = finite_logit(raw_logit(base + place.cell.at[k]));
  const float above = v[0] + (v[1] - v[0]) * place.across;
  const float below = v[2] + (v[3] - v[2]) * place.across;
  return above + (below - above) * place.down;
}

extern "C" __global__ void __launch_bounds__(256)
    carry_logits(const logit_t* __restrict__ first, const float* first_displacement,
                 const float* first_residual, float first_nearness,
                 const logit_t* __restrict__ second, const float* second_displacement,
                 const float* second_residual, float second_nearness, int grid_height,
                 int grid_width, int frame_height, int frame_width, int block_rows,
                 int block_columns, int second_rows, int second_columns, double scale_y,
                 double offset_y, double scale_x, double offset_x, float* __restrict__ out) {
  const int height = FINER * (grid_height - 1) + 1, width = FINER * (grid_width - 1) + 1;
  const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
  if (x >= width || y >= height) return;
  const int plane = grid_height * grid_width, points = height * width;
  const Axis rows = {scale_y, offset_y, grid_height, frame_height, block_rows};
  const Axis columns = {scale_x, offset_x, grid_width, frame_width, block_columns};
  const Place one = place_of(y, x, first_displacement, first_residual, first_nearness, rows,
                             columns);
  const int point = y * width + x;
  if (second == nullptr) {
    for (int c = 0; c < CHANNELS; c++) {
      out[NHWC ? (i64)point * CHANNELS + c : (i64)c * points + point] =
          read_at(first, one, c, plane);
    }
    return;
  }
  const Axis other_rows = {scale_y, offset_y, grid_height, frame_height, second_rows};
  const Axis other_columns = {scale_x, offset_x, grid_width, frame_width, second_columns};
  const Place two = place_of(y, x, second_displacement, second_residual, second_nearness,
                             other_rows, other_columns);
  const float share = (float)(two.weight / (one.weight + two.weight));
  for (int c = 0; c < CHANNELS; c++) {
    const float here = read_at(first, one, c, plane), there = read_at(second, two, c, plane);
    out[NHWC ? (i64)point * CHANNELS + c : (i64)c * points + point] =
        here + share * (there - here);
  }
}
