#include "metalloid/graph.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bindings/bindings.h"
#include "bindings/dispatch.h"
#include "metalloid/device.h"
#include "metalloid/queue.h"

namespace metalloid::bindings {

namespace {

// Bytes of one allocation, which has a number of its own as long as it lives.
using Bytes = std::tuple<uint64_t, uint64_t, uint64_t>;
using Sizes = std::tuple<uint64_t, uint64_t, uint64_t>;

// A copy of what there is to know of a node.
struct NodeInfo {
  std::string name, label, group;
  std::vector<uint32_t> origins;
  std::vector<Bytes> reads, writes;
  Sizes grid, threadgroup;
  bool by_threads, barrier, pure;
  uint64_t nbytes;
};

Sizes sizes(const Extent& extent) { return {extent.x, extent.y, extent.z}; }

NodeInfo info_of(const Node& node, bool barrier) {
  NodeInfo info{std::string(node.name()),
                node.label,
                node.group,
                node.origins,
                {},
                {},
                sizes(node.grid.size),
                sizes(node.threads),
                node.grid.unit == Grid::Unit::threads,
                barrier,
                node.pure,
                node.bytes()};
  for (const MemoryUse& use : node.uses) {
    const Bytes bytes{reinterpret_cast<uintptr_t>(use.storage), use.begin, use.end};
    if (use.reads) info.reads.push_back(bytes);
    if (use.writes) info.writes.push_back(bytes);
  }
  return info;
}

std::vector<NodeInfo> nodes(Graph& graph) {
  return graph.inspect([](const std::vector<Node>& all) {
    const std::vector<bool> before = barriers(all);
    std::vector<NodeInfo> infos;
    infos.reserve(all.size());
    for (size_t i = 0; i < all.size(); ++i) infos.push_back(info_of(all[i], before[i]));
    return infos;
  });
}

nb::handle enter(nb::handle self) {
  nb::cast<Graph&>(self).check_encoding("Graph.__enter__");
  return self;
}

void exit(Graph& graph, nb::handle type, nb::handle, nb::handle) {
  if (!type.is_none()) return graph.discard();
  if (graph.encoding()) graph.finish();
}

nb::object optimize(nb::handle self, bool remove_dead, bool fuse, bool reorder, bool plan_memory,
                    int64_t depth, std::optional<int64_t> max_live_bytes) {
  if (depth < 1) throw ValidationError(text("Graph.optimize: depth is ", depth, ", needs at least 1"));
  if (max_live_bytes && *max_live_bytes < 1) {
    throw ValidationError(text("Graph.optimize: max_live_bytes is ", *max_live_bytes, ", needs at least 1"));
  }
  Graph& graph = nb::cast<Graph&>(self);
  PassOptions options{remove_dead, fuse, reorder, plan_memory};
  options.depth = static_cast<uint32_t>(std::min<int64_t>(depth, UINT32_MAX));
  options.max_live_bytes = static_cast<uint64_t>(max_live_bytes.value_or(0));
  {
    NoGil nogil;
    graph.optimize(options);
  }
  return nb::borrow(self);
}

// As the bounds of a slice.
std::pair<uint32_t, uint32_t> part(Graph& graph, std::optional<int64_t> start, std::optional<int64_t> stop) {
  const auto count = static_cast<int64_t>(graph.size());
  const auto bound = [count](int64_t at) {
    return static_cast<uint32_t>(std::clamp<int64_t>(at < 0 ? at + count : at, 0, count));
  };
  const uint32_t first = bound(start.value_or(0)), last = bound(stop.value_or(count));
  return {first, std::max(first, last)};
}

void encode(Graph& graph, nb::handle cmd, std::optional<int64_t> start, std::optional<int64_t> stop) {
  CommandEncoder* encoder = nullptr;
  if (!nb::try_cast(cmd, encoder) || !encoder) {
    throw nb::type_error(text("Graph.encode: cmd is of type ", nb::inst_name(cmd).c_str(),
                              ", needs to be a metalloid.CommandEncoder")
                             .c_str());
  }
  NoGil nogil;
  const auto [first, last] = part(graph, start, stop);
  graph.encode(*encoder, first, last);
}

void run(Graph& graph, std::optional<int64_t> start, std::optional<int64_t> stop) {
  {
    NoGil nogil;
    const auto [first, last] = part(graph, start, stop);
    graph.submit(first, last, 0, nullptr)->wait(std::nullopt, "Graph.run");
  }
  issue_warnings(graph.device());
}

std::shared_ptr<Submission> commit(Graph& graph, std::optional<int64_t> start, std::optional<int64_t> stop,
                                   int64_t early, Queue* queue) {
  if (early < 0) throw ValidationError(text("Graph.commit: early is ", early, ", needs 0 or more"));
  NoGil nogil;
  const auto [first, last] = part(graph, start, stop);
  return graph.submit(first, last, static_cast<uint32_t>(std::min<int64_t>(early, UINT32_MAX)), queue);
}

// What update() changes of an operation: one float of its params.
InlineValue scalar(const Node& node, nb::handle name, nb::handle value, uint64_t& offset) {
  const auto wanted = nb::cast<std::string_view>(name);
  std::string known;
  for (const Scalar& each : node.operation->scalars) {
    known += (known.empty() ? "" : ", ") + std::string(each.name);
    if (wanted != each.name) continue;
    Number number;
    float as_float = NAN;
    if (number_from(value, number)) store(number, DType::float32, reinterpret_cast<std::byte*>(&as_float));
    if (!std::isfinite(as_float) || (each.positive && as_float <= 0)) {
      throw ValidationError(text("Graph.update: ", wanted, " of ", node.name(), " is ",
                                 nb::repr(value).c_str(), ", needs a finite number",
                                 each.positive ? " above 0" : "", ", as f32"));
    }
    offset = each.offset;
    InlineValue inlined{0, std::vector<std::byte>(sizeof as_float)};
    std::memcpy(inlined.bytes.data(), &as_float, sizeof as_float);
    return inlined;
  }
  throw ValidationError(text("Graph.update: ", node.name(), " has no value \"", wanted,
                             "\" to change, needs ", known.empty() ? "none" : "one of: " + known));
}

int64_t place_from(nb::handle which) {
  const Py_ssize_t place = PyNumber_AsSsize_t(which.ptr(), PyExc_IndexError);
  if (place == -1 && PyErr_Occurred()) throw nb::python_error();
  return place;
}

void update(Graph& graph, nb::handle which, nb::kwargs values) {
  if (!PyUnicode_Check(which.ptr()) && !PyIndex_Check(which.ptr())) {
    throw nb::type_error(
        text("Graph.update: node is ", nb::repr(which).c_str(), ", needs a label or a place in the recording")
            .c_str());
  }
  // A copy: what converts the values may run code that changes the graph.
  const Node node = PyUnicode_Check(which.ptr()) ? graph.find(nb::cast<std::string_view>(which))
                                                 : graph.find(place_from(which));
  struct Change {
    InlineValue value;
    uint64_t offset = 0;
  };
  // All of them first, so that none is made if one is wrong.
  std::vector<Change> changes;
  for (auto [name, value] : values) {
    Change change{};
    if (node.kernel) {
      const size_t position = node.kernel->position(nb::cast<std::string_view>(name));
      if (!node.kernel->arguments()[position].active) continue;  // as dispatch() does
      change.value = inline_value(*node.kernel, name, value);
      const NodeArgument* argument = node.argument(Argument::Kind::bytes, change.value.index);
      if (!argument || argument->bytes.size() != change.value.bytes.size()) {
        throw ValidationError(text(
            "Graph.update: argument ", nb::str(name).c_str(), " of ", node.name(), " has ",
            change.value.bytes.size(), " bytes, needs ",
            argument ? text(argument->bytes.size(), ", as recorded") : "to have been recorded as a value"));
      }
    } else {
      change.value = scalar(node, name, value, change.offset);
    }
    changes.push_back(std::move(change));
  }
  for (const Change& change : changes) {
    graph.update(node, change.value.index, change.offset, change.value.bytes);
  }
}

nb::object names(const Graph& graph) {
  nb::dict all;
  for (const auto& [name, buffer] : graph.names()) all[name.c_str()] = nb::cast(buffer);
  return all;
}

uint64_t nbytes(Graph& graph) {
  return graph.inspect([](const std::vector<Node>& all) {
    uint64_t total = 0;
    for (const Node& node : all) total += node.bytes();
    return total;
  });
}

nb::object to_svg(nb::handle self, nb::handle path) {
  return nb::module_::import_("metalloid._svg").attr("draw")(self, path);
}

std::string repr(Graph& graph) {
  const std::string label = graph.label().empty() ? "" : "'" + graph.label() + "', ";
  if (graph.encoding()) return text("Graph(", label, "recording, ", graph.recorded_count(), " dispatches)");
  return text("Graph(", label, graph.optimized() ? "optimized, " : "", graph.recorded_count(),
              " dispatches recorded)");
}

}  // namespace

void bind_graph(nb::module_& m) {
  using nb::arg;
  const auto none = nb::none();
  const auto kw = nb::kw_only();

  nb::class_<NodeInfo>(m, "GraphNode", "What there is to know of one dispatch of a graph. A copy.")
      .def_ro("name", &NodeInfo::name, "The operation, or the name of the kernel.")
      .def_ro("label", &NodeInfo::label, "What dispatch(label=) was given, else \"\".")
      .def_ro("group", &NodeInfo::group, "The debug groups that it is in, separated by slashes.")
      .def_ro("origins", &NodeInfo::origins,
              "The places of the recorded dispatches that it stands for; several if it is fused.")
      .def_ro("reads", &NodeInfo::reads,
              "The bytes that it reads: (allocation, begin, end), with a number for each allocation.")
      .def_ro("writes", &NodeInfo::writes, "The bytes that it writes, in the same way.")
      .def_ro("grid", &NodeInfo::grid, "The threadgroups, or the threads, along each axis.")
      .def_ro("by_threads", &NodeInfo::by_threads, "Whether ``grid`` counts threads.")
      .def_ro("threadgroup", &NodeInfo::threadgroup, "The threads of a threadgroup along each axis.")
      .def_ro("barrier", &NodeInfo::barrier, "Whether it waits for all dispatches before it.")
      .def_ro("pure", &NodeInfo::pure, "Whether it does nothing but write what ``writes`` says.")
      .def_ro("nbytes", &NodeInfo::nbytes, "The bytes of the buffers that it reads and writes.")
      .def("__repr__", [](const NodeInfo& self) {
        return text("GraphNode(", self.name, self.label.empty() ? "" : ", '" + self.label + "'", ")");
      });

  nb::class_<MemoryPlan>(m, "MemoryPlan", "How the buffers that live only inside a graph share memory.")
      .def_ro("buffers", &MemoryPlan::buffers, "How many there are.")
      .def_ro("unshared", &MemoryPlan::unshared, "The bytes that they would take each for itself.")
      .def_ro("peak", &MemoryPlan::peak, "The bytes that they take together.")
      .def("__repr__", [](const MemoryPlan& self) {
        return text("MemoryPlan(", self.buffers, " buffers of ", self.unshared, " bytes share ", self.peak,
                    ")");
      });

  nb::class_<Graph, Encoder>(
      m, "Graph",
      "Dispatches recorded once and run any number of times, made by Device.record().\n\n"
      "It takes operations and dispatches like a CommandEncoder, to the end of its ``with`` block or until\n"
      "finish(); nothing runs meanwhile. After that run() replays them in one call. What nobody but the "
      "graph\n"
      "refers to by then is the graph's own: optimize() may do without it, or have it share memory. Buffers\n"
      "that the program keeps hold their results after every run. A graph belongs to one thread at a time.")
      .def_prop_ro("label", &Graph::label, "What Device.record() was given, else \"\".")
      .def_prop_ro("recording", &Graph::encoding, "Whether it still records.")
      .def_prop_ro("optimized", &Graph::optimized, "Whether optimize() was called.")
      .def("finish", &Graph::finish, "Ends the recording, as the end of a ``with`` block does.")
      .def("__enter__", enter, nb::sig("def __enter__(self) -> Graph"))
      .def("__exit__", exit, arg("type").none(), arg("value").none(), arg("traceback").none(),
           nb::sig("def __exit__(self, type: object, value: object, traceback: object) -> None"))
      .def(
          "optimize", optimize, kw, arg("remove_dead") = true, arg("fuse") = true, arg("reorder") = true,
          arg("plan_memory") = true, arg("depth") = 4096, arg("max_live_bytes") = none,
          nb::sig("def optimize(self, *, remove_dead: bool = True, fuse: bool = True, reorder: bool = True, "
                  "plan_memory: bool = True, depth: int = 4096, max_live_bytes: int | None = None) -> Graph"),
          "Makes the graph cheaper to run and returns it. The results stay what they are: bit for bit, but\n"
          "where fuse leaves out the rounding of what it does not store any more.\n\n"
          "remove_dead     leaves out dispatches whose results nobody reads\n"
          "fuse            makes one dispatch of rms_norm and a mul or rope_neox that alone reads its "
          "result\n"
          "reorder         puts independent dispatches side by side, so that fewer barriers are needed\n"
          "plan_memory     lets the graph's own buffers share memory by lifetime\n"
          "depth           how many dispatches ahead of its place one may be moved\n"
          "max_live_bytes  what the graph's own buffers may take at once for the sake of fewer barriers;\n"
          "                twice what they take as recorded, at least 64 MiB, by default\n\n"
          "Dispatches of kernels of your own are not moved, and none across them, unless dispatch() was "
          "told\n"
          "what they read and write.")
      .def("name", &Graph::name, arg("name"), arg("buffer"),
           nb::sig("def name(self, name: str, buffer: Buffer) -> None"),
           "Names a buffer, or a view of one, for rebind(). What dispatches were given that lies inside it "
           "goes\n"
           "along; what reaches beyond it, such as the whole of a cache of which this is a part, stays.\n\n"
           "Raises ValidationError if the name is taken or the memory has a name.")
      .def_prop_ro("names", names, nb::sig("def names(self) -> dict[str, Buffer]"),
                   "The named buffers that the dispatches use now.")
      .def("rebind", &Graph::rebind, arg("name"), arg("buffer"),
           nb::sig("def rebind(self, name: str, buffer: Buffer) -> None"),
           "Has the dispatches use another buffer of the same shape and type, or another part of the same "
           "one,\n"
           "in the place of the named one, from the next run on.\n\n"
           "It may overlap what other dispatches use: then the graph is optimised anew, if it was. Raises\n"
           "ValidationError for another shape, type or device, an offset that differs by no multiple of 16\n"
           "bytes, or read-only memory for what is written.")
      .def("update", update, arg("node"), nb::arg("values"),
           nb::sig("def update(self, node: str | int, **values: object) -> None"),
           "Changes values that a dispatch was given in the place of buffers, from the next run on.\n\n"
           "node    the label that dispatch() was given, or the place of the dispatch in the recording\n"
           "values  by the names of the kernel's arguments; of operations ``eps`` or ``scale``\n\n"
           "Raises ValidationError for unknown names and values that dispatch() would refuse.")
      .def("encode", encode, arg("cmd"), arg("start") = none, arg("stop") = none,
           nb::sig("def encode(self, cmd: CommandEncoder, start: int | None = None, stop: int | None = None) "
                   "-> None"),
           "Encodes the nodes, or those of a slice, into a command buffer. Where hazards are \"automatic\" "
           "they\n"
           "run after all before them and before all after them.")
      .def(
          "commit", commit, arg("start") = none, arg("stop") = none, kw, arg("early") = 0,
          arg("queue").none() = none,
          nb::sig("def commit(self, start: int | None = None, stop: int | None = None, *, early: int = 0, "
                  "queue: Queue | None = None) -> Submission"),
          "Hands the nodes, or those of a slice, to the device, and returns without waiting.\n\n"
          "early  how many of them to hand over first, for the device to begin with while the others are\n"
          "       being encoded\n"
          "queue  where to; the device's own by default. A run on another queue than the last one waits for\n"
          "       that, as they share the graph's memory")
      .def("run", run, arg("start") = none, arg("stop") = none,
           nb::sig("def run(self, start: int | None = None, stop: int | None = None) -> None"),
           "Runs the nodes, or those of a slice, and waits for them. Raises as CommandEncoder.wait() does.")
      .def(
          "clone", [](Graph& self) { return self.clone().release(); }, nb::rv_policy::take_ownership,
          "Another graph with the same dispatches, names and optimisations, to be changed and run by "
          "itself.\n"
          "Both use the buffers that the program keeps; each has memory for the graph's own.")
      .def("__len__", [](Graph& self) { return self.size(); })
      .def_prop_ro("nodes", nodes, nb::sig("def nodes(self) -> list[GraphNode]"),
                   "The dispatches, as they run.")
      .def_prop_ro("edges", &Graph::edges, nb::sig("def edges(self) -> list[tuple[int, int]]"),
                   "Which nodes have to run before which, because both touch the same bytes.")
      .def_prop_ro("nbytes", nbytes, "The bytes that all nodes read and write.")
      .def_prop_ro(
          "barrier_count", [](Graph& self) { return self.program()->barriers(); }, "The barriers of a run.")
      .def_prop_ro(
          "conflict_count", [](Graph& self) { return self.program()->conflicts(); },
          "The arguments that needed a barrier.")
      .def_prop_ro(
          "removed_count", [](Graph& self) { return self.counts().removed; }, "The dispatches left out.")
      .def_prop_ro(
          "fused_count", [](Graph& self) { return self.counts().fused; },
          "The pairs of dispatches that became one.")
      .def_prop_ro("memory", &Graph::memory, nb::sig("def memory(self) -> MemoryPlan"),
                   "How the graph's own buffers share memory, if optimize() planned that.")
      .def(
          "to_svg", to_svg, arg("path") = none,
          nb::sig("def to_svg(self, path: str | PathLike[str] | None = None) -> str"),
          "A drawing of the nodes, their dependencies, fusions and barriers, as SVG; also written to a file\n"
          "if ``path`` is given.")
      .def("__repr__", repr);
}

}  // namespace metalloid::bindings
