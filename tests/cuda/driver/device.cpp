// Devices, contexts, and errors as text.
#include <cstdio>
#include <cstring>

#include "sim.hpp"

namespace sim {

struct Error {
  CUresult code;
  const char *name, *text;
};
#define ERROR(name, text) {CUDA_##name, "CUDA_" #name, text}
static const Error ERRORS[] = {
    ERROR(SUCCESS, "no error"),
    ERROR(ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    ERROR(ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    ERROR(ERROR_NOT_FOUND, "named symbol not found"),
    ERROR(ERROR_NOT_READY, "device not ready"),
    ERROR(ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    ERROR(ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    ERROR(ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the memory is already mapped"),
    ERROR(ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered region"),
    ERROR(ERROR_NOT_PERMITTED, "operation not permitted"),
    ERROR(ERROR_NOT_SUPPORTED, "operation not supported"),
    ERROR(ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver / cuda driver "
                                        "combination"),
    ERROR(ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, "forward compatibility was attempted on "
                                                "non supported HW"),
    ERROR(ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    ERROR(ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during "
                                            "capture"),
    ERROR(ERROR_STREAM_CAPTURE_MERGE, "operation would result in a merge of separate captures"),
    ERROR(ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    ERROR(ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
    ERROR(ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another "
                                          "stream"),
    ERROR(ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a "
                                         "capturing blocking stream"),
    ERROR(ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a "
                                "capturing stream"),
    ERROR(ERROR_STREAM_CAPTURE_WRONG_THREAD, "attempt to terminate a thread-local capture "
                                             "sequence from another thread"),
    ERROR(ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph update was not performed because it "
                                           "included changes which violated constraints"),
};

static const Error* error_of(CUresult code) {
  for (const Error& error : ERRORS) {
    if (error.code == code) return &error;
  }
  return nullptr;
}

// Numbers of CUdevice_attribute: about those of a small Ampere GPU. What is not here is 0.
static int attribute_of(int attribute) {
  static const std::map<int, int> known = {
      {1, 1024},    {2, 1024},   {3, 1024},      {4, 64},     {5, 2147483647}, {6, 65535},
      {7, 65535},   {8, 49152},  {9, 65536},     {10, 32},    {11, 2147483647}, {12, 65536},
      {13, 1300000}, {14, 512},  {15, 1},        {16, 16},    {19, 1},         {31, 1},
      {36, 3200000}, {37, 128},  {38, 4 << 20},  {39, 1536},  {40, 2},         {41, 1},
      {50, 0},      {78, 1},     {79, 1},        {80, 1},     {81, 102400},    {82, 65536},
      {83, 1},      {90, 1},     {91, 1},        {95, 1},     {97, 101376},    {99, 1},
      {102, 1},     {106, 16},   {111, 1024},
  };
  const Settings& s = state().settings;
  if (attribute == 18) return s.integrated;
  if (attribute == 75) return static_cast<int>(s.capability / 10);
  if (attribute == 76) return static_cast<int>(s.capability % 10);
  if (attribute == 89) return !s.integrated;  // CONCURRENT_MANAGED_ACCESS
  if (attribute == 115) return s.pools;       // MEMORY_POOLS_SUPPORTED
  const auto at = known.find(attribute);
  return at == known.end() ? 0 : at->second;
}

static bool is_device(CUdevice device) { return device >= 0 && device < state().settings.devices; }

static CUresult use_device(CUdevice device, const std::function<void()>& use) {
  if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  use();
  return CUDA_SUCCESS;
}

static Shared<CUctx_st> make_context(int device, unsigned flags) {
  auto context = std::make_shared<CUctx_st>();
  context->device = device, context->flags = flags, context->id = state().next_id++;
  context->legacy = std::make_shared<Stream>();
  context->legacy->context = context.get(), context->legacy->id = 1;
  return context;
}

static bool is_context(CUcontext context) {
  for (const auto& one : state().contexts) {
    if (one.get() == context) return true;
  }
  return false;
}

static CUctx_st& primary(int device) { return *state().contexts[device]; }

}  // namespace sim

using namespace sim;

API cuInit(unsigned) {
  CALL(ALWAYS) {
    State& s = state();
    if (s.settings.init_code) return static_cast<CUresult>(s.settings.init_code);
    if (s.settings.devices == 0) return CUDA_ERROR_NO_DEVICE;
    for (int i = s.contexts.size(); i < s.settings.devices; i++) {
      s.contexts.push_back(make_context(i, 0));
    }
    s.initialised = true;
    return CUDA_SUCCESS;
  });
}
API cuDriverGetVersion(int* version) {
  *version = static_cast<int>(state().settings.driver);
  return CUDA_SUCCESS;
}
API cuGetErrorName(CUresult code, const char** text) {
  const Error* error = error_of(code);
  *text = error ? error->name : nullptr;
  return error ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
API cuGetErrorString(CUresult code, const char** text) {
  const Error* error = error_of(code);
  *text = error ? error->text : nullptr;
  return error ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API cuDeviceGetCount(int* size) {
  CALL(PLAIN) {
    *size = static_cast<int>(state().settings.devices);
    return CUDA_SUCCESS;
  });
}
API cuDeviceGet(CUdevice* device, int ordinal) {
  CALL(PLAIN) { return use_device(ordinal, [&] { *device = ordinal; }); });
}
API cuDeviceGetName(char* name, int room, CUdevice device) {
  CALL(PLAIN) {
    return use_device(device, [&] { std::snprintf(name, room, "Simulated GPU"); });
  });
}
API cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  CALL(PLAIN) {
    return use_device(device, [&] {
      std::memcpy(uuid->bytes, "simulated GPU 0", 16);
      uuid->bytes[14] = static_cast<char>('0' + device);
    });
  });
}
API cuDeviceGetPCIBusId(char* text, int room, CUdevice device) {
  CALL(PLAIN) {
    return use_device(device, [&] { std::snprintf(text, room, "0000:%02X:00.0", device + 1); });
  });
}
API cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  CALL(PLAIN) { return use_device(device, [&] { *bytes = state().settings.memory_bytes; }); });
}
API cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  CALL(PLAIN) { return use_device(device, [&] { *value = attribute_of(attribute); }); });
}
API cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  CALL(PLAIN) { return use_device(device, [&] { *can = is_device(peer) && device != peer; }); });
}

