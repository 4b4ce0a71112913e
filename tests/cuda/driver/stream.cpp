// Streams: queues of work, run at once or when somebody waits.
#include <algorithm>

#include "sim.hpp"

namespace sim {

static Shared<Stream> thread_stream() {
  auto& mine = state().thread_streams[std::this_thread::get_id()];
  if (!mine) mine = std::make_shared<Stream>();
  mine->context = current();
  return mine;
}

Shared<Stream> find_stream(CUstream handle) {
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  if (number > 2) return find(state().streams, handle);
  if (!current()) return nullptr;
  return number == 2 ? thread_stream() : current()->legacy;
}

// Runs work of a stream from its front until `ticket` is done. Another thread may be at it, inside
// a caller's function; then this one waits for it.
static void drain(const Shared<Stream>& stream, const Shared<Ticket>& ticket) {
  while (!ticket->done) {
    if (stream->busy) {
      wait_for_change();
      continue;
    }
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->busy = true;
    if (work.before) finish(work.before);
    if (work.task.host && !state().broken) {
      Outside outside;
      work.task.run();
    } else if (work.task.run && !state().broken) {
      work.task.run();
    }
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    work.ticket->milliseconds = std::chrono::duration<double, std::milli>(now).count();
    work.ticket->done = true;
    work.ticket->stream.reset();
    stream->busy = false;
    state().changed.notify_all();
  }
}

void finish(const Shared<Ticket>& ticket) {
  if (!ticket || ticket->done) return;
  const Shared<Stream> stream = ticket->stream;
  drain(stream, ticket);
  auto& retired = state().retired;
  if (!stream->queue.empty()) return;
  retired.erase(std::remove(retired.begin(), retired.end(), stream), retired.end());
}

static std::vector<Shared<Stream>> all_streams() {
  std::vector<Shared<Stream>> all = state().retired;
  for (const auto& [handle, stream] : state().streams) all.push_back(stream);
  for (const auto& [thread, stream] : state().thread_streams) all.push_back(stream);
  for (const auto& context : state().contexts) all.push_back(context->legacy);
  return all;
}

void finish_all(CUcontext context) {
  for (const auto& stream : all_streams()) {
    if (stream->context == context) finish(stream->last);
  }
}

std::size_t waiting_work() {
  std::size_t sum = 0;
  for (const auto& stream : all_streams()) sum += stream->queue.size();
  return sum;
}

static void push(const Shared<Stream>& stream, Task task, Shared<Ticket> before) {
  auto ticket = std::make_shared<Ticket>();
  ticket->stream = stream;
  stream->last = ticket;
  stream->queue.push_back({std::move(task), std::move(before), ticket});
}

// The legacy stream waits for all blocking streams, and they for it.
static void order_with_legacy(const Shared<Stream>& stream) {
  if (!stream->blocks()) return;
  for (const auto& other : all_streams()) {
    const bool both = stream->is_legacy() || other->is_legacy();
    const bool related = other != stream && other->context == stream->context && other->blocks();
    if (both && related && other->last && !other->last->done) push(stream, {}, other->last);
  }
}

Shared<Ticket> submit(const Shared<Stream>& stream, Task task, Shared<Ticket> before) {
  order_with_legacy(stream);
  push(stream, std::move(task), std::move(before));
  const Shared<Ticket> ticket = stream->last;
  if (!state().settings.deferred) finish(ticket);
  return ticket;
}

CUresult enqueue(CUstream handle, int type, Task task) {
  const Shared<Stream> stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture) return record(stream, type, std::move(task));
  if (const CUresult refusal = check_legacy(stream)) return refusal;
  submit(stream, std::move(task));
  return CUDA_SUCCESS;
}

CUresult query(const Shared<Ticket>& ticket) {
  if (!ticket || ticket->done) return state().broken;
  if (!ticket->asked) {
    ticket->asked = true;
    return CUDA_ERROR_NOT_READY;
  }
  finish(ticket);
  return state().broken;
}

// A stream that may be waited for, which one that captures may not be.
static CUresult waitable(CUstream handle, Shared<Stream>& stream) {
  stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (!stream->capture) return CUDA_SUCCESS;
  invalidate(stream->capture);
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

}  // namespace sim

using namespace sim;

