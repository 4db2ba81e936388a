#include "metalloid/command_encoder.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "bindings/bindings.h"
#include "bindings/dispatch.h"
#include "metalloid/device.h"
#include "metalloid/graph.h"

namespace metalloid::bindings {

namespace {

nb::handle enter(nb::handle self) {
  nb::cast<CommandEncoder&>(self).check_encoding("CommandEncoder.__enter__");
  return self;
}

void exit(CommandEncoder& encoder, nb::handle type, nb::handle, nb::handle) {
  if (!type.is_none()) return encoder.discard();
  {
    NoGil nogil;
    if (encoder.status() == CommandEncoder::Status::encoding) encoder.commit();
    encoder.wait();
  }
  issue_warnings(encoder.device());
}

void wait(CommandEncoder& encoder, std::optional<double> timeout) {
  {
    NoGil nogil;
    encoder.wait(timeout);
  }
  issue_warnings(encoder.device());
}

std::shared_ptr<Submission> commit(CommandEncoder& encoder) {
  NoGil nogil;
  return encoder.commit();
}

void commit_and_wait(CommandEncoder& encoder) {
  {
    NoGil nogil;
    encoder.commit_and_wait();
  }
  issue_warnings(encoder.device());
}

std::string repr(const CommandEncoder& encoder) {
  std::string label = encoder.label().empty() ? "" : "'" + encoder.label() + "', ";
  return text("CommandEncoder(", label, name_of(encoder.status()), ", ", encoder.dispatch_count(),
              " dispatches)");
}

// What Encoder.group() gives: a debug group for the length of a block.
struct Group {
  nb::object encoder;
  std::string name;

