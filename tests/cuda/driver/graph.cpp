// Graphs: made by capture, instantiated, updated and launched.
#include "graph.hpp"

#include <algorithm>
#include <cstdio>

namespace sim {

static Table<CUgraph_st> graphs;
static Table<CUgraphExec_st> execs;
static Table<CUuserObject_st> users;

static void release(CUuserObject handle, unsigned count) {
  const auto object = find(users, handle);
  if (!object) return;
  object->count -= std::min(count, object->count);
  if (object->count) return;
  state().garbage.push_back([object] { object->destroy(object->data); });
  users.erase(handle);
}
Users::Users(const Users& other) : held(other.held) {
  for (const auto& [handle, count] : held) handle->count += count;
}
Users::~Users() {
  for (const auto& [handle, count] : held) release(handle, count);
}

CUgraph add_graph(Shared<CUgraph_st> graph) {
  graph->id = state().next_id++;
  return add(graphs, std::move(graph));
}
void forget_graph(CUgraph graph) { graphs.erase(graph); }

CUgraphNode add_node(CUgraph graph, int type, Task task, const std::vector<CUgraphNode>& needs) {
  auto node = std::make_unique<CUgraphNode_st>();
  *node = {graph, type, std::move(task), needs};
  graph->nodes.push_back(std::move(node));
  return graph->nodes.back().get();
}

static std::size_t index_of(const CUgraph_st& graph, CUgraphNode node) {
  std::size_t i = 0;
  while (graph.nodes[i].get() != node) i++;
  return i;
}

static Shared<const Plan> plan_of(const CUgraph_st& graph) {
  auto plan = Shared<Plan>(new Plan{{}, graph.users});
  for (const auto& node : graph.nodes) {
    Step step{node->type, node->task, {}};
    for (const CUgraphNode need : node->needs) step.needs.push_back(index_of(graph, need));
    plan->steps.push_back(std::move(step));
  }
  return plan;
}

static void run(const Task& task) {
  if (!task.run || state().broken) return;
  if (!task.host) return task.run();
  Outside outside;
  task.run();
}

// In deferred mode the order is the one that is least like the recorded one, so that a dependency
// that was not recorded shows.
static void run(const Plan& plan) {
  const std::size_t size = plan.steps.size(), skipped = state().break_replay;
  std::vector<bool> done(size);
  for (std::size_t turn = 0; turn < size; turn++) {
    std::size_t next = size;
    for (std::size_t i = 0; i < size; i++) {
      const auto& needs = plan.steps[i].needs;
      const bool is_ready = std::all_of(needs.begin(), needs.end(), [&](auto k) { return done[k]; });
      if (done[i] || !is_ready) continue;
      next = i;
      if (!state().settings.deferred) break;
    }
    if (next + skipped < size) run(plan.steps[next].task);
    done[next] = true;
  }
}

static CUresult instantiate(CUgraphExec* made, CUgraph handle) {
  const auto graph = find(graphs, handle);
  if (!graph) return CUDA_ERROR_INVALID_VALUE;
  for (const auto& capture : state().captures) {
    if (capture->graph == graph) return CUDA_ERROR_ILLEGAL_STATE;
  }
  if (state().refuse == 2) {
    state().refuse = -1;
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  auto exec = std::make_shared<CUgraphExec_st>();
  exec->plan = plan_of(*graph);
  *made = add(execs, exec);
  return CUDA_SUCCESS;
}

static bool is_same_shape(const Plan& one, const Plan& other) {
  return std::equal(one.steps.begin(), one.steps.end(), other.steps.begin(), other.steps.end(),
                    [](const Step& a, const Step& b) {
                      return a.type == b.type && a.needs == b.needs;
                    });
}

}  // namespace sim

using namespace sim;

long long graph_counter(const std::string& name) {
  if (name == "graphs") return graphs.size();
  if (name == "graph_execs") return execs.size();
  if (name == "user_objects") return users.size();
  return -1;
}

API cuGraphCreate(CUgraph* graph, unsigned) {
  CALL(PLAIN) {
    *graph = add_graph(std::make_shared<CUgraph_st>());
    return CUDA_SUCCESS;
  });
}
API cuGraphDestroy(CUgraph graph) {
  CALL(CLEANUP) { return graphs.erase(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; });
}
API cuGraphGetId(CUgraph handle, unsigned* id) {
  CALL(PLAIN) {
    const auto graph = find(graphs, handle);
    if (!graph) return CUDA_ERROR_INVALID_VALUE;
    *id = static_cast<unsigned>(graph->id);
    return CUDA_SUCCESS;
  });
}
// As CUDA: `size` is the room on entry, the number on return; a null list asks for the number.
static CUresult give(const std::vector<CUgraphNode>& all, CUgraphNode* nodes, std::size_t* size) {
  if (nodes) std::fill_n(nodes, *size, nullptr);
  if (nodes) std::copy_n(all.begin(), std::min(*size, all.size()), nodes);
  *size = nodes ? std::min(*size, all.size()) : all.size();
  return CUDA_SUCCESS;
}
API cuGraphGetNodes(CUgraph handle, CUgraphNode* nodes, std::size_t* size) {
  CALL(PLAIN) {
    const auto graph = find(graphs, handle);
    if (!graph) return CUDA_ERROR_INVALID_VALUE;
    std::vector<CUgraphNode> all;
    for (const auto& node : graph->nodes) all.push_back(node.get());
    return give(all, nodes, size);
  });
}
API cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType* type) {
  CALL(PLAIN) {
    *type = static_cast<CUgraphNodeType>(node->type);
    return CUDA_SUCCESS;
  });
}
API cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode* needs, CUgraphEdgeData*,
                                  std::size_t* size) {
  CALL(PLAIN) { return give(node->needs, needs, size); });
}
API cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  CALL(PLAIN) { return instantiate(exec, graph); });
}
API cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph,
                                 CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) {
  CALL(PLAIN) {
    const CUresult result = instantiate(exec, graph);
    parameters->result_out = static_cast<CUgraphInstantiateResult>(result ? 1 : 0);
    parameters->hErrNode_out = nullptr;
    return result;
  });
}
API cuGraphExecDestroy(CUgraphExec exec) {
  CALL(CLEANUP) { return execs.erase(exec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; });
}
API cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph graph_handle,
                         CUgraphExecUpdateResultInfo* result) {
  CALL(PLAIN) {
    const auto exec = find(execs, handle);
    const auto graph = find(graphs, graph_handle);
    if (!exec || !graph) return CUDA_ERROR_INVALID_VALUE;
    const auto plan = plan_of(*graph);
    const bool fits = is_same_shape(*exec->plan, *plan);
    *result = {static_cast<CUgraphExecUpdateResult>(fits ? 0 : 2), nullptr, nullptr};
    if (!fits) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    exec->plan = plan;
    return CUDA_SUCCESS;
  });
}
API cuGraphUpload(CUgraphExec exec, CUstream stream) {
  CALL(PLAIN) {
    return find(execs, exec) && find_stream(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}
// A launch also waits for the earlier launches of the same executable graph.
API cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  CALL(CONTEXT) {
    const auto exec = find(execs, handle);
    const Shared<Stream> stream = find_stream(stream_handle);
    if (!exec || !stream) return CUDA_ERROR_INVALID_HANDLE;
    const Task task{[plan = exec->plan] { run(*plan); }};
    if (stream->capture) return record(stream, 4, task);
    if (const CUresult refusal = check_legacy(stream)) return refusal;
    count("graph_launches")++;
    const bool is_free = !exec->last || exec->last->done;
    exec->last = submit(stream, task, is_free ? nullptr : exec->last);
    return CUDA_SUCCESS;
  });
}
API cuGraphDebugDotPrint(CUgraph handle, const char* path, unsigned) {
  CALL(PLAIN) {
    const auto graph = find(graphs, handle);
    std::FILE* file = graph ? std::fopen(path, "w") : nullptr;
    if (!file) return CUDA_ERROR_INVALID_VALUE;
    std::fputs("digraph simulated {\n", file);
    for (const auto& node : graph->nodes) {
      const std::size_t index = index_of(*graph, node.get());
      std::fprintf(file, "%zu [label=\"type %d\"];\n", index, node->type);
      for (const CUgraphNode need : node->needs) {
        std::fprintf(file, "%zu -> %zu;\n", index_of(*graph, need), index);
      }
    }
    std::fputs("}\n", file);
    std::fclose(file);
    return CUDA_SUCCESS;
  });
}

