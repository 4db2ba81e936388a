#include "metalloid/queue.h"

#include <nanobind/stl/string.h>

#include "bindings/bindings.h"

namespace metalloid::bindings {

void bind_queue(nb::module_& m) {
  nb::class_<Queue>(m, "Queue",
                    "A queue of a device, made by Device.queue().\n\n"
                    "What is committed to a queue runs in the order of the commits. The work of different "
                    "queues may\n"
                    "overlap, and nothing but an Event orders it. Any thread may use it.")
      .def_prop_ro("label", &Queue::label, "What Device.queue() was given, else \"\".")
      .def_prop_ro("device", &Queue::device, nb::rv_policy::reference, nb::sig("def device(self) -> Device"),
                   "The device that it belongs to.")
      .def("__repr__", [](const Queue& self) {
        return text("Queue('", self.label(), "', device='", self.device().name(), "')");
      });
}

}  // namespace metalloid::bindings
