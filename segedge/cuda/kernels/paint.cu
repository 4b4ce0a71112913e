// Turning the labels of a thread's 4 x 2 pixels into bytes.
//
// A warp covers a *patch* of 32 x 8 pixels: 8 lanes across, 4 down, each lane 4 x 2 pixels. A row of
// the patch is 32 bytes of labels (one DRAM sector), 96 bytes of BGR (three), 128 of confidence.
//
// TYPE_LABELS  0: none, 1: uint8, 2: uint16       OVERLAY     0: none, 1: BGR, 2: NV12
// CONFIDENCE   0: none, 1: probability, 2: margin COUNT       1: pixels per class
// ALIGNED      1: all rows start where vectors may (labels 8, BGR 8, NV12 4, confidence 16 bytes)

#define PATCH_WIDTH 32
#define PATCH_HEIGHT 8
#define STAGE_WORDS 224  // 4 lane rows x 2 x 24 words, padded to 56 a lane row: no bank conflicts

#if TYPE_LABELS == 2
typedef u16 label_t;
#else
typedef u8 label_t;
#endif

struct Image {  // rows of bytes; `pitch` bytes from one to the next
  u8* data;
  i64 pitch;
};

struct Spot {  // where a thread's pixels are
  int x, y;    // upper left one
  int width, height;
};

DEVICE bool is_inside(const Spot& s, int r, int i) { return s.y + r < s.height && s.x + i < s.width; }

// Blending is (frame * weight + tint) >> 8 with weight = 256 - q and tint = q * colour + 128, as in
// the CPU twin: 16 bits are enough, so two channels share a 32-bit multiplication.
// tint.x: first channel | third << 16; tint.y: second channel | weight << 16.
// For BGR that is B, R, G; for NV12 U, V, Y.
DEVICE u32 blend_pair(u32 pair, uint2 tint) {
  return ((pair * (tint.y >> 16) + tint.x) >> 8) & 0x00ff00ffu;
}

DEVICE u32 blend_single(u32 value, uint2 tint) {
  return (value * (tint.y >> 16) + (tint.y & 0xffffu)) >> 8;
}

DEVICE uint2 tint_of(const uint2* tints, int label) { return tints[least(label, CLASSES)]; }

// Four BGR pixels in three words: B0 G0 R0 B1 | G1 R1 B2 G2 | R2 B3 G3 R3.
DEVICE void blend_words(u32* words, const uint2* tints, const int* label) {
  const uint2 t0 = tint_of(tints, label[0]), t1 = tint_of(tints, label[1]);
  const uint2 t2 = tint_of(tints, label[2]), t3 = tint_of(tints, label[3]);
  const u32 w0 = words[0], w1 = words[1], w2 = words[2], low = 0x00ff00ffu;
  const u32 p0 = blend_pair(w0 & low, t0), g0 = blend_single((w0 >> 8) & 255u, t0);
  const u32 p1 = blend_pair(__byte_perm(w0, w1, 0x0503) & low, t1);
  const u32 g1 = blend_single(w1 & 255u, t1);
  const u32 p2 = blend_pair(__byte_perm(w1, w2, 0x0402) & low, t2);
  const u32 g2 = blend_single(w1 >> 24, t2);
  const u32 p3 = blend_pair(__byte_perm(w2, w2, 0x0301) & low, t3);
  const u32 g3 = blend_single((w2 >> 16) & 255u, t3);
  words[0] = p0 | (g0 << 8) | (p1 << 24);
  words[1] = g1 | ((p1 >> 16) << 8) | ((p2 & 255u) << 16) | (g2 << 24);
  words[2] = (p2 >> 16) | ((p3 & 255u) << 8) | (g3 << 16) | ((p3 >> 16) << 24);
}

DEVICE void blend_pixel(u8* out, const u8* in, uint2 tint) {
  const u32 pair = blend_pair(in[0] | ((u32)in[2] << 16), tint);
  out[0] = (u8)pair;
  out[1] = (u8)blend_single(in[1], tint);
  out[2] = (u8)(pair >> 16);
}

// --- BGR through shared memory: lanes own 12-byte pieces, but load and store whole sectors -------

struct Patch {  // 192 words of a 32 x 8 patch of BGR pixels, in the order of memory
  uint2 part[3];
};

DEVICE i64 piece_at(int lane, int k, i64 pitch) {  // byte offset of a lane's k-th 8-byte piece
  const int piece = k * 32 + lane;
  return (piece / 12) * pitch + (piece % 12) * 8;
}

DEVICE u32* stage_of_piece(u32* stage, int lane, int k) {
  const int piece = k * 32 + lane, row = piece / 12;
  return stage + (row >> 1) * 56 + (row & 1) * 24 + (piece % 12) * 2;
}

DEVICE Patch load_patch(const u8* corner, i64 pitch, int lane) {
  Patch patch;
#pragma unroll
  for (int k = 0; k < 3; k++) patch.part[k] = *(const uint2*)(corner + piece_at(lane, k, pitch));
  return patch;
}

