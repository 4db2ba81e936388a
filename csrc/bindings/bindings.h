// What the files of the Python module share.
#pragma once

#include <nanobind/nanobind.h>

#include <exception>
#include <string>
#include <string_view>

#include "metalloid/buffer.h"
#include "metalloid/command_encoder.h"

namespace metalloid::bindings {

namespace nb = nanobind;

void bind_errors(nb::module_& m);
void bind_faults(nb::module_& m, nb::handle base);
void bind_library(nb::module_& m);
void bind_dtype(nb::module_& m);
void bind_buffer(nb::module_& m);
void bind_queue(nb::module_& m);
void bind_event(nb::module_& m);
void bind_submission(nb::module_& m);
void bind_device(nb::module_& m);
void bind_encoder(nb::module_& m);
void bind_graph(nb::module_& m);
void bind_ops(nb::module_& m);
void bind_trace(nb::module_& m);
void bind_capture(nb::module_& m);

// A new exception class, as an attribute of the module too.
PyObject* make_error(nb::module_& m, const char* name, const char* doc, nb::handle bases);

// The Python exception that stands for what was thrown; rethrows what is not the library's.
nb::object exception_of(const std::exception_ptr& thrown);
nb::object exception_of(const KernelFault& fault);

// Faults of a device, as Python sees them.
std::string_view check_mode(Device& device);
void set_check_mode(Device& device, std::string_view name);
nb::list collected_faults(Device& device);
// For a device whose check mode is to warn.
void issue_warnings(Device& device);

// Device.compile() and Device.kernel().
nb::object compile(Device& device, nb::handle source, nb::handle name, nb::handle include_dirs,
                   nb::handle headers, nb::handle macros, bool fast_math, nb::handle language_version,
                   nb::handle simd_width);
nb::object builtin_kernel(Device& device, std::string_view name, nb::handle constants);

// A DType as Python sees it: there is one object for each, and everything that names a type compares equal.
struct ElementType {
  DType type;
};
// The object of a type.
nb::object dtype_object(DType type);
// The type that `spec` means: a DType, NumPy dtype, scalar type or name. Throws ValidationError, which
// names `operation`, its argument dtype and what it got.
DType dtype_from(nb::handle spec, const char* operation);

// What the first argument of `operation` is to be: a CommandEncoder, or a Graph that records.
Encoder& encoder_from(nb::handle cmd, const char* operation);
// Looks up what that compares types with. To be called when all classes are bound.
void init_encoders();

// A value that an event is raised to or waited for.
uint64_t event_value(const char* operation, nb::handle value);

// A size or a sequence of sizes.
Shape shape_from(nb::handle sizes, const char* operation);
nb::tuple tuple_of(const Shape& shape);

// Stands for a thread that is about to take the GIL, until it has it. Not allowed once the interpreter ends:
// no daemon thread may come back then, as CPython would unwind its stack, which ends the process.
class TakesGil {
 public:
  TakesGil();
  ~TakesGil() { done(); }
  TakesGil(const TakesGil&) = delete;
  TakesGil& operator=(const TakesGil&) = delete;
  bool allowed() const { return allowed_; }
  void done();

 private:
  bool allowed_;
  bool counted_ = true;
};

// Lets go of the GIL for as long as it lives. When the interpreter ends in the meantime the thread stops for
// good.
class NoGil {
 public:
  NoGil();
  ~NoGil();
  NoGil(const NoGil&) = delete;
  NoGil& operator=(const NoGil&) = delete;

 private:
  PyThreadState* state_;
};

// What `call` returns, called with the GIL from any depth of a call of Python's; empty once the interpreter
// ends.
std::string with_gil(std::string (*call)());

// Wait without the GIL, if there is something to wait for.
void wait_to_read(const Buffer& buffer);
void wait_to_write(const Buffer& buffer);

}  // namespace metalloid::bindings
