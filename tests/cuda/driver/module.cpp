// Modules and kernels. The machine code of a module is the text "SHIM:", the name of a kernel, ":"
// and the path of a library that shim/launcher.py compiled from the same source for the CPU.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "sim.hpp"

struct CUlib_st {
  std::string path;
  void* library = nullptr;
  sim::Shared<CUkern_st> kernel;
};
struct CUmod_st : CUlib_st {};
struct CUkern_st {
  std::string name;
  std::vector<int> sizes, offsets;
  std::vector<int> is_pointer;
  int (*run)(const unsigned*, void**, const int*, int) = nullptr;
  bool is_loaded = true;
  CUlibrary library = nullptr;
  int dynamic_shared = 48 << 10;
};

namespace sim {

static Table<CUlib_st> libraries;
static Table<CUkern_st> kernels;  // CUkernel and CUfunction: the same handles

static CUresult load(CUlib_st& made, const char* code) {
  if (!code || std::strncmp(code, "SHIM:", 5) != 0) return CUDA_ERROR_INVALID_IMAGE;
  const std::string rest = code + 5, name = rest.substr(0, rest.find(':'));
  made.path = rest.substr(std::min(rest.size(), name.size() + 1));
  made.library = dlopen(made.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!made.library) return CUDA_ERROR_INVALID_IMAGE;
  auto kernel = std::make_shared<CUkern_st>();
  const auto find = [&](const char* what) { return dlsym(made.library, (what + name).c_str()); };
  const auto describe = reinterpret_cast<void (*)(int*, int*, int)>(find("shim_describe_"));
  kernel->run = reinterpret_cast<decltype(kernel->run)>(find("shim_launch_"));
  if (!describe || !kernel->run) return CUDA_ERROR_INVALID_IMAGE;
  kernel->sizes.assign(64, 0), kernel->is_pointer.assign(64, 0);
  kernel->name = name;
  describe(kernel->sizes.data(), kernel->is_pointer.data(), 64);
  while (!kernel->sizes.empty() && !kernel->sizes.back()) kernel->sizes.pop_back();
  int offset = 0;
  for (const int size : kernel->sizes) {
    offset = (offset + size - 1) / size * size;
    kernel->offsets.push_back(offset);
    offset += size;
  }
  kernel->library = &made;
  made.kernel = kernel;
  add(kernels, kernel);
  return CUDA_SUCCESS;
}

static CUresult unload(const void* handle) {
  const auto library = find(libraries, handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  library->kernel->is_loaded = false;
  kernels.erase(library->kernel.get());
  libraries.erase(library.get());
  return CUDA_SUCCESS;
}

static Shared<CUkern_st> kernel_of(const void* library_handle, const char* name) {
  const auto library = find(libraries, library_handle);
  return library && library->kernel->name == name ? library->kernel : nullptr;
}

// The kernel's own view of a pointer: the bytes behind a device address. A kernel must not get
// memory that no GPU could reach.
static bool translate(const CUkern_st& kernel, std::size_t index, char* value) {
  CUdeviceptr address;
  std::memcpy(&address, value, sizeof address);
  if (!address) return true;
  const Block* block = block_of(address);
  if (!block) block = block_of(address - 1);  // one past the end is a valid pointer too
  if (!block) {
    fail(CUDA_ERROR_ILLEGAL_ADDRESS, kernel.name + ": parameter " + std::to_string(index) +
                                         " points at memory that the device cannot reach");
    return false;
  }
  const char* bytes = block->bytes + (address - block->base);
  std::memcpy(value, &bytes, sizeof bytes);
  return true;
}

struct Grid {
  unsigned numbers[6];
};

static void run(const CUkern_st& kernel, const Grid& grid, std::vector<char> values) {
  if (!kernel.is_loaded) {
    return fail(CUDA_ERROR_LAUNCH_FAILED, kernel.name + " was unloaded before it ran");
  }
  std::vector<void*> pointers;
  for (std::size_t i = 0; i < kernel.sizes.size(); i++) {
    char* value = values.data() + kernel.offsets[i];
    if (kernel.is_pointer[i] && !translate(kernel, i, value)) return;
    pointers.push_back(value);
  }
  count("kernels")++;
  kernel.run(grid.numbers, pointers.data(), kernel.sizes.data(), kernel.sizes.size());
}

static CUresult launch(CUfunction function, const Grid& grid, unsigned shared, CUstream stream,
                       void** values) {
  const auto kernel = find(kernels, function);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  const unsigned* n = grid.numbers;
  const bool is_empty = !n[0] || !n[1] || !n[2] || !n[3] || !n[4] || !n[5];
  const bool is_large = n[1] > 65535 || n[2] > 65535 || n[5] > 64 ||
                        static_cast<unsigned long long>(n[3]) * n[4] * n[5] > 1024;
  if (is_empty || is_large || static_cast<int>(shared) > kernel->dynamic_shared) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (!values && !kernel->sizes.empty()) return CUDA_ERROR_INVALID_VALUE;
  std::vector<char> copied;  // parameters are read now, the kernel may run much later
  for (std::size_t i = 0; i < kernel->sizes.size(); i++) {
    copied.resize(kernel->offsets[i] + kernel->sizes[i]);
    std::memcpy(copied.data() + kernel->offsets[i], values[i], kernel->sizes[i]);
  }
  const Shared<Stream> target = find_stream(stream);
  count("launches") += target && !target->capture;
  return enqueue(stream, 0, {[=] { run(*kernel, grid, copied); }});
}

// Numbers of CUfunction_attribute; what is not here is 0.
static int attribute_of(const CUkern_st& kernel, int attribute) {
  static const std::map<int, int> known = {{0, 1024}, {4, 32}, {5, 87}, {6, 87}};
  if (attribute == 8) return kernel.dynamic_shared;
  const auto at = known.find(attribute);
  return at == known.end() ? 0 : at->second;
}

static CUresult get(const void* handle, const std::function<void(const CUkern_st&)>& use) {
  const auto kernel = find(kernels, handle);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  use(*kernel);
  return CUDA_SUCCESS;
}

static CUresult parameter(const void* handle, std::size_t index, std::size_t* offset,
                          std::size_t* size) {
  const auto kernel = find(kernels, handle);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  if (index >= kernel->sizes.size()) return CUDA_ERROR_INVALID_VALUE;
  if (offset) *offset = kernel->offsets[index];
  if (size) *size = kernel->sizes[index];
  return CUDA_SUCCESS;
}

template <class T>
static CUresult load_as(T** made, const char* code) {
  auto library = std::make_shared<CUmod_st>();
  if (const CUresult refusal = load(*library, code)) return refusal;
  add(libraries, Shared<CUlib_st>(library));
  *made = reinterpret_cast<T*>(static_cast<CUlib_st*>(library.get()));
  return CUDA_SUCCESS;
}

}  // namespace sim

long long module_counter(const std::string& name) {
  return name == "libraries" ? static_cast<long long>(sim::libraries.size()) : -1;
}

using namespace sim;

API cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option*, void**, unsigned,
                      CUlibraryOption*, void**, unsigned) {
  CALL(UNSAFE) { return load_as(library, static_cast<const char*>(code)); });
}
API cuLibraryUnload(CUlibrary library) {
  CALL(CLEANUP | UNSAFE) { return unload(library); });
}
API cuLibraryGetKernel(CUkernel* made, CUlibrary library, const char* name) {
  CALL(PLAIN) {
    const auto kernel = kernel_of(library, name);
    *made = kernel.get();
    return kernel ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  });
}
API cuLibraryGetKernelCount(unsigned* size, CUlibrary library) {
  CALL(PLAIN) {
    *size = 1;
    return find(libraries, library) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}
API cuLibraryGetModule(CUmodule* module, CUlibrary library) {
  CALL(PLAIN) {
    *module = reinterpret_cast<CUmodule>(library);
    return find(libraries, library) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}
API cuModuleLoadData(CUmodule* module, const void* code) {
  CALL(CONTEXT | UNSAFE) { return load_as(module, static_cast<const char*>(code)); });
}
API cuModuleLoadDataEx(CUmodule* module, const void* code, unsigned, CUjit_option*, void**) {
  return cuModuleLoadData(module, code);
}
API cuModuleUnload(CUmodule module) {
  CALL(CLEANUP | UNSAFE) { return unload(module); });
}
API cuModuleGetFunction(CUfunction* made, CUmodule module, const char* name) {
  CALL(PLAIN) {
    const auto kernel = kernel_of(module, name);
    *made = reinterpret_cast<CUfunction>(kernel.get());
    return kernel ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  });
}
API cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  CALL(PLAIN) {
    return get(kernel, [&](auto&) { *function = reinterpret_cast<CUfunction>(kernel); });
  });
}
API cuKernelGetLibrary(CUlibrary* library, CUkernel kernel) {
  CALL(PLAIN) { return get(kernel, [&](const CUkern_st& k) { *library = k.library; }); });
}
API cuKernelGetName(const char** name, CUkernel kernel) {
  CALL(PLAIN) { return get(kernel, [&](const CUkern_st& k) { *name = k.name.c_str(); }); });
}
API cuFuncGetName(const char** name, CUfunction kernel) {
  CALL(PLAIN) { return get(kernel, [&](const CUkern_st& k) { *name = k.name.c_str(); }); });
}
API cuKernelGetParamInfo(CUkernel kernel, std::size_t index, std::size_t* offset,
                         std::size_t* size) {
  CALL(PLAIN) { return parameter(kernel, index, offset, size); });
}
API cuFuncGetParamInfo(CUfunction kernel, std::size_t index, std::size_t* offset,
                       std::size_t* size) {
  CALL(PLAIN) { return parameter(kernel, index, offset, size); });
}
API cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice) {
  CALL(PLAIN) {
    return get(kernel, [&](const CUkern_st& k) { *value = attribute_of(k, attribute); });
  });
}
API cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction kernel) {
  CALL(PLAIN) {
    return get(kernel, [&](const CUkern_st& k) { *value = attribute_of(k, attribute); });
  });
}
API cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel handle, CUdevice) {
  CALL(PLAIN) {
    const auto kernel = find(kernels, handle);
    if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
    if (attribute == 8) kernel->dynamic_shared = value;
    return CUDA_SUCCESS;
  });
}
API cuFuncSetAttribute(CUfunction kernel, CUfunction_attribute attribute, int value) {
  return cuKernelSetAttribute(attribute, value, reinterpret_cast<CUkernel>(kernel), 0);
}
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction kernel, int threads,
                                                std::size_t) {
  CALL(PLAIN) {
    return get(kernel, [&](auto&) { *blocks = threads > 0 ? 1536 / threads : 0; });
  });
}
API cuLaunchKernel(CUfunction kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                   CUstream stream, void** values, void**) {
  CALL(CONTEXT) {
    return launch(kernel, {{grid_x, grid_y, grid_z, block_x, block_y, block_z}}, shared, stream,
                  values);
  });
}
API cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction kernel, void** values, void**) {
  CALL(CONTEXT) {
    const Grid grid{{c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY,
                     c->blockDimZ}};
    return launch(kernel, grid, c->sharedMemBytes, c->hStream, values);
  });
}
