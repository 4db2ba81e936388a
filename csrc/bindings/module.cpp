#include <Python.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "bindings/bindings.h"
#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

// How long the end of the process waits for work that nobody waited for.
constexpr std::chrono::seconds kEndOfProcess{3};

std::atomic<bool> ending{false};
std::thread::id ending_thread;

void check_signals() {
  if (interpreter_ends()) return;
  nb::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

// Runs when only daemon threads are left.
void at_exit() {
  {
    NoGil nogil;
    Device::finish_all(kEndOfProcess);
  }
  ending_thread = std::this_thread::get_id();
  ending.store(true, std::memory_order_release);
}

}  // namespace

bool interpreter_ends() { return ending.load(std::memory_order_acquire); }

NoGil::~NoGil() {
  // The thread that ends it may still run callbacks of others and destructors.
  while (interpreter_ends() && std::this_thread::get_id() != ending_thread) pause();
  PyEval_RestoreThread(state_);
}

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
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(at_exit));
}

}  // namespace metalloid::bindings
