// Events: a mark in the work of a stream, or in a capture.
#include "sim.hpp"

namespace sim {

// An event that may be waited for, which one that was recorded in a capture may not be.
static CUresult waitable(CUevent handle, Shared<Event>& event) {
  event = find(state().events, handle);
  if (!event) return CUDA_ERROR_INVALID_HANDLE;
  if (!event->capture) return CUDA_SUCCESS;
  if (event->capture->open) invalidate(event->capture);
  return CUDA_ERROR_CAPTURED_EVENT;
}

}  // namespace sim

using namespace sim;

API cuEventCreate(CUevent* made, unsigned flags) {
  CALL(CONTEXT) {
    auto event = std::make_shared<Event>();
    event->flags = flags;
    *made = reinterpret_cast<CUevent>(add(state().events, event));
    return CUDA_SUCCESS;
  });
}
API cuEventDestroy_v2(CUevent handle) {
  CALL(CLEANUP) {
    return state().events.erase(reinterpret_cast<Event*>(handle)) ? CUDA_SUCCESS
                                                                  : CUDA_ERROR_INVALID_HANDLE;
  });
}
API cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned flags) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(stream_handle);
    const Shared<Event> event = find(state().events, handle);
    if (!stream || !event) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture && !stream->capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream->capture && flags) return CUDA_ERROR_NOT_SUPPORTED;  // a node of its own
    event->capture = stream->capture, event->tips = stream->tips;
    if (stream->capture) return CUDA_SUCCESS;
    if (const CUresult refusal = check_legacy(stream)) return refusal;
    event->ticket = submit(stream, {});
    return CUDA_SUCCESS;
  });
}
API cuEventRecord(CUevent event, CUstream stream) {
  return cuEventRecordWithFlags(event, stream, 0);
}
API cuEventQuery(CUevent handle) {
  CALL(UNSAFE) {
    Shared<Event> event;
    if (const CUresult refusal = waitable(handle, event)) return refusal;
    return query(event->ticket);
  });
}
API cuEventSynchronize(CUevent handle) {
  CALL(UNSAFE) {
    Shared<Event> event;
    if (const CUresult refusal = waitable(handle, event)) return refusal;
    count("syncs")++;
    finish(event->ticket);
    return state().broken;
  });
}
API cuEventElapsedTime_v2(float* milliseconds, CUevent start_handle, CUevent end_handle) {
  CALL(PLAIN) {
    Shared<Event> start, end;
    if (const CUresult refusal = waitable(start_handle, start)) return refusal;
    if (const CUresult refusal = waitable(end_handle, end)) return refusal;
    const bool is_timed = !((start->flags | end->flags) & 2);  // CU_EVENT_DISABLE_TIMING
    if (!is_timed || !start->ticket || !end->ticket) return CUDA_ERROR_INVALID_HANDLE;
    if (!start->ticket->done || !end->ticket->done) return CUDA_ERROR_NOT_READY;
    *milliseconds = static_cast<float>(end->ticket->milliseconds - start->ticket->milliseconds);
    return CUDA_SUCCESS;
  });
}
