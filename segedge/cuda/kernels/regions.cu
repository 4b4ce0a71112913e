// Cleaning of label maps: majority filter, regions by union-find, small ones and holes given to
// their neighbours; the rules and the order are those of segedge/reference/regions.py. Behind
// common.cu.
//
// LABEL  type of the labels: u8 or u16
//
// Nothing waits for the host. A region is known by its first pixel, row by row: the root of its
// union-find tree, as every union points to the lower index (Playne and Hawick, "A New Algorithm for
// Parallel Connected-Component Labelling on GPUs", 2018). A block unites a tile in shared memory;
// only the pixels along the seams between tiles are united in global memory. Each region that is to be given away has a
// hash table of its neighbours with their common borders, as large as it has sides towards others;
// the tables lie one behind the other. Joining goes in rounds until nothing changes, so its kernel
// is a single block.

#define NOBODY -1     // no label yet: to be given away; in a table: a free place
#define NO_LABEL 0x7fffffff
#define TILE 32  // side of what a block unites in shared memory; as in regions.py

DEVICE int at_once(const int* at) { return *(const volatile int*)at; }

DEVICE int root_of(const int* parents, int pixel) {
  int parent = at_once(parents + pixel);
  while (parent != pixel) {
    pixel = parent;
    parent = at_once(parents + pixel);
  }
  return pixel;
}

DEVICE void unite(int* parents, int a, int b) {
  while (true) {
    a = root_of(parents, a);
    b = root_of(parents, b);
    if (a == b) return;
    const int high = most(a, b), low = least(a, b);
    const int before = atomicMin(parents + high, low);
    if (before == high) return;
    a = before, b = low;  // somebody else was faster: that tree belongs here, too
  }
}

// The label most frequent around each pixel: its own wins a tie, else the smallest.
extern "C" __global__ void __launch_bounds__(256)
    majority_labels(const LABEL* __restrict__ labels, LABEL* out, int height, int width,
                    int reach) {
  const int pixel = blockIdx.x * 256 + threadIdx.x;
  if (pixel >= height * width) return;
  const int y = pixel / width, x = pixel % width;
  const int top = most(y - reach, 0), bottom = least(y + reach, height - 1);
  const int left = most(x - reach, 0), right = least(x + reach, width - 1);
  const int own = labels[pixel];
  int best = own, count = 0, others = 0;
  for (int row = top; row <= bottom; row++) {
    for (int column = left; column <= right; column++) {
      if (labels[row * width + column] == own) count++;
      else others++;
    }
  }
  if (others > count) {  // within a region nothing more is to be done
    // One label after the other, upwards: each pass finds the next larger one and counts this one.
    int label = NO_LABEL, after = 0;
    for (int row = top; row <= bottom; row++) {
      for (int column = left; column <= right; column++) {
        label = least(label, labels[row * width + column]);
      }
    }
    while (label != NO_LABEL) {
      int found = 0;
      after = NO_LABEL;
      for (int row = top; row <= bottom; row++) {
        for (int column = left; column <= right; column++) {
          const int value = labels[row * width + column];
          if (value == label) found++;
          else if (value > label) after = least(after, value);
        }
      }
      if (found > count) count = found, best = label;
      label = after;
    }
  }
  out[pixel] = (LABEL)best;
}

