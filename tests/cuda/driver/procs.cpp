// How callers find the driver's functions: cuGetProcAddress.
#include <dlfcn.h>

#include <array>
#include <cctype>
#include <cstdio>
#include <utility>

#include "sim.hpp"

namespace sim {

// CUDA has hundreds of functions more. Callers get something to call for each, which says so.
static std::array<std::string, 800> missing;
template <std::size_t I>
static CUresult not_simulated() {
  if (state().settings.verbose) {
    std::fprintf(stderr, "simcuda: %s is not simulated\n", missing[I].c_str());
  }
  return CUDA_ERROR_NOT_SUPPORTED;
}
template <std::size_t... I>
static void* stub(std::size_t index, std::index_sequence<I...>) {
  static CUresult (*const all[])() = {not_simulated<I>...};
  return reinterpret_cast<void*>(all[index]);
}
static void* stub_for(const std::string& name) {
  std::size_t index = 0;
  while (index < missing.size() && !missing[index].empty() && missing[index] != name) index++;
  if (index == missing.size()) return nullptr;
  missing[index] = name;
  return stub(index, std::make_index_sequence<std::tuple_size<decltype(missing)>::value>());
}

static void* own_symbol(const std::string& name) {
  static void* const self = [] {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&own_symbol), &info);
    return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }();
  return dlsym(self, name.c_str());
}

// A name stands for the newest form of a function that `version` of CUDA has. Here are only the
// newest forms, and older ones that take something else and are still asked for.
static void* find_function(const std::string& name, int version) {
  if (name == "cuGraphInstantiate") return own_symbol("cuGraphInstantiateWithFlags");
  if (name == "cuStreamGetCaptureInfo" && version < 12030) return own_symbol(name + "_v2");
  if (name == "cuStreamGetCtx" && version < 12050) return own_symbol(name);
  const bool has_edges = name == "cuGraphNodeGetDependencies" ||
                         name == "cuStreamUpdateCaptureDependencies";
  if (has_edges && version < 12030) return nullptr;
  if (name == "cuCtxCreate" && version < 12050) return nullptr;
  for (const char* suffix : {"_v4", "_v3", "_v2", ""}) {
    if (void* found = own_symbol(name + suffix)) return found;
  }
  return nullptr;
}

}  // namespace sim

using namespace sim;

API cuGetProcAddress_v2(const char* symbol, void** function, int version, Value,
                        CUdriverProcAddressQueryResult* status) {
  const Entry entry(ALWAYS);
  const std::string name = symbol;
  const bool is_name = name.size() > 2 && name.compare(0, 2, "cu") == 0 && std::isupper(name[2]);
  const bool is_known = is_name && version <= state().settings.driver;
  *function = is_known ? find_function(name, version) : nullptr;
  if (is_known && !*function) *function = stub_for(name);
  if (status) *status = static_cast<CUdriverProcAddressQueryResult>(*function ? 0 : 1);
  return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
