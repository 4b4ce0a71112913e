// What the parts of the simulated driver share: its state, and how a call enters it.
//
// One mutex guards everything. Work on a stream is a queue of closures: run at once, or with
// SIMCUDA_DEFER=1 only when somebody waits for it. Handles are addresses that are looked up in
// `State` before they are used, so a stale one gives CUDA_ERROR_INVALID_HANDLE, not a crash.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "abi.hpp"

namespace sim {
template <class T>
using Shared = std::shared_ptr<T>;
template <class T>
using Table = std::unordered_map<T*, Shared<T>>;  // handle to object
struct Capture;
struct Stream;
}  // namespace sim

struct CUctx_st {
  int device = 0;
  unsigned flags = 0;
  int retained = 0;
  Value id = 0;
  sim::Shared<sim::Stream> legacy;
};

namespace sim {

struct Stream;
// A piece of work to do; `host` marks a caller's function, which runs without the driver's lock.
struct Task {
  std::function<void()> run;
  bool host = false;
};
// Tells when a piece of work is done; events and waiting streams hold it.
struct Ticket {
  Shared<Stream> stream;
  bool done = false;
  bool asked = false;  // a query has answered "not ready" already, the next one finishes the work
  double milliseconds = 0;
};
struct Work {
  Task task;
  Shared<Ticket> before;  // of another stream: must be done first
  Shared<Ticket> ticket;
};
struct Stream {
  CUcontext context = nullptr;
  unsigned flags = 0;
  int priority = 0;
  Value id = 0;
  std::deque<Work> queue;
  Shared<Ticket> last;  // of the work that was handed in last
  bool busy = false;    // a thread is running work of this stream
  Shared<Capture> capture;
  std::vector<CUgraphNode> tips;  // while capturing: what the next node will depend on
  bool blocks() const { return !(flags & 1); }  // CU_STREAM_NON_BLOCKING
  bool is_legacy() const { return context->legacy.get() == this; }
};
struct Event {
  unsigned flags = 0;
  Shared<Ticket> ticket;      // null: never recorded, which counts as done
  Shared<Capture> capture;    // where it was recorded in a capture instead
  std::vector<CUgraphNode> tips;
};
struct Capture {
  Shared<CUgraph_st> graph;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  Shared<Stream> origin;
  std::vector<Shared<Stream>> streams;
  std::thread::id thread;
  Value id = 0;
  bool valid = true, open = true;
};

enum class Kind { DEVICE, PINNED, REGISTERED, MANAGED };
struct Block {
  CUdeviceptr base = 0;  // as callers know it
  char* bytes = nullptr;
  std::size_t size = 0;
  Kind kind = Kind::DEVICE;
  CUcontext context = nullptr;
  CUmemoryPool pool = nullptr;
  Value id = 0;
  unsigned flags = 0;
};
// Where a caller's address leads; `id` is 0 for pageable memory of the host.
struct Place {
  char* bytes = nullptr;
  Value id = 0;
  bool valid = false;
  bool pageable() const { return valid && id == 0; }
};

struct Settings {
  long long memory_bytes, devices, driver, init_code, capability, verbose;
  bool deferred, integrated, pools;
};
struct State {
  std::mutex mutex;
  std::condition_variable changed;
  Settings settings;
  bool initialised = false;
  CUresult broken = CUDA_SUCCESS;  // an error of a kernel or copy: every later call returns it
  std::string why;
  std::vector<Shared<CUctx_st>> contexts;  // the primary ones first, one a device
  Table<Stream> streams;
  std::vector<Shared<Stream>> retired;  // destroyed with work left to do
  std::unordered_map<std::thread::id, Shared<Stream>> thread_streams;
  Table<Event> events;
  std::vector<Shared<Capture>> captures;
  std::map<CUdeviceptr, Block> blocks;
  std::map<std::string, long long> counts;  // that are not the size of something here
  std::vector<std::function<void()>> garbage;  // callers' destructors: run without the lock
  Value next_id = 1;
  int refuse = -1, break_replay = 0;  // see sim_refuse_capture and sim_break_replay
};
State& state();
inline long long& count(const char* name) { return state().counts[name]; }

// What a call needs, and where it may be made.
enum Rules : unsigned {
  PLAIN = 0,
  CONTEXT = 1,   // a context must be current
  UNSAFE = 2,    // CUDA calls it potentially unsafe: refused while a graph is captured
  CLEANUP = 4,   // works after an error too, so that tests of errors need not leak
  ALWAYS = 8,    // works before cuInit
};
class Entry {
 public:
  explicit Entry(unsigned rules);
  ~Entry();
  CUresult refusal;

 private:
  std::unique_lock<std::mutex> lock_;
  friend class Outside;
  friend void wait_for_change();
};
// Leaves the driver for the length of a caller's function.
class Outside {
 public:
  Outside();
  ~Outside();

 private:
  Entry* entry_;
};
void wait_for_change();
CUresult trace(const char* name, CUresult result);
template <class Body>
CUresult enter(const char* name, unsigned rules, Body body) {
  CUresult result;
  {
    Entry entry(rules);
    result = entry.refusal ? entry.refusal : body();
  }
  return trace(name, result);
}
#define CALL(rules) return sim::enter(__func__, rules, [&]() -> CUresult
#define API extern "C" __attribute__((visibility("default"))) CUresult

void fail(CUresult code, const std::string& why);  // work on the device went wrong
CUcontext current();
void set_current(CUcontext context);

// stream.cpp
Shared<Stream> find_stream(CUstream handle);
Shared<Ticket> submit(const Shared<Stream>& stream, Task task, Shared<Ticket> before = nullptr);
void finish(const Shared<Ticket>& ticket);
void finish_all(CUcontext context);
CUresult query(const Shared<Ticket>& ticket);
std::size_t waiting_work();
// Hands work to a stream, or records it as a node of type `type` where the stream is capturing.
CUresult enqueue(CUstream handle, int type, Task task);

// memory.cpp
CUresult allocate_device(CUdeviceptr* address, std::size_t size, CUmemoryPool pool);
void release(CUdeviceptr base);
Place place_of(CUdeviceptr address, std::size_t size);
bool is_alive(const Place& place);
const Block* block_of(CUdeviceptr address);
void check_guards();

// capture.cpp
CUresult check_unsafe();
void invalidate(const Shared<Capture>& capture);
CUresult record(const Shared<Stream>& stream, int type, Task task);
CUresult check_legacy(const Shared<Stream>& stream);

template <class T>
Shared<T> find(const Table<T>& table, const void* handle) {
  const auto at = table.find(static_cast<T*>(const_cast<void*>(handle)));
  return at == table.end() ? nullptr : at->second;
}
template <class T>
T* add(Table<T>& table, Shared<T> object) {
  T* const handle = object.get();
  table[handle] = std::move(object);
  return handle;
}

}  // namespace sim
