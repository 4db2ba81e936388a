#include "bindings/dispatch.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <array>
#include <cstring>
#include <deque>
#include <vector>

#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

constexpr size_t kMaxArguments = 62;  // 31 of each kind
constexpr size_t kMaxInlineBytes = 4096;

// The classes that arguments are compared with; they live as long as the process.
PyTypeObject* buffer_type;
PyTypeObject* reinterpreted_type;
PyTypeObject* memory_type;
PyTypeObject* kernel_type;

std::string class_of(nb::handle obj) { return nb::cast<std::string>(nb::inst_name(obj)); }

std::string shown(nb::handle obj) {
  std::string all = nb::repr(obj).c_str();
  return all.size() <= 80 ? all : all.substr(0, 77) + "...";
}

// Python's own numbers.
bool plain_number(nb::handle obj, Number& out) {
  PyObject* object = obj.ptr();
  if (PyBool_Check(object)) {
    out = Number::of(object == Py_True);
    return true;
  }
  if (PyFloat_Check(object)) {
    out = Number::of(PyFloat_AsDouble(object));
    return true;
  }
  if (!PyLong_Check(object)) return false;
  int overflow = 0;
  long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
  if (!overflow) {
    out = Number::of(static_cast<int64_t>(value));
    return true;
  }
  unsigned long long large = overflow > 0 ? PyLong_AsUnsignedLongLong(object) : 0;
  if (overflow < 0 || PyErr_Occurred()) {
    // Out of every integer's range, and so is the double for all but float and bfloat.
    PyErr_Clear();
    double real = PyLong_AsDouble(object);
    if (PyErr_Occurred()) {
      PyErr_Clear();
      real = overflow < 0 ? -1e300 : 1e300;
    }
    out = Number::of(real);
    return true;
  }
  out = Number::of(static_cast<uint64_t>(large));
  return true;
}

// One call of dispatch(): the values, and the memory of those that are not Buffers.
class Call {
 public:
  explicit Call(const Kernel& kernel) : kernel_(kernel), count_(kernel.arguments().size()) {
    if (count_ > kMaxArguments) throw Error(text("dispatch of ", kernel.name(), ": too many arguments"));
    std::fill_n(values_.begin(), count_, Value{});
  }

  void take(nb::handle args) {
    PyObject* all = args.ptr();
    if (PyTuple_Check(all)) {
      take_tuple(all);
    } else if (PyList_Check(all)) {
      // The conversion of a value may run Python code, which may change the list.
      tuple_ = nb::steal(PyList_AsTuple(all));
      take_tuple(tuple_.ptr());
    } else if (PyDict_Check(all)) {
      take_named(nb::borrow<nb::dict>(args));
    } else {
      throw ValidationError(text("dispatch of ", kernel_.name(), ": args is of type ", class_of(args),
                                 ", needs a list or tuple in order of position, or a dict of names"));
    }
  }

  std::span<const Value> values() const { return {values_.data(), count_}; }

 private:
  void take_tuple(PyObject* all) {
    const auto given = static_cast<size_t>(PyTuple_Size(all));
    if (kernel_.may_lack_arguments() && given > kernel_.active_positions().size() &&
        given != kernel_.arguments().size() && take_without_none(all)) {
      return;
    }
    std::span<const uint32_t> positions = kernel_.positions(given);
    for (size_t i = 0; i < positions.size(); ++i) {
      set(positions[i], PyTuple_GetItem(all, static_cast<Py_ssize_t>(i)));
    }
  }

  // What is None stands for an argument that is missing, if the others are as many as are active.
  bool take_without_none(PyObject* all) {
    std::vector<PyObject*> given;
    for (Py_ssize_t i = 0; i < PyTuple_Size(all); ++i) {
      if (PyObject* value = PyTuple_GetItem(all, i); value != Py_None) given.push_back(value);
    }
    const std::span<const uint32_t> active = kernel_.active_positions();
    if (given.size() != active.size()) return false;
    for (size_t i = 0; i < given.size(); ++i) set(active[i], given[i]);
    return true;
  }

