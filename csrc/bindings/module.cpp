#include <Python.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "bindings/bindings.h"
#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

// How long the end of the process waits for work that nobody waited for.
constexpr std::chrono::seconds kEndOfProcess{3};

// Both in one total order: a thread says that it is coming before it looks whether the end has begun.
std::atomic<bool> ending{false};
std::atomic<int> coming{0};
std::thread::id ending_thread;

// Whether there is a NoGil on this thread's stack, and no check_signals() above it.
thread_local bool let_go = false;

void check_signals() {
  TakesGil takes;
  if (!takes.allowed()) return;
  nb::gil_scoped_acquire gil;
  takes.done();
  const bool before = std::exchange(let_go, false);
  const bool raised = PyErr_CheckSignals() != 0;
  let_go = before;
  if (raised) throw nb::python_error();
}

constexpr BlockHooks block_hooks{
    [] { return static_cast<void*>(let_go ? nullptr : new NoGil); },
    [](void* entered) { delete static_cast<NoGil*>(entered); },
};

// Runs when only daemon threads are left. Those of them that were about to take the GIL get it first.
void at_exit() {
  ending_thread = std::this_thread::get_id();
  ending.store(true);
  NoGil nogil;
  Device::finish_all(kEndOfProcess);
  for (int ms = 0; coming.load() > 0 && ms < 1000; ++ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

TakesGil::TakesGil() {
  coming.fetch_add(1);
  // The thread that ends it may still run callbacks of others and destructors.
  allowed_ = !ending.load() || std::this_thread::get_id() == ending_thread;
}

void TakesGil::done() {
  if (!std::exchange(counted_, false)) return;
  coming.fetch_sub(1);
}

NoGil::NoGil() : state_(PyEval_SaveThread()) { let_go = true; }

NoGil::~NoGil() {
  let_go = false;
  TakesGil takes;
  if (!takes.allowed()) {
    takes.done();
    while (true) pause();
  }
  PyEval_RestoreThread(state_);
}

std::string with_gil(std::string (*call)()) {
  if (!let_go) return call();
  TakesGil takes;
  if (!takes.allowed()) return {};
  nb::gil_scoped_acquire gil;
  takes.done();
  const bool before = std::exchange(let_go, false);
  std::string result = call();
  let_go = before;
  return result;
}

NB_MODULE(_core, m) {
  m.doc() = "The compiled part of metalloid. Use the names in the package itself.";
  m.attr("__version__") = METALLOID_VERSION;
  // Objects that live to the end of the process are not a defect of the program that holds them.
  nb::set_leak_warnings(false);

  bind_errors(m);
  bind_dtype(m);
  bind_buffer(m);
  bind_library(m);
  bind_queue(m);
  bind_event(m);
  bind_submission(m);
  bind_encoder(m);
  bind_graph(m);
  bind_device(m);
  bind_ops(m);
  bind_trace(m);
  bind_capture(m);

  init_encoders();
  set_wait_hook(check_signals);
  set_block_hooks(&block_hooks);
  // The threads that were coming stayed behind.
  pthread_atfork(nullptr, nullptr, [] { coming.store(0); });
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(at_exit));
}

}  // namespace metalloid::bindings
