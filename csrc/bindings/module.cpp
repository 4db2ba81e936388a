#include <Python.h>

#include <chrono>

#include "bindings/bindings.h"
#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

// Work that nobody waited for may still use memory of the interpreter's when that goes away.
constexpr std::chrono::seconds kEndOfProcess{60};

void check_signals() {
  nb::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

}  // namespace

NB_MODULE(_core, m) {
  m.doc() = "The compiled part of metalloid. Use the names in the package itself.";
  m.attr("__version__") = METALLOID_VERSION;
  // Objects that live to the end of the process are not a defect of the program that holds them.
  nb::set_leak_warnings(false);

  bind_errors(m);
  bind_dtype(m);
  bind_buffer(m);
  bind_encoder(m);
  bind_device(m);
  bind_ops(m);

  set_wait_hook(check_signals);
  nb::module_::import_("atexit").attr("register")(nb::cpp_function([] {
    nb::gil_scoped_release nogil;
    Device::finish_all(kEndOfProcess);
  }));
}

}  // namespace metalloid::bindings
