#include "metalloid/submission.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "bindings/bindings.h"
#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

void wait(const Submission& submission, std::optional<double> timeout) {
  {
    NoGil nogil;
    submission.wait(timeout);
  }
  issue_warnings(submission.device());
}

// Of work that is done; None where it did not fail.
nb::object exception_now(const Submission& submission) {
  issue_warnings(submission.device());
  try {
    submission.check();
  } catch (const Error&) {
    return exception_of(std::current_exception());
  }
  return nb::none();
}

nb::object exception(const Submission& submission, std::optional<double> timeout) {
  {
    NoGil nogil;
    submission.wait_until_done(timeout, "Submission.exception");
  }
  return exception_now(submission);
}

void call_back(PyObject* function, PyObject* submission) {
  PyObject* result = PyObject_CallFunctionObjArgs(function, submission, nullptr);
  if (!result) PyErr_WriteUnraisable(function);
  Py_XDECREF(result);
}

// Calls back from a thread that is not Python's; takes the references over.
void call_back_from_outside(PyObject* function, PyObject* submission) {
  // Until it returns: the end of the interpreter gives it some time.
  TakesGil takes;
  if (!takes.allowed()) return;
  // No frame from here to the bottom of the stack minds being unwound, should that not be enough.
  PyGILState_STATE gil = PyGILState_Ensure();
  call_back(function, submission);
  Py_DECREF(function);
  Py_DECREF(submission);
  PyGILState_Release(gil);
}

void add_done_callback(nb::handle self, nb::handle function) {
  const auto& submission = nb::cast<const Submission&>(self);
  if (!PyCallable_Check(function.ptr())) {
    throw nb::type_error(text("Submission.add_done_callback: fn is of type ", nb::inst_name(function).c_str(),
                              ", needs to be callable")
                             .c_str());
  }
  if (submission.done()) return call_back(function.ptr(), self.ptr());
  nb::object kept_function = nb::borrow(function), kept_self = nb::borrow(self);
  submission.when_done(
      [function = kept_function.ptr(), self = kept_self.ptr()] { call_back_from_outside(function, self); });
  kept_function.release();
  kept_self.release();
}

// Ends what awaits, in the thread of its loop.
void settle(nb::handle future, const Submission& submission) {
  if (nb::cast<bool>(future.attr("done")())) return;  // cancelled
  nb::object raised;
  try {
    raised = exception_now(submission);
  } catch (nb::python_error& e) {
    raised = nb::borrow(e.value());  // a warning that is an error
  }
  if (raised.is_none()) {
    future.attr("set_result")(nb::none());
  } else {
    future.attr("set_exception")(raised);
  }
}

nb::object await(nb::handle self) {
  nb::object loop = nb::module_::import_("asyncio").attr("get_running_loop")();
  nb::object future = loop.attr("create_future")();
  nb::object owner = nb::borrow(self);
  if (nb::cast<const Submission&>(self).done()) {
    settle(future, nb::cast<const Submission&>(self));
  } else {
    nb::object end =
        nb::cpp_function([owner, future] { settle(future, nb::cast<const Submission&>(owner)); });
    add_done_callback(self, nb::cpp_function([loop, end](nb::handle) {
                        try {
                          loop.attr("call_soon_threadsafe")(end);
                        } catch (nb::python_error& e) {
                          // Nobody awaits any more when the loop has been closed.
                          if (!e.matches(PyExc_RuntimeError)) throw;
                        }
                      }));
  }
  return future.attr("__await__")();
}

std::string repr(const Submission& submission) {
  std::string label = submission.label().empty() ? "" : "'" + submission.label() + "', ";
  return text("Submission(", label, name_of(submission.status()), ")");
}

std::optional<double> gpu_time(const Submission& submission) {
  NoGil nogil;
  return submission.gpu_time();
}

}  // namespace

void bind_submission(nb::module_& m) {
  nb::class_<Submission>(
      m, "Submission", nb::is_weak_referenceable(),
      "Work that was committed, made by CommandEncoder.commit().\n\n"
      "``await`` waits for it without holding up the event loop, and raises what wait() would; cancelling\n"
      "what awaits ends the wait, not the work. Any thread may use it.")
      .def_prop_ro("label", &Submission::label, "What Device.commands() was given, else \"\".")
      .def_prop_ro("queue", &Submission::queue, nb::rv_policy::reference, nb::sig("def queue(self) -> Queue"),
                   "The queue that it was committed to.")
      .def_prop_ro(
          "status", [](const Submission& self) { return name_of(self.status()); },
          "\"committed\", \"completed\" or \"error\".")
      .def_prop_ro("gpu_time", gpu_time, "The seconds that the device worked; None until completion.")
      .def("done", &Submission::done, "Whether the work has ended, well or not.")
      .def("wait", wait, nb::arg("timeout") = nb::none(),
           nb::sig("def wait(self, timeout: float | None = None) -> None"),
           "Waits until the work is done, at most ``timeout`` seconds.\n\n"
           "Raises DeviceError if the work failed or the time is up, KernelFault if a checked device found "
           "a\n"
           "kernel doing wrong. Ctrl-C ends the wait, not the work.")
      .def("exception", exception, nb::arg("timeout") = nb::none(),
           nb::sig("def exception(self, timeout: float | None = None) -> Exception | None"),
           "Waits as wait() does, and returns what it would raise for the work, None if nothing.\n\n"
           "Raises DeviceError if the time is up.")
      .def("add_done_callback", add_done_callback, nb::arg("fn"),
           nb::sig("def add_done_callback(self, fn: Callable[[Submission], object], /) -> None"),
           "Has ``fn(submission)`` called once, when the work has ended: at once if it has, else from "
           "another\n"
           "thread. What it raises goes to sys.unraisablehook. Callbacks of a queue are called one after\n"
           "another in the order of the work; what has not been called when the process ends or forks is "
           "not\n"
           "called any more, or only in the parent.")
      .def("__await__", await, nb::sig("def __await__(self) -> Generator[object, None, None]"))
      .def("__repr__", repr);
}

}  // namespace metalloid::bindings
