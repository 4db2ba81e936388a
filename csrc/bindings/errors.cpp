#include <nanobind/stl/string.h>

#include "bindings/bindings.h"
#include "metalloid/error.h"

namespace metalloid::bindings {

namespace {

// The Python classes; they live as long as the process.
PyObject* error = nullptr;
PyObject* validation_error = nullptr;
PyObject* compile_error = nullptr;
PyObject* device_error = nullptr;

nb::object make(PyObject* type, const std::exception& e) { return nb::borrow(type)(e.what()); }

void translate(const std::exception_ptr& thrown, void*) {
  nb::object instance = exception_of(thrown);
  PyErr_SetObject(instance.type().ptr(), instance.ptr());
}

}  // namespace

nb::object exception_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const KernelFault& e) {
    return exception_of(e);
  } catch (const ValidationError& e) {
    return make(validation_error, e);
  } catch (const CompileError& e) {
    nb::object instance = make(compile_error, e);
    instance.attr("log") = e.log();
    return instance;
  } catch (const DeviceError& e) {
    nb::object instance = make(device_error, e);
    instance.attr("code") = e.code();
    return instance;
  } catch (const Error& e) {
    return make(error, e);
  }
}

PyObject* make_error(nb::module_& m, const char* name, const char* doc, nb::handle bases) {
  std::string full = std::string("metalloid._core.") + name;
  PyObject* type = PyErr_NewExceptionWithDoc(full.c_str(), doc, bases.ptr(), nullptr);
  if (!type) throw nb::python_error();
  m.attr(name) = nb::borrow(type);
  return type;
}

void bind_errors(nb::module_& m) {
  error =
      make_error(m, "Error", "The base of every error that metalloid raises.", nb::handle(PyExc_Exception));
  validation_error =
      make_error(m, "ValidationError",
                 "An argument breaks a precondition. Nothing was encoded and no buffer touched.\n\n"
                 "The message names the operation, the argument, what it got and what it needs.",
                 nb::make_tuple(nb::borrow(error), nb::borrow(PyExc_ValueError)));
  compile_error = make_error(
      m, "CompileError",
      "A shader does not compile. ``log`` is what the compiler said, with files and lines of the source.",
      error);
  device_error = make_error(
      m, "DeviceError",
      "There is no such device, it is out of memory, or a command buffer ended in an error.\n\n"
      "``code`` says which one, where that is known: \"out_of_memory\", \"timeout\", \"page_fault\",\n"
      "\"access_revoked\", \"not_permitted\", \"invalid_resource\", \"memoryless\", \"stack_overflow\",\n"
      "\"device_removed\" or \"internal\"; else it is \"\". After \"access_revoked\" and\n"
      "\"device_removed\" the device takes no work of the process any more.",
      error);
  // What an instance has in any case, also one that Python code made.
  nb::handle(compile_error).attr("log") = "";
  nb::handle(device_error).attr("code") = "";
  nb::register_exception_translator(translate);
  bind_faults(m, error);
}

}  // namespace metalloid::bindings