  void enter() const { encoder_from(encoder, "group").push_group(name); }
  void exit(nb::handle, nb::handle, nb::handle) const {
    Encoder& into = encoder_from(encoder, "group");
    // What was discarded or committed inside the block has closed its groups.
    if (into.encoding()) into.pop_group();
  }
};

PyTypeObject* command_encoder_type;
PyTypeObject* graph_type;

}  // namespace

Encoder& encoder_from(nb::handle cmd, const char* operation) {
  if (Py_TYPE(cmd.ptr()) == command_encoder_type) return *nb::inst_ptr<CommandEncoder>(cmd);
  if (Py_TYPE(cmd.ptr()) == graph_type) return *nb::inst_ptr<Graph>(cmd);
  throw nb::type_error(text(operation, ": cmd is of type ", nb::inst_name(cmd).c_str(),
                            ", needs to be a metalloid.CommandEncoder or Graph; Device.commands() and "
                            "Device.record() make one")
                           .c_str());
}

void init_encoders() {
  command_encoder_type = reinterpret_cast<PyTypeObject*>(nb::type<CommandEncoder>().ptr());
  graph_type = reinterpret_cast<PyTypeObject*>(nb::type<Graph>().ptr());
}

void bind_encoder(nb::module_& m) {
  using nogil = nb::call_guard<NoGil>;
  nb::class_<Group>(m, "Group", "A debug group, made by Encoder.group().")
      .def("__enter__", &Group::enter)
      .def("__exit__", &Group::exit, nb::arg("type").none(), nb::arg("value").none(),
           nb::arg("traceback").none(),
           nb::sig("def __exit__(self, type: object, value: object, traceback: object) -> None"));

  nb::class_<Encoder>(m, "Encoder", nb::is_weak_referenceable(),
                      "What operations and kernels are encoded into: a CommandEncoder or a Graph.")
      .def_prop_ro("device", &Encoder::device, nb::rv_policy::reference,
                   nb::sig("def device(self) -> Device"), "The device that runs it.")
      .def("dispatch", dispatch, nb::arg("kernel").none(), nb::kw_only(), nb::arg("threads") = nb::none(),
           nb::arg("threadgroups") = nb::none(), nb::arg("grid") = nb::none(), nb::arg("threadgroup").none(),
           nb::arg("args").none() = nb::tuple(), nb::arg("reads") = nb::none(),
           nb::arg("writes") = nb::none(), nb::arg("label") = nb::none(),
           nb::sig("def dispatch(self, kernel: Kernel, *, threads: Size | None = None, "
                   "threadgroups: Size | None = None, grid: Size | None = None, threadgroup: Size, "
                   "args: Sequence[object] | Mapping[str, object] = (), "
                   "reads: Sequence[Buffer] | None = None, writes: Sequence[Buffer] | None = None, "
                   "label: str | None = None) -> None"),
           "Runs a kernel in threadgroups of ``threadgroup`` threads.\n\n"
           "threads, grid  how many threads there are, two words for one thing: the last threadgroups of a\n"
           "               row may be smaller\n"
           "threadgroups   how many threadgroups there are instead\n"
           "args           the values of ``kernel.arguments``, as a list or tuple in their order (without\n"
           "               those that are not active, if you like) or as a dict of names; values of those\n"
           "               that are not active are ignored\n"
           "reads, writes  the buffers, or views of them, that the kernel reads, and those that it writes "
           "all\n"
           "               bytes of, where that is less or more than its arguments tell: otherwise a buffer "
           "that\n"
           "               may be written counts as read and written from end to end. A kernel with both "
           "lists\n"
           "               does nothing else, so that a graph may move or remove it\n"
           "label          what a graph, a trace or a debugger calls it; the kernel's name by default\n\n"
           "Sizes are an integer or up to three, x first; a grid of none runs nothing. A value is a Buffer\n"
           "of the argument's type (vectors and matrices are of their scalar's type, structs of uint8),\n"
           "reinterpret(buffer) for one of another type, threadgroup_memory(bytes) for a threadgroup\n"
           "argument, or, where the kernel only reads, up to 4096 bytes: a Python or NumPy number, which is\n"
           "converted to the argument's type, a sequence of them, an array of that type, and for a struct a\n"
           "structured NumPy value, bytes, or what else has its memory.\n\n"
           "Raises ValidationError if anything does not fit, and then nothing was encoded: an argument that\n"
           "is missing, unknown, of the wrong kind, type, size or alignment, out of its type's range,\n"
           "read-only but written, or on another device; a threadgroup or its memory beyond the limits.")
      .def("barrier", &Encoder::barrier,
           "Operations encoded after it see what those before it wrote. Needed only where hazards are\n"
           "\"manual\", or where memory is reached in ways that no argument tells.")
      .def(
          "group", [](nb::object self, std::string name) { return Group{std::move(self), std::move(name)}; },
          nb::arg("name"), nb::sig("def group(self, name: str) -> Group"),
          "A context manager: what is encoded in its block is in a debug group, which shows in errors,\n"
          "traces and debuggers. Groups nest.");

  nb::class_<CommandEncoder, Encoder>(
      m, "CommandEncoder",
      "Records operations into one command buffer, made by Device.commands().\n\n"
      "As a context manager it commits and waits at the end of the block; after an exception it discards\n"
      "everything, and nothing runs. Operations that do not depend on each other may overlap; a barrier "
      "goes\n"
      "in where one touches memory that an earlier one wrote, or writes memory that it touched. An encoder\n"
      "belongs to one thread at a time; two that use it at once get an Error. What it uses stays alive "
      "until\n"
      "the work is done.")
      .def_prop_ro("label", &CommandEncoder::label, "What Device.commands() was given, else \"\".")
      .def_prop_ro("concurrent", &CommandEncoder::concurrent, "Whether dispatches may overlap.")
      .def_prop_ro(
          "hazards", [](const CommandEncoder& self) { return self.hazards() ? "automatic" : "manual"; },
          "\"automatic\" or \"manual\": where barriers come from.")
      .def_prop_ro("dispatch_count", &CommandEncoder::dispatch_count, "The dispatches encoded so far.")
      .def_prop_ro("barrier_count", &CommandEncoder::barrier_count, "The barriers encoded so far.")
      .def_prop_ro("conflict_count", &CommandEncoder::conflict_count,
                   "The arguments encoded so far that needed a barrier.")
      .def_prop_ro(
          "status", [](const CommandEncoder& self) { return name_of(self.status()); },
          "\"encoding\", \"committed\", \"completed\", \"error\" or \"discarded\".")
      .def_prop_ro("gpu_time", &CommandEncoder::gpu_time, nogil(),
                   "The seconds that the device worked; None until completion.")
      .def_prop_ro("queue", &CommandEncoder::queue, nb::rv_policy::reference,
                   nb::sig("def queue(self) -> Queue"), "The queue that it is committed to.")
      .def(
          "signal",
          [](CommandEncoder& self, Event& event, nb::handle value) {
            self.signal(event, event_value("CommandEncoder.signal", value));
          },
          nb::arg("event"), nb::arg("value"), nb::sig("def signal(self, event: Event, value: int) -> None"),
          "On the device, the event gets ``value`` once everything encoded so far is done.\n\n"
          "Raises ValidationError unless the value is 1 to 2**64 - 1 and the event is of the same device.")
      .def(
          "wait_for",
          [](CommandEncoder& self, Event& event, nb::handle value) {
            self.wait_for(event, event_value("CommandEncoder.wait_for", value));
          },
          nb::arg("event"), nb::arg("value"), nb::sig("def wait_for(self, event: Event, value: int) -> None"),
          "On the device, what is encoded after it waits until the event has ``value`` or more, and so does\n"
          "what is committed to the queue later. Raises as signal() does.")
      .def("commit", commit, nb::sig("def commit(self) -> Submission"),
           "Hands the command buffer to the device; nothing can be encoded after that.")
      .def(
          "wait", wait, nb::arg("timeout") = nb::none(),
          nb::sig("def wait(self, timeout: float | None = None) -> None"),
          "Waits until the committed work is done, at most ``timeout`` seconds.\n\n"
          "Raises DeviceError if the work failed or the time is up, KernelFault if a checked device found a\n"
          "kernel doing wrong, Error if nothing was committed. Ctrl-C ends the wait, not the work.")
      .def("commit_and_wait", commit_and_wait, "commit(), then wait().")
      .def("__enter__", enter, nb::sig("def __enter__(self) -> CommandEncoder"))
      .def("__exit__", exit, nb::arg("type").none(), nb::arg("value").none(), nb::arg("traceback").none(),
           nb::sig("def __exit__(self, type: object, value: object, traceback: object) -> None"))
      .def("__repr__", repr);
}

}  // namespace metalloid::bindings