API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  CALL(PLAIN) {
    return use_device(device, [&] { *context = &primary(device), primary(device).retained++; });
  });
}
API cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  CALL(CLEANUP) {
    return use_device(device, [&] { primary(device).retained -= primary(device).retained > 0; });
  });
}
API cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  CALL(PLAIN) {
    return use_device(device, [&] {
      *flags = primary(device).flags, *active = primary(device).retained > 0;
    });
  });
}
API cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
  CALL(PLAIN) { return use_device(device, [&] { primary(device).flags = flags; }); });
}
API cuCtxGetCurrent(CUcontext* context) {
  CALL(PLAIN) {
    *context = current();
    return CUDA_SUCCESS;
  });
}
API cuCtxSetCurrent(CUcontext context) {
  CALL(CLEANUP) {
    if (context && !is_context(context)) return CUDA_ERROR_INVALID_CONTEXT;
    set_current(context);
    return CUDA_SUCCESS;
  });
}
static thread_local std::vector<CUcontext> below;  // the current context, in cuCtxPushCurrent
API cuCtxPushCurrent_v2(CUcontext context) {
  CALL(CLEANUP) {
    if (!is_context(context)) return CUDA_ERROR_INVALID_CONTEXT;
    below.push_back(current()), set_current(context);
    return CUDA_SUCCESS;
  });
}
API cuCtxPopCurrent_v2(CUcontext* context) {
  CALL(CLEANUP) {
    if (!current()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = current();
    set_current(below.empty() ? nullptr : below.back());
    if (!below.empty()) below.pop_back();
    return CUDA_SUCCESS;
  });
}
// A context beside the primary one, as PyCUDA makes. What is destroyed stays in the list, so that
// its streams keep a context to point at.
API cuCtxCreate_v4(CUcontext* made, CUctxCreateParams*, unsigned flags, CUdevice device) {
  CALL(PLAIN) {
    return use_device(device, [&] {
      state().contexts.push_back(make_context(device, flags));
      *made = state().contexts.back().get();
      below.push_back(current()), set_current(*made);
    });
  });
}
API cuCtxDestroy_v2(CUcontext context) {
  CALL(CLEANUP) {
    if (!is_context(context)) return CUDA_ERROR_INVALID_CONTEXT;
    finish_all(context);
    if (current() == context) set_current(nullptr);
    return CUDA_SUCCESS;
  });
}
API cuCtxGetDevice(CUdevice* device) {
  CALL(CONTEXT) {
    *device = current()->device;
    return CUDA_SUCCESS;
  });
}
API cuCtxGetFlags(unsigned* flags) {
  CALL(CONTEXT) {
    *flags = current()->flags;
    return CUDA_SUCCESS;
  });
}
API cuCtxGetId(CUcontext context, unsigned long long* id) {
  CALL(PLAIN) {
    if (!context) context = current();
    if (!context) return CUDA_ERROR_INVALID_CONTEXT;
    *id = context->id;
    return CUDA_SUCCESS;
  });
}
API cuCtxGetApiVersion(CUcontext, unsigned* version) {
  CALL(PLAIN) {
    *version = static_cast<unsigned>(state().settings.driver);
    return CUDA_SUCCESS;
  });
}
API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  CALL(CONTEXT) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
  });
}
API cuCtxSynchronize() {
  CALL(CONTEXT) {
    for (const auto& capture : state().captures) {
      if (capture->origin->context != current()) continue;
      invalidate(capture);
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    count("syncs")++;
    finish_all(current());
    return state().broken;
  });
}
