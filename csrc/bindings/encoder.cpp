#include "metalloid/encoder.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "bindings/bindings.h"
#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

nb::handle enter(nb::handle self) {
  nb::cast<CommandEncoder&>(self).check_encoding("CommandEncoder.__enter__");
  return self.inc_ref();
}

void exit(CommandEncoder& encoder, nb::handle type, nb::handle, nb::handle) {
  if (!type.is_none()) return encoder.discard();
  NoGil nogil;
  if (encoder.status() == CommandEncoder::Status::encoding) encoder.commit();
  encoder.wait();
}

std::string repr(const CommandEncoder& encoder) {
  std::string label = encoder.label().empty() ? "" : "'" + encoder.label() + "', ";
  return text("CommandEncoder(", label, name_of(encoder.status()), ", ", encoder.dispatch_count(),
              " dispatches)");
}

}  // namespace

void bind_encoder(nb::module_& m) {
  using nogil = nb::call_guard<NoGil>;
  nb::class_<CommandEncoder>(
      m, "CommandEncoder", nb::is_weak_referenceable(),
      "Records operations into one command buffer, made by Device.commands().\n\n"
      "As a context manager it commits and waits at the end of the block; after an exception it discards\n"
      "everything, and nothing runs. Operations run in order, each after the one before, unless the encoder "
      "is\n"
      "concurrent: then only barrier() orders them. An encoder belongs to one thread at a time; two that use "
      "it\n"
      "at once get an Error. What it uses stays alive until the work is done.")
      .def_prop_ro("device", &CommandEncoder::device, nb::rv_policy::reference,
                   nb::sig("def device(self) -> Device"), "The device that runs it.")
      .def_prop_ro("label", &CommandEncoder::label, "What Device.commands() was given, else \"\".")
      .def_prop_ro("dispatch_count", &CommandEncoder::dispatch_count, "The dispatches encoded so far.")
      .def_prop_ro("barrier_count", &CommandEncoder::barrier_count, "The barriers encoded so far.")
      .def_prop_ro(
          "status", [](const CommandEncoder& self) { return name_of(self.status()); },
          "\"encoding\", \"committed\", \"completed\", \"error\" or \"discarded\".")
      .def_prop_ro("gpu_time", &CommandEncoder::gpu_time, nogil(),
                   "The seconds that the device worked; None until completion.")
      .def("barrier", &CommandEncoder::barrier,
           "Operations encoded after it see what those before it wrote. Needed in concurrent encoders only.")
      .def("commit", &CommandEncoder::commit, nogil(),
           "Hands the command buffer to the device; nothing can be encoded after that.")
      .def("wait", &CommandEncoder::wait, nb::arg("timeout") = nb::none(), nogil(),
           nb::sig("def wait(self, timeout: float | None = None) -> None"),
           "Waits until the committed work is done, at most ``timeout`` seconds.\n\n"
           "Raises DeviceError if the work failed or the time is up, Error if nothing was committed. Ctrl-C "
           "ends\n"
           "the wait, not the work.")
      .def("commit_and_wait", &CommandEncoder::commit_and_wait, nogil(), "commit(), then wait().")
      .def("__enter__", enter, nb::sig("def __enter__(self) -> CommandEncoder"))
      .def("__exit__", exit, nb::arg("type").none(), nb::arg("value").none(), nb::arg("traceback").none(),
           nb::sig("def __exit__(self, type: object, value: object, traceback: object) -> None"))
      .def("__repr__", repr);
}

}  // namespace metalloid::bindings