API cuUserObjectCreate(CUuserObject* made, void* data, CUhostFn destroy, unsigned initial,
                       unsigned) {
  CALL(PLAIN) {
    if (!initial) return CUDA_ERROR_INVALID_VALUE;
    auto object = std::make_shared<CUuserObject_st>();
    *object = {destroy, data, initial};
    *made = add(users, object);
    return CUDA_SUCCESS;
  });
}
API cuUserObjectRetain(CUuserObject handle, unsigned count) {
  CALL(PLAIN) {
    const auto object = find(users, handle);
    if (!object) return CUDA_ERROR_INVALID_VALUE;
    object->count += count;
    return CUDA_SUCCESS;
  });
}
API cuUserObjectRelease(CUuserObject object, unsigned count) {
  CALL(CLEANUP) {
    if (!find(users, object)) return CUDA_ERROR_INVALID_VALUE;
    sim::release(object, count);
    return CUDA_SUCCESS;
  });
}
API cuGraphRetainUserObject(CUgraph handle, CUuserObject object, unsigned count, unsigned flags) {
  CALL(PLAIN) {
    const auto graph = find(graphs, handle);
    if (!graph || !find(users, object)) return CUDA_ERROR_INVALID_VALUE;
    graph->users.held[object] += count;
    if (!(flags & 1)) object->count += count;  // CU_GRAPH_USER_OBJECT_MOVE takes the caller's
    return CUDA_SUCCESS;
  });
}
API cuGraphReleaseUserObject(CUgraph handle, CUuserObject object, unsigned count) {
  CALL(CLEANUP) {
    const auto graph = find(graphs, handle);
    if (!graph || graph->users.held[object] < count) return CUDA_ERROR_INVALID_VALUE;
    graph->users.held[object] -= count;
    if (!graph->users.held[object]) graph->users.held.erase(object);
    sim::release(object, count);
    return CUDA_SUCCESS;
  });
}
