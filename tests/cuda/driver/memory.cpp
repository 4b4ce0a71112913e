// Memory: device addresses that the host cannot read, pinned memory that it can.
//
// Device addresses lie in a reserved range without access, so that a host that dereferences one
// crashes as it would with a GPU; the bytes behind them lie at a fixed distance. Addresses are used
// once only, so that work on freed memory is always noticed. New memory reads 0xA5.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "sim.hpp"

namespace sim {

static constexpr std::size_t GUARD = 512, ALIGN = 4096;
static constexpr unsigned char FRESH = 0xA5, STALE = 0xDD, FENCE = 0xFD;
static constexpr std::size_t FILLED = 64 << 20;  // of larger memory only this much is filled
static constexpr std::size_t KEPT = 256 << 20;   // bytes of freed pinned memory that stay readable

// Device memory: `shown` is what callers get, `bytes` what is behind it.
struct Arena {
  char* shown = nullptr;
  char* bytes = nullptr;
  std::size_t size = 0, used = 0;

  Arena() {
    for (std::size_t wanted = 1ull << 40; wanted >= 1ull << 33; wanted /= 2) {
      void* a = reserve(wanted);
      void* b = a == MAP_FAILED ? MAP_FAILED : reserve(wanted);
      if (b != MAP_FAILED) {
        shown = static_cast<char*>(a), bytes = static_cast<char*>(b), size = wanted;
        return;
      }
      if (a != MAP_FAILED) munmap(a, wanted);
    }
  }
  static void* reserve(std::size_t wanted) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    return mmap(nullptr, wanted, PROT_NONE, flags, -1, 0);
  }
  bool holds(CUdeviceptr address) const {
    const auto start = reinterpret_cast<CUdeviceptr>(shown);
    return address >= start && address < start + size;
  }
};
static Arena& arena() {
  static Arena only;
  return only;
}

static std::size_t pages(std::size_t size) {
  return (size + 2 * GUARD + ALIGN - 1) / ALIGN * ALIGN;
}

// Fills a new block and the fences on both sides of it.
static void dress(char* at, std::size_t size) {
  std::memset(at - GUARD, FENCE, GUARD);
  std::memset(at, FRESH, std::min(size, FILLED));
  std::memset(at + size, FENCE, GUARD);
}

static long long in_use() {
  long long sum = 0;
  for (const auto& [base, block] : state().blocks) {
    const bool counts = block.kind == Kind::DEVICE || state().settings.integrated;
    if (counts && block.kind != Kind::REGISTERED) sum += block.size;
  }
  return sum;
}

static CUresult keep(Block block, CUdeviceptr* address) {
  block.context = current(), block.id = state().next_id++;
  *address = block.base;
  state().blocks[block.base] = block;
  return CUDA_SUCCESS;
}

CUresult allocate_device(CUdeviceptr* address, std::size_t size, CUmemoryPool pool) {
  if (!address || size == 0) return CUDA_ERROR_INVALID_VALUE;
  Arena& all = arena();
  const long long free_bytes = state().settings.memory_bytes - in_use();
  const bool fits = static_cast<long long>(size) >= 0 && static_cast<long long>(size) <= free_bytes;
  if (!fits || pages(size) > all.size - all.used) return CUDA_ERROR_OUT_OF_MEMORY;
  char* const start = all.bytes + all.used;
  if (mprotect(start, pages(size), PROT_READ | PROT_WRITE)) return CUDA_ERROR_OUT_OF_MEMORY;
  Block block;
  block.bytes = start + GUARD, block.size = size, block.pool = pool;
  block.base = reinterpret_cast<CUdeviceptr>(all.shown + all.used + GUARD);
  all.used += pages(size);
  dress(block.bytes, size);
  return keep(block, address);
}