  void take_named(nb::dict named) {
    for (auto [key, value] : named) {
      if (!PyUnicode_Check(key.ptr())) {
        throw ValidationError(text("dispatch of ", kernel_.name(), ": args has the key ", shown(key),
                                   ", needs names of arguments"));
      }
      const auto name = nb::cast<std::string_view>(key);
      if (value.is_none() && kernel_.may_lack_arguments() && !kernel_.has(name)) continue;
      const size_t position = kernel_.position(name);
      kept_.push_back(nb::borrow(value));
      set(position, value);
    }
  }

  void set(size_t position, nb::handle obj) {
    const KernelArgument& argument = kernel_.arguments()[position];
    // Which arguments a kernel uses depends on its compiler, so programs may give values for all.
    if (!argument.active) return;
    Value& value = values_[position];
    PyTypeObject* type = Py_TYPE(obj.ptr());
    if (type == buffer_type) {
      value = {Value::Kind::buffer, 0, nb::inst_ptr<Buffer>(obj)};
    } else if (type == reinterpreted_type) {
      value = {Value::Kind::reinterpreted, 0, &nb::inst_ptr<Reinterpreted>(obj)->buffer};
    } else if (type == memory_type) {
      value = {Value::Kind::memory, nb::inst_ptr<ThreadgroupMemory>(obj)->bytes, nullptr};
    } else if (!obj.is_none()) {
      if (argument.kind == KernelArgument::Kind::threadgroup) {
        refuse(argument, obj, "metalloid.threadgroup_memory(bytes)");
      }
      value = bytes_of(argument, obj);
    }
  }

  [[noreturn]] void refuse(const KernelArgument& argument, nb::handle obj, const std::string& needs) const {
    throw ValidationError(text(kernel_.place(argument), " is ", shown(obj), ", needs ", needs));
  }

  std::byte* room(size_t bytes) {
    if (used_ + bytes <= sizeof scratch_) {
      used_ += bytes;
      return scratch_ + used_ - bytes;
    }
    return overflow_.emplace_back(bytes).data();
  }

  // A copy of raw bytes. The core refuses what is too long by its length alone.
  Value copied(const void* from, size_t bytes) {
    if (bytes > kMaxInlineBytes) return {Value::Kind::bytes, bytes, nullptr};
    std::byte* to = room(bytes);
    if (bytes) std::memcpy(to, from, bytes);
    return {Value::Kind::bytes, bytes, to};
  }

  Value bytes_of(const KernelArgument& argument, nb::handle obj) {
    Number number;
    if (plain_number(obj, number)) return numbers(argument, obj, {&number, 1});
    if (PyList_Check(obj.ptr()) || PyTuple_Check(obj.ptr())) {
      std::vector<Number> all;
      gather(argument, obj, all);
      return numbers(argument, obj, all);
    }
    // NumPy's scalars and arrays, before the buffer protocol: they know their types.
    if (nb::hasattr(obj, "dtype") && nb::hasattr(obj, "shape")) return array(argument, obj);
    if (PyObject_CheckBuffer(obj.ptr())) return raw(argument, obj);
    if (number_from(obj, number)) return numbers(argument, obj, {&number, 1});
    refuse(argument, obj, "a Buffer " + value_text(argument));
  }

  static std::string value_text(const KernelArgument& argument) {
    if (!argument.element.dtype) {
      return text("or bytes or a structured NumPy value of ", argument.size, " bytes (one ",
                  argument.type_name, ")");
    }
    int lanes = argument.element.lanes * argument.element.columns;
    if (lanes == 1) return text("or a number (one ", argument.type_name, ")");
    return text("or ", lanes, " numbers (one ", argument.type_name, ")");
  }

  void gather(const KernelArgument& argument, nb::handle sequence, std::vector<Number>& all, int depth = 0) {
    if (depth > 3) refuse(argument, sequence, "a Buffer " + value_text(argument));
    for (nb::handle item : nb::borrow<nb::sequence>(sequence)) {
      Number number;
      if (all.size() > kMaxInlineBytes) refuse(argument, sequence, "fewer numbers, or a Buffer");
      if (plain_number(item, number) || number_from(item, number)) {
        all.push_back(number);
      } else if (PyList_Check(item.ptr()) || PyTuple_Check(item.ptr())) {
        gather(argument, item, all, depth + 1);
      } else {
        refuse(argument, item, "numbers");
      }
    }
  }

