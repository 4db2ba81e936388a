#include "metalloid/capture.h"

#include <nanobind/stl/string.h>

#include "bindings/bindings.h"
#include "metalloid/software.h"

namespace metalloid::bindings {

void bind_capture(nb::module_& m) {
  m.def(
      "_capture_start",
      [](Device& device, const std::string& path) {
        NoGil nogil;
        start_capture(device, path);
      },
      nb::arg("device"), nb::arg("path"));
  m.def("_capture_stop", [] {
    NoGil nogil;
    stop_capture();
  });
  // For tests of what happens then.
  m.def(
      "_fail_next_command_buffer",
      [](uint32_t code) { software::fail_next_command_buffer(static_cast<MTL::CommandBufferError>(code)); },
      nb::arg("code"));
}

}  // namespace metalloid::bindings
