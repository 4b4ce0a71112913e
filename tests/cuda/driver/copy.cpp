// Copies and fills. What a call may assume about pageable memory is as in CUDA's "API
// synchronization behavior": a source in it is read before the call returns, a target in it is
// written before the call returns; everything else happens in the order of the stream.
#include <cstring>

#include "sim.hpp"

namespace sim {

struct Side {
  CUdeviceptr address;
  std::size_t pitch;
};

static void copy_rows(char* to, std::size_t to_pitch, const char* from, std::size_t from_pitch,
                      std::size_t width, std::size_t height) {
  for (std::size_t y = 0; y < height; y++) {
    std::memmove(to + y * to_pitch, from + y * from_pitch, width);
  }
}

static Place rows(const Side& side, std::size_t width, std::size_t height) {
  return place_of(side.address, height ? (height - 1) * side.pitch + width : 0);
}

static bool are_alive(const Place& to, const Place& from) {
  if (is_alive(to) && is_alive(from)) return true;
  fail(CUDA_ERROR_ILLEGAL_ADDRESS, "memory was freed before the copy that uses it");
  return false;
}

// `waits`: the call is one of those that return when the copy is done.
static CUresult copy(const Side& target, const Side& source, std::size_t width, std::size_t height,
                     CUstream handle, bool waits) {
  if (!width || !height) return CUDA_SUCCESS;
  const Place to = rows(target, width, height), from = rows(source, width, height);
  const Shared<Stream> stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!to.valid || !from.valid) return CUDA_ERROR_INVALID_VALUE;
  const bool is_staged = from.pageable() && !stream->capture;
  count("copies")++;
  count("pageable_copies") += to.pageable() || from.pageable();
  if (is_staged && !to.pageable()) {
    auto staged = std::make_shared<std::vector<char>>(width * height);
    copy_rows(staged->data(), width, from.bytes, source.pitch, width, height);
    const std::size_t pitch = target.pitch;
    return enqueue(handle, 1, {[=] {
      if (are_alive(to, to)) copy_rows(to.bytes, pitch, staged->data(), width, width, height);
    }});
  }
  const CUresult result = enqueue(handle, 1, {[=] {
    if (!are_alive(to, from)) return;
    copy_rows(to.bytes, target.pitch, from.bytes, source.pitch, width, height);
  }});
  if (!result && !stream->capture && (waits || to.pageable())) finish(stream->last);
  return result ? result : (waits ? state().broken : CUDA_SUCCESS);
}

static CUresult copy_flat(CUdeviceptr to, CUdeviceptr from, std::size_t size, CUstream stream,
                          bool waits) {
  return copy({to, size}, {from, size}, size, 1, stream, waits);
}

static CUdeviceptr number(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

static Side side(CUmemorytype type, const void* host, CUdeviceptr device, std::size_t x,
                 std::size_t y, std::size_t pitch) {
  return {(type == CU_MEMORYTYPE_HOST ? number(host) : device) + y * pitch + x, pitch};
}

static CUresult copy_2d(const CUDA_MEMCPY2D* c, CUstream stream, bool waits) {
  const bool fits = c->Height < 2 || (c->srcPitch >= c->WidthInBytes + c->srcXInBytes &&
                                      c->dstPitch >= c->WidthInBytes + c->dstXInBytes);
  if (!fits || c->srcArray || c->dstArray) return CUDA_ERROR_INVALID_VALUE;
  const bool on_device = c->srcMemoryType == 2 && c->dstMemoryType == 2;
  return copy(side(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstXInBytes, c->dstY, c->dstPitch),
              side(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcXInBytes, c->srcY, c->srcPitch),
              c->WidthInBytes, c->Height, stream, waits && !on_device);
}

// A fill does not wait, whichever its name. `unit` bytes of `value` are repeated.
static CUresult fill(CUdeviceptr address, std::size_t pitch, unsigned value, std::size_t unit,
                     std::size_t columns, std::size_t height, CUstream stream) {
  if (!columns || !height) return CUDA_SUCCESS;
  const Place to = rows({address, pitch}, columns * unit, height);
  if (!to.valid || to.pageable() || address % unit) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(stream, 2, {[=] {
    if (!are_alive(to, to)) return;
    for (std::size_t y = 0; y < height; y++) {
      for (std::size_t x = 0; x < columns; x++) {
        std::memcpy(to.bytes + y * pitch + x * unit, &value, unit);
      }
    }
  }});
}

}  // namespace sim

using namespace sim;
static CUstream const LEGACY = nullptr;

API cuMemcpy(CUdeviceptr to, CUdeviceptr from, std::size_t size) {
  CALL(CONTEXT | UNSAFE) { return copy_flat(to, from, size, LEGACY, true); });
}
API cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t size) {
  CALL(CONTEXT | UNSAFE) { return copy_flat(to, number(from), size, LEGACY, true); });
}
API cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t size) {
  CALL(CONTEXT | UNSAFE) { return copy_flat(number(to), from, size, LEGACY, true); });
}
API cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, std::size_t size) {
  CALL(CONTEXT | UNSAFE) { return copy_flat(to, from, size, LEGACY, false); });
}
API cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, std::size_t size, CUstream stream) {
  CALL(CONTEXT) { return copy_flat(to, from, size, stream, false); });
}
API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t size, CUstream stream) {
  CALL(CONTEXT) { return copy_flat(to, number(from), size, stream, false); });
}
API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t size, CUstream stream) {
  CALL(CONTEXT) { return copy_flat(number(to), from, size, stream, false); });
}
API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t size, CUstream stream) {
  CALL(CONTEXT) { return copy_flat(to, from, size, stream, false); });
}
API cuMemcpyPeer(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, std::size_t size) {
  CALL(CONTEXT | UNSAFE) { return copy_flat(to, from, size, LEGACY, false); });
}
API cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, std::size_t size,
                      CUstream stream) {
  CALL(CONTEXT) { return copy_flat(to, from, size, stream, false); });
}
API cuMemcpy2D_v2(const CUDA_MEMCPY2D* what) {
  CALL(CONTEXT | UNSAFE) { return copy_2d(what, LEGACY, true); });
}
API cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* what) { return cuMemcpy2D_v2(what); }
API cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* what, CUstream stream) {
  CALL(CONTEXT) { return copy_2d(what, stream, false); });
}

#define FILLS(bits, type)                                                                         \
  API cuMemsetD##bits##_v2(CUdeviceptr to, type value, std::size_t size) {                        \
    CALL(CONTEXT | UNSAFE) { return fill(to, 0, value, bits / 8, size, 1, LEGACY); });            \
  }                                                                                               \
  API cuMemsetD##bits##Async(CUdeviceptr to, type value, std::size_t size, CUstream stream) {     \
    CALL(CONTEXT) { return fill(to, 0, value, bits / 8, size, 1, stream); });                     \
  }                                                                                               \
  API cuMemsetD2D##bits##_v2(CUdeviceptr to, std::size_t pitch, type value, std::size_t width,    \
                             std::size_t height) {                                                \
    CALL(CONTEXT | UNSAFE) { return fill(to, pitch, value, bits / 8, width, height, LEGACY); });  \
  }                                                                                               \
  API cuMemsetD2D##bits##Async(CUdeviceptr to, std::size_t pitch, type value, std::size_t width,  \
                               std::size_t height, CUstream stream) {                             \
    CALL(CONTEXT) { return fill(to, pitch, value, bits / 8, width, height, stream); });           \
  }
FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned)