  // Numbers become elements, whose columns may be padded.
  Value numbers(const KernelArgument& argument, nb::handle obj, std::span<const Number> all) {
    const Element& element = argument.element;
    const size_t each = size_t{element.lanes} * element.columns;
    if (!element.dtype || all.empty() || all.size() % each != 0) {
      refuse(argument, obj, "a Buffer " + value_text(argument));
    }
    const size_t count = all.size() / each;
    const size_t bytes = count * argument.size;
    if (bytes > kMaxInlineBytes) return {Value::Kind::bytes, bytes, nullptr};
    const size_t column = argument.size / element.columns;
    std::byte* to = room(bytes);
    std::memset(to, 0, bytes);
    for (size_t i = 0; i < all.size(); ++i) {
      std::byte* place = to + i / element.lanes * column + i % element.lanes * size_of(*element.dtype);
      if (const char* needs = store(all[i], *element.dtype, place)) {
        throw ValidationError(text(kernel_.place(argument), " is ", shown(obj), ", needs ", needs, " (",
                                   argument.type_name, ")"));
      }
    }
    return {Value::Kind::bytes, bytes, to};
  }

  Value array(const KernelArgument& argument, nb::handle obj) {
    Number number;
    const Element& element = argument.element;
    if (element.dtype && number_from(obj, number)) return numbers(argument, obj, {&number, 1});
    nb::module_ numpy = nb::module_::import_("numpy");
    nb::object contiguous = numpy.attr("ascontiguousarray")(obj);
    nb::object dtype = contiguous.attr("dtype");
    const auto bytes = nb::cast<size_t>(contiguous.attr("nbytes"));
    const auto* data =
        reinterpret_cast<const std::byte*>(nb::cast<uintptr_t>(contiguous.attr("ctypes").attr("data")));
    nb::str name(dtype);
    if (!element.dtype) {
      const auto itemsize = nb::cast<size_t>(dtype.attr("itemsize"));
      const bool structured = !dtype.attr("names").is_none();
      if (structured && itemsize != argument.size) {
        throw ValidationError(text(kernel_.place(argument), " is of a dtype of ", itemsize, " bytes, needs ",
                                   argument.size, " (one ", argument.type_name,
                                   "); numpy.dtype(..., align=True) lays fields out as C does"));
      }
      if (!structured && std::string_view(name.c_str()) != "uint8") {
        throw ValidationError(text(kernel_.place(argument), " is ", name.c_str(),
                                   ", needs a structured dtype of ", argument.size,
                                   " bytes or uint8 (the kernel has ", argument.type_name, ")"));
      }
      return copied(data, bytes);
    }
    DType type;
    if (!nb::cast<bool>(dtype.attr("isnative")) || !dtype_from_name(name.c_str(), type) ||
        type != *element.dtype) {
      throw ValidationError(text(kernel_.place(argument), " is an array of ", name.c_str(), ", needs ",
                                 *element.dtype, " (the kernel has ", argument.type_name, ")"));
    }
    const size_t each = size_t{element.lanes} * element.columns, scalar = size_of(type);
    if (bytes == 0 || bytes / scalar % each != 0) {
      throw ValidationError(text(kernel_.place(argument), " has ", bytes / scalar, " numbers, needs ", each,
                                 " (one ", argument.type_name, ") or a multiple"));
    }
    const size_t padded = bytes / scalar / each * argument.size;
    if (padded > kMaxInlineBytes) return {Value::Kind::bytes, padded, nullptr};
    std::byte* to = room(padded);
    std::memset(to, 0, padded);
    const size_t from_step = element.lanes * scalar, to_step = argument.size / element.columns;
    for (size_t i = 0; i * from_step < bytes; ++i)
      std::memcpy(to + i * to_step, data + i * from_step, from_step);
    return {Value::Kind::bytes, padded, to};
  }

