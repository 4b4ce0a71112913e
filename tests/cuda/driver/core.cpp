// State, entering a call, settings, and the functions by which tests look inside and interfere.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sim.hpp"

namespace sim {

static long long number(const char* name, long long other) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : other;
}

State& state() {
  static State* const only = [] {  // never destroyed: Python frees handles while it exits
    auto* made = new State;
    Settings& s = made->settings;
    s.memory_bytes = number("SIMCUDA_MEMORY_BYTES", 8ll << 30);
    s.devices = number("SIMCUDA_DEVICES", 1);
    s.driver = number("SIMCUDA_DRIVER", 13000);
    s.init_code = number("SIMCUDA_INIT", 0);
    s.capability = number("SIMCUDA_CAPABILITY", 87);
    s.verbose = number("SIMCUDA_VERBOSE", 0);
    s.deferred = number("SIMCUDA_DEFER", 0) != 0;
    s.integrated = number("SIMCUDA_INTEGRATED", 0) != 0;
    s.pools = number("SIMCUDA_POOLS", 1) != 0;
    return made;
  }();
  return *only;
}

static thread_local Entry* entered = nullptr;
static thread_local bool in_callback = false;
static thread_local CUcontext current_context = nullptr;

CUcontext current() { return current_context; }
void set_current(CUcontext context) { current_context = context; }

Entry::Entry(unsigned rules) : refusal(CUDA_SUCCESS) {
  if (in_callback && !(rules & ALWAYS)) {  // as CUDA: a host function must not call the driver
    refusal = CUDA_ERROR_NOT_PERMITTED;
    return;
  }
  lock_ = std::unique_lock(state().mutex);
  entered = this;
  if (rules & ALWAYS) return;
  if (!state().initialised) {
    refusal = CUDA_ERROR_NOT_INITIALIZED;
  } else if (state().broken && !(rules & CLEANUP)) {
    refusal = state().broken;
  } else if ((rules & CONTEXT) && !current_context) {
    refusal = CUDA_ERROR_INVALID_CONTEXT;
  } else if (rules & UNSAFE) {
    refusal = check_unsafe();
  }
}

Entry::~Entry() {
  if (!lock_) return;
  entered = nullptr;
  std::vector<std::function<void()>> garbage;
  garbage.swap(state().garbage);
  lock_.unlock();
  for (const auto& destroy : garbage) destroy();
}

Outside::Outside() : entry_(entered) {
  entered = nullptr, in_callback = true;
  entry_->lock_.unlock();
}
Outside::~Outside() {
  in_callback = false;
  entry_->lock_.lock();
  entered = entry_;
}

void wait_for_change() {
  Entry* const mine = entered;
  state().changed.wait(mine->lock_);
  entered = mine;
}

CUresult trace(const char* name, CUresult result) {
  const long long verbose = state().settings.verbose;
  const bool is_news = result && result != CUDA_ERROR_NOT_READY;
  if (verbose > 1 || (verbose && is_news)) {
    std::fprintf(stderr, "simcuda: %s -> %d\n", name, static_cast<int>(result));
  }
  return result;
}

void fail(CUresult code, const std::string& why) {
  State& s = state();
  std::fprintf(stderr, "simcuda: error %d: %s\n", static_cast<int>(code), why.c_str());
  if (!s.broken) s.broken = code, s.why = why;
}

}  // namespace sim

using namespace sim;
#define TEST_API extern "C" __attribute__((visibility("default")))

// The value of a counter: how many of something there are now, or have been; -1 for no such name.
long long graph_counter(const std::string& name);
long long module_counter(const std::string& name);
TEST_API long long sim_counter(const char* name) {
  Entry entry(ALWAYS);
  State& s = state();
  const std::string wanted = name;
  long long live = 0, device = 0;
  for (const auto& [base, block] : s.blocks) {
    if (block.kind == Kind::REGISTERED) continue;
    live += block.size, device += block.kind == Kind::DEVICE ? block.size : 0;
  }
  if (wanted == "live_bytes") return live;
  if (wanted == "device_bytes") return device;
  if (wanted == "pinned_bytes") return live - device;
  if (wanted == "live_allocations") return s.blocks.size();
  if (wanted == "streams") return s.streams.size();
  if (wanted == "events") return s.events.size();
  if (wanted == "captures") return s.captures.size();
  if (wanted == "waiting") return waiting_work();
  if (wanted == "overruns") check_guards();
  for (const auto part : {graph_counter, module_counter}) {
    if (part(wanted) >= 0) return part(wanted);
  }
  static const char* const known[] = {"launches", "graph_launches", "kernels", "copies", "overruns",
                                      "pageable_copies", "syncs"};
  for (const char* one : known) {
    if (wanted == one) return count(one);
  }
  return -1;
}

// The error that broke the context, as text; empty where there is none. Valid until the next call.
TEST_API const char* sim_error() {
  Entry entry(ALWAYS);
  return state().why.c_str();
}

// Mends a broken context, which a real GPU cannot, and takes back what the functions below ask for.
TEST_API void sim_reset() {
  Entry entry(ALWAYS);
  State& s = state();
  s.broken = CUDA_SUCCESS, s.why.clear();
  s.refuse = -1, s.break_replay = 0;
  for (auto& [name, value] : s.counts) value = 0;
}

// Makes the next capture fail: 0 when it begins, 1 at its first operation, 2 when the graph is
// instantiated. -1 takes it back.
TEST_API void sim_refuse_capture(int stage) {
  Entry entry(ALWAYS);
  state().refuse = stage;
}

// Makes graph launches leave out their last `nodes` nodes, until it is set back to 0.
TEST_API void sim_break_replay(int nodes) {
  Entry entry(ALWAYS);
  state().break_replay = nodes;
}

// Overrides a setting of the environment from now on; false where there is none of that name.
// Work that waits already still runs in order.
TEST_API bool sim_set(const char* name, long long value) {
  Entry entry(ALWAYS);
  Settings& s = state().settings;
  const std::map<std::string, std::function<void()>> all = {
      {"defer", [&] { s.deferred = value != 0; }},
      {"memory_bytes", [&] { s.memory_bytes = value; }},
      {"capability", [&] { s.capability = value; }},
      {"integrated", [&] { s.integrated = value != 0; }},
      {"pools", [&] { s.pools = value != 0; }},
      {"driver", [&] { s.driver = value; }},
      {"verbose", [&] { s.verbose = value; }},
  };
  const auto at = all.find(name);
  if (at == all.end()) return false;
  at->second();
  return true;
}

// Does all work that waits, on every stream.
TEST_API void sim_settle() {
  Entry entry(ALWAYS);
  for (std::size_t i = 0; i < state().contexts.size(); i++) {
    finish_all(state().contexts[i].get());
  }
}

// Where the bytes behind a device address lie in this process: for fakes and for looking inside
// without waiting. Null for an address that is not allocated.
TEST_API void* sim_host_address(CUdeviceptr address) {
  Entry entry(ALWAYS);
  const Block* block = block_of(address);
  return block ? block->bytes + (address - block->base) : nullptr;
}