static CUresult allocate_host(void** address, std::size_t size, Kind kind, unsigned flags) {
  if (!address || size == 0) return CUDA_ERROR_INVALID_VALUE;
  const long long free_bytes = state().settings.memory_bytes - in_use();
  const bool is_limited = state().settings.integrated || size >> 40;  // else: memory of the host
  if (is_limited && static_cast<long long>(size) > free_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  void* start = std::aligned_alloc(ALIGN, ALIGN + (size + GUARD + ALIGN - 1) / ALIGN * ALIGN);
  if (!start) return CUDA_ERROR_OUT_OF_MEMORY;
  Block block;
  block.bytes = static_cast<char*>(start) + ALIGN, block.size = size;
  block.kind = kind, block.flags = flags;
  block.base = reinterpret_cast<CUdeviceptr>(block.bytes);
  dress(block.bytes, size);
  *address = block.bytes;
  CUdeviceptr same;
  return keep(block, &same);
}

static void check_guard(const Block& block) {
  if (block.kind == Kind::REGISTERED) return;
  const auto* at = reinterpret_cast<const unsigned char*>(block.bytes);
  for (std::size_t i = 0; i < GUARD; i++) {
    const bool after = at[block.size + i] != FENCE;
    if (!after && at[-1 - static_cast<long>(i)] == FENCE) continue;
    std::fprintf(stderr, "simcuda: written %zu bytes %s %zu bytes of memory\n", i + 1,
                 after ? "after" : "before", block.size);
    count("overruns")++;
    dress(block.bytes, 0), std::memset(block.bytes + block.size, FENCE, GUARD);
    return;
  }
}

void check_guards() {
  for (const auto& [base, block] : state().blocks) check_guard(block);
}

// Freed pinned memory stays readable for a while, as garbage: a test that still looks at it fails
// with a wrong value and not with a crash.
static void retire(char* start, std::size_t size) {
  static std::deque<std::pair<char*, std::size_t>> kept;
  static std::size_t sum = 0;
  kept.emplace_back(start, size), sum += size;
  while (sum > KEPT) {
    sum -= kept.front().second;
    std::free(kept.front().first);
    kept.pop_front();
  }
}

void release(CUdeviceptr base) {
  const auto at = state().blocks.find(base);
  if (at == state().blocks.end()) {
    fail(CUDA_ERROR_ILLEGAL_ADDRESS, "memory was freed twice");
    return;
  }
  const Block block = at->second;
  check_guard(block);
  state().blocks.erase(at);
  if (block.kind == Kind::DEVICE) {
    madvise(block.bytes - GUARD, pages(block.size), MADV_DONTNEED);
    mprotect(block.bytes - GUARD, pages(block.size), PROT_NONE);
  } else {
    std::memset(block.bytes, STALE, block.size);
    retire(block.bytes - ALIGN, block.size);
  }
}

const Block* block_of(CUdeviceptr address) {
  auto at = state().blocks.upper_bound(address);
  if (at == state().blocks.begin()) return nullptr;
  const Block& block = (--at)->second;
  return address < block.base + block.size ? &block : nullptr;
}

Place place_of(CUdeviceptr address, std::size_t size) {
  const Block* block = block_of(address);
  if (block) {
    const std::size_t offset = address - block->base;
    return {block->bytes + offset, block->id, offset + size <= block->size};
  }
  if (!address || arena().holds(address)) return {};
  return {reinterpret_cast<char*>(address), 0, true};
}

bool is_alive(const Place& place) {
  if (place.id == 0) return place.valid;
  for (const auto& [base, block] : state().blocks) {
    if (block.id == place.id) return true;
  }
  return false;
}

static CUresult free_block(CUdeviceptr base, bool on_device) {
  const auto at = state().blocks.find(base);
  const bool is_known = at != state().blocks.end() && at->second.kind != Kind::REGISTERED;
  if (!is_known || (at->second.kind == Kind::PINNED) == on_device) return CUDA_ERROR_INVALID_VALUE;
  release(base);
  return CUDA_SUCCESS;
}

}  // namespace sim