  Value raw(const KernelArgument& argument, nb::handle obj) {
    Py_buffer view;
    if (PyObject_GetBuffer(obj.ptr(), &view, PyBUF_CONTIG_RO) != 0) {
      PyErr_Clear();
      refuse(argument, obj, "contiguous memory");
    }
    Value value = copied(view.buf, static_cast<size_t>(view.len));
    PyBuffer_Release(&view);
    return value;
  }

  const Kernel& kernel_;
  const size_t count_;
  std::array<Value, kMaxArguments> values_;
  size_t used_ = 0;
  alignas(16) std::byte scratch_[512];
  std::deque<std::vector<std::byte>> overflow_;
  nb::object tuple_;
  std::vector<nb::object> kept_;
};

uint64_t size_from(const Kernel& kernel, const char* what, nb::handle obj) {
  nb::object index = PyLong_Check(obj.ptr()) ? nb::borrow(obj) : nb::steal(PyNumber_Index(obj.ptr()));
  if (index.is_valid()) {
    unsigned long long size = PyLong_AsUnsignedLongLong(index.ptr());
    if (!PyErr_Occurred()) return size;
  }
  PyErr_Clear();
  throw ValidationError(text("dispatch of ", kernel.name(), ": ", what, " has ", shown(obj),
                             ", needs integers from 0 to 2^64 - 1"));
}

Extent extent_from(const Kernel& kernel, const char* what, nb::handle obj) {
  Extent extent;
  if (PyLong_Check(obj.ptr()) || PyIndex_Check(obj.ptr())) {
    extent.x = size_from(kernel, what, obj);
    return extent;
  }
  Py_ssize_t rank = PyTuple_Check(obj.ptr())  ? PyTuple_Size(obj.ptr())
                    : PyList_Check(obj.ptr()) ? PyList_Size(obj.ptr())
                                              : -1;
  if (rank < 1 || rank > 3) {
    throw ValidationError(text("dispatch of ", kernel.name(), ": ", what, " is ", shown(obj),
                               ", needs an integer or one to three of them: (width, height, depth)"));
  }
  uint64_t* sizes[] = {&extent.x, &extent.y, &extent.z};
  for (Py_ssize_t i = 0; i < rank; ++i) {
    nb::object size = nb::steal(PySequence_GetItem(obj.ptr(), i));
    if (!size.is_valid()) throw nb::python_error();
    *sizes[i] = size_from(kernel, what, size);
  }
  return extent;
}

Grid grid_from(const Kernel& kernel, nb::handle threads, nb::handle threadgroups, nb::handle grid) {
  const int given = !threads.is_none() + !threadgroups.is_none() + !grid.is_none();
  if (given != 1) {
    throw ValidationError(text("dispatch of ", kernel.name(), ": got ", given ? "more than one" : "none",
                               " of threads, threadgroups and grid, needs one"));
  }
  if (!threadgroups.is_none()) {
    return {Grid::Unit::threadgroups, extent_from(kernel, "threadgroups", threadgroups)};
  }
  if (!grid.is_none()) return {Grid::Unit::threads, extent_from(kernel, "grid", grid)};
  return {Grid::Unit::threads, extent_from(kernel, "threads", threads)};
}

// The buffers that a caller says are read or written.
class DeclaredList {
 public:
  DeclaredList(const Kernel& kernel, const char* what, nb::handle given) : given_(!given.is_none()) {
    if (!given_) return;
    const bool sequence = PyList_Check(given.ptr()) || PyTuple_Check(given.ptr());
    if (sequence) tuple_ = nb::steal(PySequence_Tuple(given.ptr()));
    for (Py_ssize_t i = 0; sequence && i < PyTuple_Size(tuple_.ptr()); ++i) {
      nb::handle item = PyTuple_GetItem(tuple_.ptr(), i);
      if (Py_TYPE(item.ptr()) != buffer_type) refuse(kernel, what, item);
      buffers_.push_back(nb::inst_ptr<Buffer>(item));
    }
    if (!sequence) refuse(kernel, what, given);
  }

  std::optional<std::span<const Buffer* const>> buffers() const {
    if (!given_) return std::nullopt;
    return std::span<const Buffer* const>(buffers_);
  }