// Union-find within a tile, in shared memory, and what the launches behind this one start from. Rows
// of a tile lie in the order of the map's, so that a tree's root is its first pixel here and there.
extern "C" __global__ void __launch_bounds__(256)
    region_tiles(const LABEL* __restrict__ labels, int* parents, u32* areas, int* lowest,
                 int* highest, int* edges, int* totals, int height, int width, int connectivity) {
  __shared__ int tree[TILE * TILE], here[TILE * TILE];
  const int across = (width + TILE - 1) / TILE;
  const int left = blockIdx.x % across * TILE, top = blockIdx.x / across * TILE;
  if (blockIdx.x == 0 && threadIdx.x < 2) totals[threadIdx.x] = 0;
  for (int place = threadIdx.x; place < TILE * TILE; place += 256) {
    const int y = top + place / TILE, x = left + place % TILE;
    here[place] = y < height && x < width ? (int)labels[y * width + x] : NOBODY;
  }
  __syncthreads();
  for (int place = threadIdx.x; place < TILE * TILE; place += 256) {
    const bool goes_on = place % TILE > 0 && here[place - 1] == here[place];
    tree[place] = goes_on ? place - 1 : place;
  }
  __syncthreads();
  for (int place = threadIdx.x; place < TILE * TILE; place += 256) {
    const int x = place % TILE, label = here[place];
    if (label == NOBODY || place < TILE) continue;
    const bool before = x > 0 && here[place - 1] == label;
    const bool above = here[place - TILE] == label;
    const bool corner = x > 0 && here[place - TILE - 1] == label;
    // Where left, corner and above are one label, the three are united without this pixel.
    if (above && !(before && corner)) unite(tree, place, place - TILE);
    if (connectivity != 8 || above) continue;
    if (corner && !before) unite(tree, place, place - TILE - 1);
    if (x + 1 < TILE && here[place - TILE + 1] == label) unite(tree, place, place - TILE + 1);
  }
  __syncthreads();
  for (int place = threadIdx.x; place < TILE * TILE; place += 256) {
    if (here[place] == NOBODY) continue;
    const int root = root_of(tree, place);
    const int pixel = (top + place / TILE) * width + left + place % TILE;
    parents[pixel] = (top + root / TILE) * width + left + root % TILE;
    areas[pixel] = 0;
    lowest[pixel] = NO_LABEL;
    highest[pixel] = NOBODY;
    edges[pixel] = 0;
  }
}

DEVICE void unite_alike(const LABEL* labels, int* parents, int a, int b) {
  if (labels[a] == labels[b]) unite(parents, a, b);
}

// The trees of tiles beside and below each other: first along the upright seams, then the level ones.
extern "C" __global__ void __launch_bounds__(256)
    region_seams(const LABEL* __restrict__ labels, int* parents, int height, int width,
                 int connectivity) {
  const int upright = (width - 1) / TILE * height, level = (height - 1) / TILE * width;
  const int k = blockIdx.x * 256 + threadIdx.x;
  if (k >= upright + level) return;
  if (k < upright) {  // a pixel right of a seam, and the one left of it
    const int y = k % height, x = (k / height + 1) * TILE, pixel = y * width + x;
    unite_alike(labels, parents, pixel, pixel - 1);
    if (connectivity != 8 || y == 0) return;
    unite_alike(labels, parents, pixel, pixel - width - 1);
    unite_alike(labels, parents, pixel - 1, pixel - width);
    return;
  }
  const int x = (k - upright) % width, y = ((k - upright) / width + 1) * TILE;
  const int pixel = y * width + x, label = labels[pixel];
  const bool above = labels[pixel - width] == label;
  const bool before = x > 0 && labels[pixel - 1] == label;
  const bool corner = x > 0 && labels[pixel - width - 1] == label;
  if (above && !(before && corner)) unite(parents, pixel, pixel - width);
  if (connectivity != 8 || above) return;
  if (corner && !before) unite(parents, pixel, pixel - width - 1);
  if (x + 1 < width) unite_alike(labels, parents, pixel, pixel - width + 1);
}

// Flat trees; areas from the ends of runs, modulo 2^32: a run has its end less its start.
extern "C" __global__ void __launch_bounds__(256)
    region_measure(const LABEL* __restrict__ labels, int* parents, u32* areas, int* edges,
                   int height, int width) {
  const int pixel = blockIdx.x * 256 + threadIdx.x;
  if (pixel >= height * width) return;
  const int y = pixel / width, x = pixel % width, label = labels[pixel];
  const int root = root_of(parents, pixel);
  atomicMin(parents + pixel, root);
  const bool starts = x == 0 || labels[pixel - 1] != label;
  const bool ends = x == width - 1 || labels[pixel + 1] != label;
  const u32 change = (ends ? (u32)x + 1 : 0u) - (starts ? (u32)x : 0u);
  if (change) atomicAdd(areas + root, change);
  const bool at_edge = y == 0 || y == height - 1 || x == 0 || x == width - 1;
  if (at_edge && (starts || ends)) atomicOr(edges + root, 1);
}

