// Graphs: nodes in the order in which they were added, and the plan that an executable graph runs.
#pragma once
#include "sim.hpp"

struct CUgraphNode_st {
  CUgraph graph;
  int type;
  sim::Task task;
  std::vector<CUgraphNode> needs;
};
struct CUuserObject_st {
  CUhostFn destroy;
  void* data;
  unsigned count;
};

namespace sim {

// References to callers' objects, which live until the last graph that needs them is gone.
struct Users {
  std::map<CUuserObject, unsigned> held;
  Users() = default;
  Users(const Users& other);
  Users& operator=(const Users&) = delete;
  ~Users();
};
struct Step {
  int type;
  Task task;
  std::vector<std::size_t> needs;
};
struct Plan {
  std::vector<Step> steps;
  Users users;
};
CUgraphNode add_node(CUgraph graph, int type, Task task, const std::vector<CUgraphNode>& needs);
CUgraph add_graph(Shared<CUgraph_st> graph);
void forget_graph(CUgraph graph);

}  // namespace sim

struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
  sim::Users users;
  Value id = 0;
};
struct CUgraphExec_st {
  sim::Shared<const sim::Plan> plan;
  sim::Shared<sim::Ticket> last;
};