 private:
  [[noreturn]] static void refuse(const Kernel& kernel, const char* what, nb::handle got) {
    throw ValidationError(text("dispatch of ", kernel.name(), ": ", what, " has ", shown(got),
                               ", needs a list or tuple of Buffers"));
  }

  bool given_;
  nb::object tuple_;
  std::vector<const Buffer*> buffers_;
};

}  // namespace

bool number_from(nb::handle obj, Number& out) {
  if (plain_number(obj, out)) return true;
  // NumPy's scalars and arrays without axes, those of ml_dtypes too.
  if (!nb::hasattr(obj, "dtype") || !nb::hasattr(obj, "shape")) return false;
  nb::object dtype = obj.attr("dtype"), shape = obj.attr("shape");
  if (!PyTuple_Check(shape.ptr()) || PyTuple_Size(shape.ptr()) != 0) return false;
  if (!nb::hasattr(dtype, "kind")) return false;
  const auto kind = nb::cast<std::string_view>(dtype.attr("kind"))[0];
  PyObject* plain = nullptr;
  if (kind == 'b') {
    plain = PyObject_IsTrue(obj.ptr()) == 1 ? Py_NewRef(Py_True) : Py_NewRef(Py_False);
  } else if (kind == 'i' || kind == 'u') {
    plain = PyNumber_Long(obj.ptr());
  } else if (kind == 'f' || (kind == 'V' && dtype.attr("names").is_none())) {
    plain = PyNumber_Float(obj.ptr());
  }
  nb::object number = nb::steal(plain);
  if (!number.is_valid()) {
    PyErr_Clear();
    return false;
  }
  return plain_number(number, out);
}

void dispatch(nb::handle encoder, nb::handle kernel, nb::handle threads, nb::handle threadgroups,
              nb::handle grid, nb::handle threadgroup, nb::handle args, nb::handle reads, nb::handle writes,
              nb::handle label) {
  if (Py_TYPE(kernel.ptr()) != kernel_type) {
    throw nb::type_error(text("dispatch: kernel is of type ", class_of(kernel),
                              ", needs to be a metalloid.Kernel; Library.kernel() makes one")
                             .c_str());
  }
  const Kernel& wanted = *nb::inst_ptr<Kernel>(kernel);
  const Grid size = grid_from(wanted, threads, threadgroups, grid);
  const Extent threads_each = extent_from(wanted, "threadgroup", threadgroup);
  Call call(wanted);
  call.take(args);
  DeclaredList read(wanted, "reads", reads), written(wanted, "writes", writes);
  Declared declared{read.buffers(), written.buffers()};
  if (!label.is_none()) {
    if (!PyUnicode_Check(label.ptr())) {
      throw ValidationError(
          text("dispatch of ", wanted.name(), ": label is ", shown(label), ", needs a str"));
    }
    declared.label = nb::cast<std::string_view>(label);
  }
  encoder_from(encoder, "dispatch").dispatch(wanted, call.values(), size, threads_each, declared);
}

InlineValue inline_value(const Kernel& kernel, nb::handle argument, nb::handle value) {
  nb::dict named;
  named[argument] = value;
  Call call(kernel);
  call.take(named);
  const size_t position = kernel.position(nb::cast<std::string_view>(argument));
  const KernelArgument& of = kernel.arguments()[position];
  const Value& got = call.values()[position];
  if (got.kind != Value::Kind::bytes || !got.object) {
    throw ValidationError(text(kernel.place(of), " is ", shown(value), ", needs a value of at most ",
                               kMaxInlineBytes, " bytes"));
  }
  const auto* bytes = static_cast<const std::byte*>(got.object);
  return {static_cast<uint8_t>(of.index), {bytes, bytes + got.length}};
}

void init_dispatch() {
  buffer_type = reinterpret_cast<PyTypeObject*>(nb::type<Buffer>().ptr());
  reinterpreted_type = reinterpret_cast<PyTypeObject*>(nb::type<Reinterpreted>().ptr());
  memory_type = reinterpret_cast<PyTypeObject*>(nb::type<ThreadgroupMemory>().ptr());
  kernel_type = reinterpret_cast<PyTypeObject*>(nb::type<Kernel>().ptr());
}

}  // namespace metalloid::bindings