DEVICE bool is_small(const u32* areas, const int* wanted, int classes, int root, int label) {
  return label < classes && areas[root] < (u32)wanted[label];
}

DEVICE void note_around(const u32* areas, const int* wanted, int classes, u32 fill, int* lowest,
                        int* highest, int root, int other, int other_label) {
  if (areas[root] >= fill || is_small(areas, wanted, classes, other, other_label)) return;
  atomicMin(lowest + root, other_label);
  atomicMax(highest + root, other_label);
}

// The labels around each region that may be a hole, those of small neighbours aside.
extern "C" __global__ void __launch_bounds__(256)
    region_around(const LABEL* __restrict__ labels, const int* __restrict__ parents,
                  const u32* __restrict__ areas, const int* __restrict__ wanted, int* lowest,
                  int* highest, int height, int width, int classes, u32 fill) {
  const int pixel = blockIdx.x * 256 + threadIdx.x;
  if (pixel >= height * width) return;
  const int label = labels[pixel], root = parents[pixel];
  for (int side = 0; side < 2; side++) {
    const bool is_there = side ? pixel + width < height * width : pixel % width + 1 < width;
    const int next = pixel + (side ? width : 1);
    if (!is_there || parents[next] == root) continue;
    const int other = parents[next], other_label = labels[next];
    note_around(areas, wanted, classes, fill, lowest, highest, root, other, other_label);
    note_around(areas, wanted, classes, fill, lowest, highest, other, root, label);
  }
}

// The label of each region, or NOBODY where it is to be given away: then it is listed. `lowest`
// becomes the number of its sides, `areas` the label that it takes.
extern "C" __global__ void __launch_bounds__(256)
    region_mark(const LABEL* __restrict__ labels, const int* __restrict__ parents, u32* areas,
                const int* __restrict__ wanted, int* lowest, const int* __restrict__ highest,
                const int* __restrict__ edges, int* settled, int* listed, int* totals, int pixels,
                int classes, u32 fill) {
  const int pixel = blockIdx.x * 256 + threadIdx.x;
  if (pixel >= pixels || parents[pixel] != pixel) return;
  const int label = labels[pixel], around = highest[pixel];
  const bool is_hole = label < classes && areas[pixel] < fill && edges[pixel] == 0 &&
                       around == lowest[pixel] && around >= 0 && around < classes;
  const bool goes = is_hole || is_small(areas, wanted, classes, pixel, label);
  settled[pixel] = goes ? NOBODY : label;
  lowest[pixel] = 0;
  areas[pixel] = (u32)NOBODY;
  if (goes) listed[atomicAdd(totals, 1)] = pixel;
}

// Calls `note` with a listed region and its neighbour for each side of a pixel between them: that to
// the right of this thread's pixel, and that below.
template <class Note>
DEVICE void each_side(const int* parents, const int* settled, int height, int width, Note note) {
  const int pixel = blockIdx.x * 256 + threadIdx.x;
  if (pixel >= height * width) return;
  const int root = parents[pixel];
  for (int side = 0; side < 2; side++) {
    const bool is_there = side ? pixel + width < height * width : pixel % width + 1 < width;
    if (!is_there) continue;
    const int other = parents[pixel + (side ? width : 1)];
    if (other == root) continue;
    if (settled[root] == NOBODY) note(root, other);
    if (settled[other] == NOBODY) note(other, root);
  }
}