API cuStreamCreateWithPriority(CUstream* made, unsigned flags, int priority) {
  CALL(CONTEXT) {
    if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
    auto stream = std::make_shared<Stream>();
    stream->context = current(), stream->flags = flags;
    stream->priority = std::clamp(priority, -5, 0), stream->id = state().next_id++;
    *made = reinterpret_cast<CUstream>(add(state().streams, stream));
    return CUDA_SUCCESS;
  });
}
API cuStreamCreate(CUstream* made, unsigned flags) {
  return cuStreamCreateWithPriority(made, flags, 0);
}
// Returns at once; what is left to do gets done when the context is synchronised.
API cuStreamDestroy_v2(CUstream handle) {
  CALL(CLEANUP) {
    const Shared<Stream> stream = find(state().streams, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (const auto capture = stream->capture) {  // one that has joined its origin may go
      if (capture->origin == stream) invalidate(capture);
      auto& members = capture->streams;
      members.erase(std::remove(members.begin(), members.end(), stream), members.end());
    }
    if (!stream->queue.empty()) state().retired.push_back(stream);
    state().streams.erase(stream.get());
    return CUDA_SUCCESS;
  });
}
API cuStreamSynchronize(CUstream handle) {
  CALL(UNSAFE) {
    Shared<Stream> stream;
    if (const CUresult refusal = waitable(handle, stream)) return refusal;
    count("syncs")++;
    finish(stream->last);
    return state().broken;
  });
}
API cuStreamQuery(CUstream handle) {
  CALL(UNSAFE) {
    Shared<Stream> stream;
    if (const CUresult refusal = waitable(handle, stream)) return refusal;
    return query(stream->last);
  });
}
// The event is looked at now, the work waits later: as CUDA, a later record changes nothing.
API cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned flags) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    const Shared<Event> event = find(state().events, event_handle);
    if (!stream || !event) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture && flags) return CUDA_ERROR_NOT_SUPPORTED;  // a node of its own
    if (!event->capture && !stream->capture) {
      if (event->ticket && !event->ticket->done) submit(stream, {}, event->ticket);
      return CUDA_SUCCESS;
    }
    if (!event->capture || !event->capture->open) {  // would reach out of the capture
      if (stream->capture) invalidate(stream->capture);
      return stream->capture ? CUDA_ERROR_STREAM_CAPTURE_ISOLATION : CUDA_ERROR_CAPTURED_EVENT;
    }
    if (!event->capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream->capture && stream->capture != event->capture) {
      invalidate(stream->capture), invalidate(event->capture);
      return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (!stream->capture) {
      if (stream->is_legacy()) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
      stream->capture = event->capture;
      stream->capture->streams.push_back(stream);
    }
    for (const CUgraphNode tip : event->tips) {
      auto& tips = stream->tips;
      if (std::find(tips.begin(), tips.end(), tip) == tips.end()) tips.push_back(tip);
    }
    return CUDA_SUCCESS;
  });
}
API cuStreamGetFlags(CUstream handle, unsigned* flags) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *flags = stream->flags;
    return CUDA_SUCCESS;
  });
}
API cuStreamGetPriority(CUstream handle, int* priority) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *priority = stream->priority;
    return CUDA_SUCCESS;
  });
}
API cuStreamGetId(CUstream handle, unsigned long long* id) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *id = stream->id;
    return CUDA_SUCCESS;
  });
}
API cuStreamGetCtx(CUstream handle, CUcontext* context) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *context = stream->context;
    return CUDA_SUCCESS;
  });
}
API cuStreamGetCtx_v2(CUstream handle, CUcontext* context, CUgreenCtx* green) {
  *green = nullptr;
  return cuStreamGetCtx(handle, context);
}
API cuStreamGetDevice(CUstream handle, CUdevice* device) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    *device = stream->context->device;
    return CUDA_SUCCESS;
  });
}
API cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
  CALL(PLAIN) { return enqueue(handle, 3, {[=] { function(data); }, true}); });
}
API cuStreamAddCallback(CUstream handle, CUstreamCallback function, void* data, unsigned) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (stream && stream->capture) {
      invalidate(stream->capture);
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return enqueue(handle, 3, {[=] { function(handle, CUDA_SUCCESS, data); }, true});
  });
}
