// Memory in the order of a stream, pools (only names here), and what is known about a pointer.
#include <cstring>

#include "sim.hpp"

struct CUmemPoolHandle_st {
  int device = 0;
  bool is_default = false;
  Value release_threshold = 0;
};

namespace sim {

static Table<CUmemPoolHandle_st> pools;
static std::map<int, CUmemoryPool> chosen;  // by device

static Value used(CUmemoryPool pool) {
  Value sum = 0;
  for (const auto& [base, block] : state().blocks) sum += block.pool == pool ? block.size : 0;
  return sum;
}

}  // namespace sim

using namespace sim;

static CUmemoryPool default_pool(int device) {
  static std::map<int, CUmemoryPool> made;
  CUmemoryPool& pool = made[device];
  if (!pool) {
    auto object = std::make_shared<CUmemPoolHandle_st>();
    object->device = device, object->is_default = true;
    pool = add(pools, object);
  }
  return pool;
}

API cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
  CALL(PLAIN) {
    if (device < 0 || device >= state().settings.devices) return CUDA_ERROR_INVALID_DEVICE;
    if (!state().settings.pools) return CUDA_ERROR_NOT_SUPPORTED;
    *pool = default_pool(device);
    return CUDA_SUCCESS;
  });
}
API cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
  CALL(PLAIN) {
    if (device < 0 || device >= state().settings.devices) return CUDA_ERROR_INVALID_DEVICE;
    if (!state().settings.pools) return CUDA_ERROR_NOT_SUPPORTED;
    *pool = chosen.count(device) ? chosen[device] : default_pool(device);
    return CUDA_SUCCESS;
  });
}
API cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
  CALL(PLAIN) {
    if (!find(pools, pool)) return CUDA_ERROR_INVALID_VALUE;
    chosen[device] = pool;
    return CUDA_SUCCESS;
  });
}
API cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* wanted) {
  CALL(PLAIN) {
    if (!state().settings.pools) return CUDA_ERROR_NOT_SUPPORTED;
    if (wanted->location.type != 1) return CUDA_ERROR_NOT_SUPPORTED;  // ..._LOCATION_TYPE_DEVICE
    auto object = std::make_shared<CUmemPoolHandle_st>();
    object->device = wanted->location.id;
    *pool = add(pools, object);
    return CUDA_SUCCESS;
  });
}
API cuMemPoolDestroy(CUmemoryPool pool) {
  CALL(CLEANUP) { return pools.erase(pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; });
}
API cuMemPoolTrimTo(CUmemoryPool pool, std::size_t) {
  CALL(PLAIN) { return find(pools, pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; });
}
API cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc*, std::size_t) {
  CALL(PLAIN) { return find(pools, pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; });
}
API cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  CALL(PLAIN) {
    const auto object = find(pools, pool);
    if (!object) return CUDA_ERROR_INVALID_VALUE;
    if (attribute == 4) object->release_threshold = *static_cast<Value*>(value);
    return CUDA_SUCCESS;
  });
}
// Attributes 1 to 3 are switches (int), the others bytes (64 bits).
API cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  CALL(PLAIN) {
    const auto object = find(pools, pool);
    if (!object) return CUDA_ERROR_INVALID_VALUE;
    if (attribute <= 3) {
      *static_cast<int*>(value) = 1;
    } else {
      *static_cast<Value*>(value) = attribute == 4 ? object->release_threshold : used(pool);
    }
    return CUDA_SUCCESS;
  });
}

// Memory in the order of a stream. Only the freeing waits for its turn.
static CUresult allocate_ordered(CUdeviceptr* address, std::size_t size, CUmemoryPool pool,
                                 CUstream handle) {
  const Shared<Stream> stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!state().settings.pools || stream->capture) return CUDA_ERROR_NOT_SUPPORTED;
  return allocate_device(address, size, pool);
}
API cuMemAllocFromPoolAsync(CUdeviceptr* address, std::size_t size, CUmemoryPool pool,
                            CUstream stream) {
  CALL(CONTEXT) { return allocate_ordered(address, size, pool, stream); });
}
API cuMemAllocAsync(CUdeviceptr* address, std::size_t size, CUstream stream) {
  CALL(CONTEXT) {
    return allocate_ordered(address, size, default_pool(current()->device), stream);
  });
}
API cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
  CALL(CLEANUP) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) return CUDA_ERROR_NOT_SUPPORTED;
    const Block* block = block_of(address);
    if (!block || block->base != address) return CUDA_ERROR_INVALID_VALUE;
    submit(stream, {[=] { release(address); }});
    return CUDA_SUCCESS;
  });
}

template <class T>
static CUresult put(void* at, T value) {
  std::memcpy(at, &value, sizeof value);
  return CUDA_SUCCESS;
}

// Numbers of CUpointer_attribute.
static CUresult attribute_of(const Block& block, CUdeviceptr address, int attribute, void* value) {
  const bool is_device = block.kind == Kind::DEVICE;
  switch (attribute) {
    case 1: return put(value, block.context);
    case 2: return put(value, is_device || block.kind == Kind::MANAGED ? 2u : 1u);
    case 3: return put(value, address);
    case 4:
      if (is_device) return CUDA_ERROR_INVALID_VALUE;
      return put(value, block.bytes + (address - block.base));
    case 6: return put(value, 0u);
    case 7: return put(value, block.id);
    case 8: return put(value, static_cast<unsigned>(block.kind == Kind::MANAGED));
    case 9: return put(value, block.context ? block.context->device : 0);
    case 10: return put(value, static_cast<unsigned>(is_device && !block.pool));
    case 11: return put(value, block.base);
    case 12: return put(value, block.size);
    case 13: return put(value, 1u);
    case 14: return put(value, Value{0});
    case 15: return put(value, 0u);
    case 16: return put(value, 3u);  // read and write
    case 17: return put(value, block.pool);
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

API cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  CALL(PLAIN) {
    const Block* block = block_of(address);
    return block ? attribute_of(*block, address, attribute, value) : CUDA_ERROR_INVALID_VALUE;
  });
}
// As CUDA: a pointer that is not known gives zeros, not an error.
API cuPointerGetAttributes(unsigned size, CUpointer_attribute* attributes, void** values,
                           CUdeviceptr address) {
  CALL(PLAIN) {
    const Block* block = block_of(address);
    for (unsigned i = 0; i < size; i++) {
      const int one = attributes[i];
      const bool is_wide = one == 1 || one == 3 || one == 4 || one == 7 || one == 11 || one == 12 ||
                           one == 14 || one == 17;
      is_wide ? put(values[i], Value{0}) : put(values[i], one == 9 ? -2 : 0);
      if (block) attribute_of(*block, address, one, values[i]);
    }
    return CUDA_SUCCESS;
  });
}
API cuPointerSetAttribute(const void*, CUpointer_attribute, CUdeviceptr address) {
  CALL(PLAIN) { return block_of(address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; });
}