extern "C" __global__ void __launch_bounds__(256)
    region_sides(const int* __restrict__ parents, const int* __restrict__ settled, int* sides,
                 int height, int width) {
  each_side(parents, settled, height, width, [&](int root, int) { atomicAdd(sides + root, 1); });
}

// A free table for each listed region; `starts` is where it begins.
extern "C" __global__ void __launch_bounds__(256)
    region_tables(const int* __restrict__ listed, const int* __restrict__ sides, int* starts,
                  int* keys, int* lengths, int* totals) {
  const int count = totals[0];
  for (int k = blockIdx.x * 256 + threadIdx.x; k < count; k += gridDim.x * 256) {
    const int root = listed[k], size = sides[root];
    const int start = atomicAdd(totals + 1, size);
    starts[root] = start;
    for (int place = start; place < start + size; place++) keys[place] = NOBODY, lengths[place] = 0;
  }
}

DEVICE void note_side(const int* sides, const int* starts, int* keys, int* lengths, int root,
                      int other) {
  const int start = starts[root], size = sides[root];
  int place = (int)((u32)other * 2654435769u % (u32)size);
  while (true) {
    const int before = atomicCAS(keys + start + place, NOBODY, other);
    if (before == NOBODY || before == other) break;
    place = place + 1 == size ? 0 : place + 1;
  }
  atomicAdd(lengths + start + place, 1);
}

extern "C" __global__ void __launch_bounds__(256)
    region_borders(const int* __restrict__ parents, const int* __restrict__ settled,
                   const int* __restrict__ sides, const int* __restrict__ starts, int* keys,
                   int* lengths, int height, int width) {
  each_side(parents, settled, height, width, [&](int root, int other) {
    note_side(sides, starts, keys, lengths, root, other);
  });
}

// The settled neighbour with the longest common border, of equal ones the one that comes first;
// its label, or NOBODY.
DEVICE int offer_of(const int* settled, const int* keys, const int* lengths, int start, int size,
                    int classes) {
  int longest = 0, first = NO_LABEL, label = NOBODY;
  for (int place = start; place < start + size; place++) {
    const int other = keys[place];
    if (other == NOBODY) continue;
    const int theirs = settled[other], length = lengths[place];
    if (theirs == NOBODY || theirs >= classes) continue;
    if (length > longest || (length == longest && other < first)) {
      longest = length, first = other, label = theirs;
    }
  }
  return label;
}

// One block: whoever was given away in a round takes in others in the next one.
extern "C" __global__ void __launch_bounds__(256)
    region_join(const int* __restrict__ listed, const int* __restrict__ sides,
                const int* __restrict__ starts, const int* __restrict__ keys,
                const int* __restrict__ lengths, int* settled, int* taken,
                const int* __restrict__ totals, int classes) {
  __shared__ int changed;
  const int count = totals[0];
  while (true) {
    if (threadIdx.x == 0) changed = 0;
    __syncthreads();
    for (int k = threadIdx.x; k < count; k += 256) {
      const int root = listed[k];
      if (settled[root] != NOBODY) continue;
      taken[root] = offer_of(settled, keys, lengths, starts[root], sides[root], classes);
    }
    __syncthreads();
    for (int k = threadIdx.x; k < count; k += 256) {
      const int root = listed[k];
      if (settled[root] != NOBODY || taken[root] == NOBODY) continue;
      settled[root] = taken[root];
      changed = 1;
    }
    __syncthreads();
    const bool goes_on = changed != 0;
    __syncthreads();
    if (!goes_on) return;
  }
}

// What found no neighbour keeps its label.
extern "C" __global__ void __launch_bounds__(256)
    region_write(const LABEL* __restrict__ labels, LABEL* out, const int* __restrict__ parents,
                 const int* __restrict__ settled, int pixels) {
  const int pixel = blockIdx.x * 256 + threadIdx.x;
  if (pixel >= pixels) return;
  const int label = settled[parents[pixel]];
  out[pixel] = label == NOBODY ? labels[pixel] : (LABEL)label;
}
