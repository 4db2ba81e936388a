#include "metalloid/event.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include "bindings/bindings.h"

namespace metalloid::bindings {

uint64_t event_value(const char* operation, nb::handle value) {
  if (!PyIndex_Check(value.ptr())) {
    throw nb::type_error(
        text(operation, ": value is of type ", nb::inst_name(value).c_str(), ", needs to be an integer")
            .c_str());
  }
  nb::object index = nb::steal(PyNumber_Index(value.ptr()));
  if (!index.is_valid()) throw nb::python_error();
  const unsigned long long number = PyLong_AsUnsignedLongLong(index.ptr());
  if (!PyErr_Occurred()) return number;
  PyErr_Clear();
  throw ValidationError(text(operation, ": value is ", nb::str(index).c_str(), ", needs 1 to 2^64 - 1"));
}

namespace {

void signal(Event& event, nb::handle value) {
  const uint64_t number = event_value("Event.signal", value);
  NoGil nogil;
  event.signal(number);
}

void wait(const Event& event, nb::handle value, std::optional<double> timeout) {
  const uint64_t number = event_value("Event.wait", value);
  NoGil nogil;
  event.wait(number, timeout);
}

}  // namespace

void bind_event(nb::module_& m) {
  nb::class_<Event>(m, "Event", nb::is_weak_referenceable(),
                    "A number that devices and the host raise and wait for, made by Device.event().\n\n"
                    "CommandEncoder.signal() and wait_for() order the work of different queues by it. It "
                    "starts at 0 and\n"
                    "should only grow. Any thread may use it.")
      .def_prop_ro("device", &Event::device, nb::rv_policy::reference, nb::sig("def device(self) -> Device"),
                   "The device that made it.")
      .def_prop_ro("value", &Event::value, "The value now.")
      .def("signal", signal, nb::arg("value"), nb::sig("def signal(self, value: int) -> None"),
           "Sets the value, from the host. Raises ValidationError unless it is 1 to 2**64 - 1.")
      .def("wait", wait, nb::arg("value"), nb::arg("timeout") = nb::none(),
           nb::sig("def wait(self, value: int, timeout: float | None = None) -> None"),
           "Waits until the event has ``value`` or more, at most ``timeout`` seconds. Ctrl-C ends the "
           "wait.\n\n"
           "Raises DeviceError if the time is up, ValidationError as signal() does.")
      .def("__repr__", [](const Event& self) { return text("Event(value=", self.value(), ")"); });
}

}  // namespace metalloid::bindings
