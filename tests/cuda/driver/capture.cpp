// Stream capture: work becomes nodes of a graph, and what CUDA forbids meanwhile is refused.
#include <algorithm>
#include <set>

#include "graph.hpp"

namespace sim {

static thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

void invalidate(const Shared<Capture>& capture) { capture->valid = false; }

// The rules of cuThreadExchangeStreamCaptureMode.
CUresult check_unsafe() {
  CUresult result = CUDA_SUCCESS;
  for (const auto& capture : state().captures) {
    const bool is_mine = capture->thread == std::this_thread::get_id();
    const bool forbids_me = is_mine && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
                            thread_mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    const bool forbids_all = capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                             thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!forbids_me && !forbids_all) continue;
    invalidate(capture);
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result;
}

// The legacy stream would wait for a blocking stream that captures.
CUresult check_legacy(const Shared<Stream>& stream) {
  if (!stream->is_legacy()) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (const auto& capture : state().captures) {
    for (const auto& member : capture->streams) {
      if (!member->blocks() || member->context != stream->context) continue;
      invalidate(capture);
      result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  return result;
}

CUresult record(const Shared<Stream>& stream, int type, Task task) {
  Capture& capture = *stream->capture;
  if (capture.valid && state().refuse == 1) {
    state().refuse = -1, capture.valid = false;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (!capture.valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  stream->tips = {add_node(capture.graph.get(), type, std::move(task), stream->tips)};
  return CUDA_SUCCESS;
}

static bool is_joined(const Capture& capture) {
  std::vector<CUgraphNode> todo = capture.origin->tips;
  std::set<CUgraphNode> seen;
  while (!todo.empty()) {
    const CUgraphNode node = todo.back();
    todo.pop_back();
    if (seen.insert(node).second) todo.insert(todo.end(), node->needs.begin(), node->needs.end());
  }
  return seen.size() == capture.graph->nodes.size();
}

static CUresult end(const Shared<Stream>& stream, CUgraph* graph) {
  if (graph) *graph = nullptr;
  const Shared<Capture> capture = stream->capture;
  if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
  const bool is_relaxed = capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED;
  if (!is_relaxed && capture->thread != std::this_thread::get_id()) {
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  }
  if (capture->origin != stream) {
    invalidate(capture);
    return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  }
  const bool joined = is_joined(*capture);
  for (const auto& member : capture->streams) member->capture.reset(), member->tips.clear();
  capture->open = false;
  auto& all = state().captures;
  all.erase(std::remove(all.begin(), all.end(), capture), all.end());
  if (capture->valid && joined) {
    if (graph) *graph = capture->graph.get();
    return CUDA_SUCCESS;
  }
  forget_graph(capture->graph.get());
  return capture->valid ? CUDA_ERROR_STREAM_CAPTURE_UNJOINED
                        : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

static CUresult info(CUstream handle, CUstreamCaptureStatus* status, Value* id, CUgraph* graph,
                     const CUgraphNode** tips, const CUgraphEdgeData** edges, std::size_t* size) {
  const Shared<Stream> stream = find_stream(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  const Shared<Capture> capture = stream->capture;
  if (status) {
    *status = !capture         ? CU_STREAM_CAPTURE_STATUS_NONE
              : capture->valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                               : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
  }
  if (!capture) return CUDA_SUCCESS;
  if (id) *id = capture->id;
  if (graph) *graph = capture->graph.get();
  if (tips) *tips = stream->tips.data();
  static thread_local std::vector<CUgraphEdgeData> plain;  // no edge here has data of its own
  plain.assign(stream->tips.size(), {});
  if (edges) *edges = plain.data();
  if (size) *size = stream->tips.size();
  return CUDA_SUCCESS;
}

}  // namespace sim

using namespace sim;

API cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    const bool is_refused = state().refuse == 0;
    if (is_refused) state().refuse = -1;
    if (is_refused || stream->is_legacy()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    auto capture = std::make_shared<Capture>();
    capture->graph = std::make_shared<CUgraph_st>();
    add_graph(capture->graph);
    capture->mode = mode, capture->origin = stream, capture->streams = {stream};
    capture->thread = std::this_thread::get_id(), capture->id = state().next_id++;
    stream->capture = capture, stream->tips.clear();
    state().captures.push_back(capture);
    return CUDA_SUCCESS;
  });
}
API cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  CALL(CLEANUP) {
    const Shared<Stream> stream = find_stream(handle);
    return stream ? end(stream, graph) : CUDA_ERROR_INVALID_HANDLE;
  });
}
API cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
  CALL(PLAIN) { return info(handle, status, nullptr, nullptr, nullptr, nullptr, nullptr); });
}
API cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus* status, Value* id,
                              CUgraph* graph, const CUgraphNode** tips, std::size_t* size) {
  CALL(PLAIN) { return info(handle, status, id, graph, tips, nullptr, size); });
}
API cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus* status, Value* id,
                              CUgraph* graph, const CUgraphNode** tips,
                              const CUgraphEdgeData** edges, std::size_t* size) {
  CALL(PLAIN) { return info(handle, status, id, graph, tips, edges, size); });
}
API cuStreamUpdateCaptureDependencies_v2(CUstream handle, CUgraphNode* nodes,
                                         const CUgraphEdgeData*, std::size_t size,
                                         unsigned flags) {
  CALL(PLAIN) {
    const Shared<Stream> stream = find_stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (flags == 1) stream->tips.clear();  // CU_STREAM_SET_CAPTURE_DEPENDENCIES
    stream->tips.insert(stream->tips.end(), nodes, nodes + size);
    return CUDA_SUCCESS;
  });
}
API cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  CALL(PLAIN) {
    std::swap(*mode, thread_mode);
    return CUDA_SUCCESS;
  });
}