DEVICE void paint_patch(Patch patch, u8* corner, i64 pitch, int lane, u32* stage,
                        const uint2* tints, const int (*label)[4]) {
#pragma unroll
  for (int k = 0; k < 3; k++) *(uint2*)stage_of_piece(stage, lane, k) = patch.part[k];
  __syncwarp();
  u32* own = stage + (lane >> 3) * 56 + (lane & 7) * 3;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    u32 words[3] = {own[24 * r], own[24 * r + 1], own[24 * r + 2]};
    blend_words(words, tints, label[r]);
#pragma unroll
    for (int k = 0; k < 3; k++) own[24 * r + k] = words[k];
  }
  __syncwarp();
#pragma unroll
  for (int k = 0; k < 3; k++) {
    *(uint2*)(corner + piece_at(lane, k, pitch)) = *(const uint2*)stage_of_piece(stage, lane, k);
  }
}

DEVICE void paint_pixels(const Spot& s, Image out, Image in, const uint2* tints,
                         const int (*label)[4]) {  // the slow way: borders, odd pitches
  for (int r = 0; r < 2; r++) {
    for (int i = 0; i < 4; i++) {
      if (!is_inside(s, r, i)) continue;
      const i64 x = 3 * (s.x + i), y = s.y + r;
      blend_pixel(out.data + y * out.pitch + x, in.data + y * in.pitch + x,
                  tint_of(tints, label[r][i]));
    }
  }
}

// --- NV12: luma like a channel; chroma the mean of its four pixels' blends ----------------------

DEVICE void paint_luma(const Spot& s, Image out, Image in, const uint2* tints,
                       const int (*label)[4]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (!is_inside(s, r, 0)) return;
    const u8* from = in.data + (s.y + r) * in.pitch + s.x;
    u8* to = out.data + (s.y + r) * out.pitch + s.x;
    if (ALIGNED && is_inside(s, r, 3)) {
      const u32 four = *(const u32*)from;
      u32 result = 0;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        result |= blend_single((four >> (8 * i)) & 255u, tint_of(tints, label[r][i])) << (8 * i);
      }
      *(u32*)to = result;
      continue;
    }
    for (int i = 0; i < 4 && is_inside(s, r, i); i++) {
      to[i] = (u8)blend_single(from[i], tint_of(tints, label[r][i]));
    }
  }
}

DEVICE u32 blend_chroma(u32 pair, const uint2* tints, const int (*label)[4], int i) {
  u32 weight = 0, u = 0, v = 0;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    const uint2 tint = tint_of(tints, label[k >> 1][i + (k & 1)]);
    weight += tint.y >> 16, u += tint.x & 0xffffu, v += tint.x >> 16;
  }
  return (((pair & 255u) * weight + u) >> 10) | ((((pair >> 8) * weight + v) >> 10) << 8);
}

DEVICE void paint_chroma(const Spot& s, Image out, Image in, const uint2* tints,
                         const int (*label)[4]) {  // sizes are even: a pair is in or out
  if (!is_inside(s, 0, 0)) return;
  const u8* from = in.data + (s.y >> 1) * in.pitch + s.x;
  u8* to = out.data + (s.y >> 1) * out.pitch + s.x;
  if (ALIGNED && is_inside(s, 0, 3)) {
    const u32 both = *(const u32*)from;
    *(u32*)to = blend_chroma(both & 0xffffu, tints, label, 0) |
                (blend_chroma(both >> 16, tints, label, 2) << 16);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    if (!is_inside(s, 0, i)) return;
    const u32 pair = blend_chroma(from[i] | ((u32)from[i + 1] << 8), tints, label, i);
    to[i] = (u8)pair, to[i + 1] = (u8)(pair >> 8);
  }
}

// --- labels, confidence, counts -----------------------------------------------------------------

DEVICE void write_labels(const Spot& s, Image out, const int (*label)[4]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (!is_inside(s, r, 0)) return;
    label_t* to = (label_t*)(out.data + (s.y + r) * out.pitch) + s.x;
    const int* l = label[r];
    if (ALIGNED && is_inside(s, r, 3)) {
#if TYPE_LABELS == 2
      uint2 both;
      both.x = (u32)l[0] | ((u32)l[1] << 16), both.y = (u32)l[2] | ((u32)l[3] << 16);
      *(uint2*)to = both;
#else
      *(u32*)to = (u32)l[0] | ((u32)l[1] << 8) | ((u32)l[2] << 16) | ((u32)l[3] << 24);
#endif
      continue;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (is_inside(s, r, i)) to[i] = (label_t)l[i];
    }
  }
}

DEVICE void write_confidence(const Spot& s, Image out, const float (*value)[4]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (!is_inside(s, r, 0)) return;
    float* to = (float*)(out.data + (s.y + r) * out.pitch) + s.x;
    if (ALIGNED && is_inside(s, r, 3)) {
      *(float4*)to = float4{value[r][0], value[r][1], value[r][2], value[r][3]};
      continue;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (is_inside(s, r, i)) to[i] = value[r][i];
    }
  }
}

DEVICE void count_labels(const Spot& s, u32* counts, const int (*label)[4]) {
  int run = -1;
  u32 length = 0;  // consecutive equal labels are added at once: eight, as a rule
#pragma unroll
  for (int k = 0; k < 8; k++) {
    const int r = k >> 2, i = k & 3;
    if (!is_inside(s, r, i)) continue;
    if (label[r][i] != run) {
      if (length > 0 && run < CLASSES) atomicAdd(&counts[run], length);
      run = label[r][i], length = 0;
    }
    length++;
  }
  if (length > 0 && run < CLASSES) atomicAdd(&counts[run], length);
}