using namespace sim;

API cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total) {
  CALL(CONTEXT) {
    *total = state().settings.memory_bytes;
    *free_bytes = std::max(0ll, state().settings.memory_bytes - in_use());
    return CUDA_SUCCESS;
  });
}
API cuMemAlloc_v2(CUdeviceptr* address, std::size_t size) {
  CALL(CONTEXT | UNSAFE) { return allocate_device(address, size, nullptr); });
}
API cuMemAllocPitch_v2(CUdeviceptr* address, std::size_t* pitch, std::size_t width,
                       std::size_t height, unsigned) {
  CALL(CONTEXT | UNSAFE) {
    *pitch = (width + 511) / 512 * 512;
    return allocate_device(address, *pitch * height, nullptr);
  });
}
API cuMemAllocManaged(CUdeviceptr* address, std::size_t size, unsigned flags) {
  CALL(CONTEXT | UNSAFE) {
    return allocate_host(reinterpret_cast<void**>(address), size, Kind::MANAGED, flags);
  });
}
// Does not wait for work that uses the memory: such work fails. (A real driver often waits.)
API cuMemFree_v2(CUdeviceptr address) {
  CALL(CLEANUP | UNSAFE) { return address ? free_block(address, true) : CUDA_SUCCESS; });
}
API cuMemAllocHost_v2(void** address, std::size_t size) {
  CALL(CONTEXT | UNSAFE) { return allocate_host(address, size, Kind::PINNED, 2); });
}
API cuMemHostAlloc(void** address, std::size_t size, unsigned flags) {
  CALL(CONTEXT | UNSAFE) { return allocate_host(address, size, Kind::PINNED, flags | 2); });
}
API cuMemFreeHost(void* address) {
  CALL(CLEANUP | UNSAFE) {
    return address ? free_block(reinterpret_cast<CUdeviceptr>(address), false) : CUDA_SUCCESS;
  });
}
API cuMemHostRegister_v2(void* address, std::size_t size, unsigned flags) {
  CALL(CONTEXT | UNSAFE) {
    Block block;
    block.base = reinterpret_cast<CUdeviceptr>(address), block.size = size;
    if (!address || !size) return CUDA_ERROR_INVALID_VALUE;
    if (block_of(block.base)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    block.bytes = static_cast<char*>(address), block.kind = Kind::REGISTERED, block.flags = flags;
    return keep(block, &block.base);
  });
}
API cuMemHostUnregister(void* address) {
  CALL(CLEANUP | UNSAFE) {
    const auto at = state().blocks.find(reinterpret_cast<CUdeviceptr>(address));
    const bool is_known = at != state().blocks.end() && at->second.kind == Kind::REGISTERED;
    if (!is_known) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    state().blocks.erase(at);
    return CUDA_SUCCESS;
  });
}
API cuMemHostGetDevicePointer_v2(CUdeviceptr* device, void* host, unsigned) {
  CALL(CONTEXT) {
    const Block* block = block_of(reinterpret_cast<CUdeviceptr>(host));
    if (!block || block->kind == Kind::DEVICE) return CUDA_ERROR_INVALID_VALUE;
    *device = reinterpret_cast<CUdeviceptr>(host);
    return CUDA_SUCCESS;
  });
}
API cuMemHostGetFlags(unsigned* flags, void* host) {
  CALL(CONTEXT) {
    const Block* block = block_of(reinterpret_cast<CUdeviceptr>(host));
    if (!block || block->kind == Kind::DEVICE) return CUDA_ERROR_INVALID_VALUE;
    *flags = block->flags;
    return CUDA_SUCCESS;
  });
}
API cuMemGetAddressRange_v2(CUdeviceptr* base, std::size_t* size, CUdeviceptr address) {
  CALL(CONTEXT) {
    const Block* block = block_of(address);
    if (!block) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = block->base;
    if (size) *size = block->size;
    return CUDA_SUCCESS;
  });
}
