#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstring>

#include "bindings/bindings.h"
#include "bindings/host_array.h"
#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

// NumPy takes every failure of the buffer protocol for "has none" and goes on to __array_interface__, which
// would swallow a Ctrl-C during the wait: the next access to the same memory by this thread raises it again.
thread_local const Storage* interrupted = nullptr;

void raise_interrupt_again(const Buffer& buffer) {
  if (std::exchange(interrupted, nullptr) != buffer.storage()) return;
  PyErr_SetNone(PyExc_KeyboardInterrupt);
  throw nb::python_error();
}

// Shape and strides of an exported view, freed with it.
struct ViewLayout {
  Py_ssize_t shape[Shape::kMaxRank];
  Py_ssize_t strides[Shape::kMaxRank];
};

void export_view(PyObject* self, const Buffer& buffer, Py_buffer* view, int flags) {
  const DTypeInfo& type = info(buffer.dtype());
  if (!type.format) {
    PyErr_Format(PyExc_BufferError,
                 "Buffer: the buffer protocol has no code for %s; use numpy(), or view(metalloid.uint16)",
                 type.name.data());
    throw nb::python_error();
  }
  if ((flags & PyBUF_WRITABLE) && buffer.readonly()) {
    PyErr_SetString(PyExc_BufferError, "Buffer: it is read-only, and a writable view was asked for");
    throw nb::python_error();
  }
  interrupted = nullptr;
  try {
    wait_to_read(buffer);
  } catch (nb::python_error& e) {
    if (e.matches(PyExc_KeyboardInterrupt)) interrupted = buffer.storage();
    throw;
  }
  auto* layout = new ViewLayout;
  auto stride = static_cast<Py_ssize_t>(type.size);
  for (size_t i = buffer.shape().rank(); i-- > 0;) {
    layout->shape[i] = static_cast<Py_ssize_t>(buffer.shape()[i]);
    layout->strides[i] = stride;
    stride *= layout->shape[i];
  }
  view->obj = Py_NewRef(self);
  view->buf = buffer.address();
  view->len = static_cast<Py_ssize_t>(buffer.nbytes());
  view->itemsize = type.size;
  view->readonly = buffer.readonly();
  view->ndim = static_cast<int>(buffer.shape().rank());
  view->format = (flags & PyBUF_FORMAT) ? const_cast<char*>(type.format) : nullptr;
  view->shape = (flags & PyBUF_ND) ? layout->shape : nullptr;
  view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? layout->strides : nullptr;
  view->suboffsets = nullptr;
  view->internal = layout;
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  view->obj = nullptr;
  try {
    export_view(self, *nb::inst_ptr<Buffer>(self), view, flags);
    return 0;
  } catch (nb::python_error& e) {
    e.restore();
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_BufferError, e.what());
  }
  return -1;
}

void release_buffer(PyObject*, Py_buffer* view) { delete static_cast<ViewLayout*>(view->internal); }

PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                       {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
                       {0, nullptr}};

nb::dlpack::dtype dlpack_type(DType type) {
  using Code = nb::dlpack::dtype_code;
  Code code = Code::Bfloat;
  switch (info(type).kind) {
    case 'f':
      code = Code::Float;
      break;
    case 'i':
      code = Code::Int;
      break;
    case 'u':
      code = Code::UInt;
      break;
    case 'b':
      code = Code::Bool;
      break;
  }
  return {static_cast<uint8_t>(code), static_cast<uint8_t>(8 * size_of(type)), 1};
}

template <class Array>
nb::object dlpack_export(nb::handle owner, const Buffer& buffer, const nb::kwargs& arguments) {
  std::array<size_t, Shape::kMaxRank> shape;
  std::copy(buffer.shape().begin(), buffer.shape().end(), shape.begin());
  Array array(buffer.address(), buffer.shape().rank(), shape.data(), owner, nullptr,
              dlpack_type(buffer.dtype()), nb::device::cpu::value, 0);
  return nb::cast(array).attr("__dlpack__")(**arguments);
}

nb::object dlpack(nb::handle self, nb::kwargs arguments) {
  const Buffer& buffer = nb::cast<const Buffer&>(self);
  raise_interrupt_again(buffer);
  wait_to_read(buffer);
  if (arguments.contains("copy") && arguments["copy"].is(nb::handle(Py_True))) {
    Buffer copy = copy_to(buffer.device(), self, nb::none());
    PyDict_DelItemString(arguments.ptr(), "copy");
    nb::object owner = nb::cast(copy);
    return dlpack_export<nb::ndarray<nb::array_api>>(owner, copy, arguments);
  }
  if (!buffer.readonly()) return dlpack_export<nb::ndarray<nb::array_api>>(self, buffer, arguments);
  // The first version of the protocol cannot say that memory is read-only.
  if (!arguments.contains("max_version") || arguments["max_version"].is_none()) {
    PyErr_SetString(PyExc_BufferError,
                    "Buffer.__dlpack__: it is read-only, which needs a consumer of DLPack 1.0; or copy");
    throw nb::python_error();
  }
  return dlpack_export<nb::ndarray<nb::array_api, nb::ro>>(self, buffer, arguments);
}

nb::object array_interface(const Buffer& buffer) {
  const DTypeInfo& type = info(buffer.dtype());
  if (!type.format) {
    // As if it were not there: NumPy goes on to __array__.
    PyErr_Format(PyExc_AttributeError, "Buffer: __array_interface__ has no code for %s", type.name.data());
    throw nb::python_error();
  }
  raise_interrupt_again(buffer);
  wait_to_read(buffer);
  nb::dict interface;
  interface["shape"] = tuple_of(buffer.shape());
  interface["typestr"] = (type.size == 1 ? '|' : '<') + std::string(1, type.kind) + std::to_string(type.size);
  interface["data"] = nb::make_tuple(reinterpret_cast<uintptr_t>(buffer.address()), buffer.readonly());
  interface["strides"] = nb::none();
  interface["version"] = 3;
  return interface;
}

nb::object to_array(const Buffer& buffer, nb::handle dtype, nb::handle copy) {
  raise_interrupt_again(buffer);
  nb::object array = numpy_view(buffer);
  bool convert = !dtype.is_none() && !array.attr("dtype").equal(dtype);
  bool refuse_copy = copy.is(nb::handle(Py_False));
  if (convert && refuse_copy) {
    throw nb::value_error(text("Buffer.__array__: ", buffer.dtype(), " as ", nb::str(dtype).c_str(),
                               " needs a copy, and copy=False was asked for")
                              .c_str());
  }
  if (convert) return array.attr("astype")(dtype);
  return copy.is(nb::handle(Py_True)) ? array.attr("copy")() : array;
}

Buffer get_item(const Buffer& buffer, nb::handle key) {
  if (PyIndex_Check(key.ptr())) {
    Py_ssize_t i = PyNumber_AsSsize_t(key.ptr(), PyExc_IndexError);
    if (i == -1 && PyErr_Occurred()) throw nb::python_error();
    return buffer.index(i);
  }
  if (!PySlice_Check(key.ptr())) {
    throw nb::type_error(text("Buffer: index is ", nb::repr(key).c_str(),
                              ", needs an integer or a slice of the ", "leading axis")
                             .c_str());
  }
  Py_ssize_t start, stop, step;
  if (PySlice_Unpack(key.ptr(), &start, &stop, &step) < 0) throw nb::python_error();
  if (step != 1) {
    throw ValidationError(text("Buffer: slice has step ", step, ", needs 1 (views are contiguous)"));
  }
  if (buffer.shape().rank() == 0) return buffer.slice(0, 0);
  Py_ssize_t count = PySlice_AdjustIndices(static_cast<Py_ssize_t>(buffer.shape()[0]), &start, &stop, step);
  return buffer.slice(static_cast<uint64_t>(start), static_cast<uint64_t>(count));
}

// One size may be -1: whatever is left.
Buffer reshape(const Buffer& buffer, nb::args sizes) {
  nb::object all = sizes;
  if (sizes.size() == 1 && !PyIndex_Check(sizes[0].ptr())) all = sizes[0];
  nb::list given;
  for (nb::handle size : all) given.append(size);
  size_t unknown = given.size();
  for (size_t i = 0; i < given.size(); ++i) {
    if (!given[i].equal(nb::int_(-1))) continue;
    if (unknown != given.size())
      throw ValidationError("Buffer.reshape: shape has two sizes of -1, needs at most one");
    unknown = i;
    given[i] = nb::int_(1);
  }
  Shape shape = shape_from(given, "Buffer.reshape");
  if (unknown != shape.rank()) {
    uint64_t others = 0;
    if (!shape.product(1, others) || others == 0 || buffer.size() % others != 0) {
      throw ValidationError(text("Buffer.reshape: no size for -1 gives ", buffer.size(),
                                 " elements, the others make ", others));
    }
    shape[unknown] = buffer.size() / others;
  }
  return buffer.reshape(shape);
}

size_t length(const Buffer& buffer) {
  if (buffer.shape().rank() == 0) throw nb::type_error("Buffer: len() of shape [], needs at least one axis");
  return buffer.shape()[0];
}

// Lists and Python numbers come from NumPy, for which bf16 is foreign.
nb::object host_values(const Buffer& buffer) {
  nb::object array = numpy_view(buffer);
  return buffer.dtype() == DType::bfloat16 ? array.attr("astype")("float32") : array;
}

nb::object item(const Buffer& buffer) {
  if (buffer.size() != 1) {
    throw ValidationError(text("Buffer.item: the buffer has ", buffer.size(), " elements, needs 1"));
  }
  return host_values(buffer).attr("item")();
}

std::string repr(const Buffer& buffer) {
  return text("Buffer(shape=", buffer.shape(), ", dtype=", buffer.dtype(), ", device='",
              buffer.device().name(), "'", buffer.readonly() ? ", readonly)" : ")");
}

}  // namespace

void wait_to_read(const Buffer& buffer) {
  if (buffer.busy()) {
    NoGil nogil;
    buffer.wait_to_read();
  } else {
    buffer.wait_to_read();
  }
  issue_warnings(buffer.device());
}

void wait_to_write(const Buffer& buffer) {
  if (!buffer.busy()) return buffer.wait_to_write();
  NoGil nogil;
  buffer.wait_to_write();
}

void bind_buffer(nb::module_& m) {
  nb::class_<Buffer>(
      m, "Buffer", nb::type_slots(slots), nb::is_weak_referenceable(),
      "Typed memory that the host and a device share, made by a Device.\n\n"
      "Always contiguous, the innermost axis last. Indexing, slicing, reshape, view and flatten share\n"
      "the memory and keep it alive. Every access from the host (numpy, memoryview, DLPack, tolist,\n"
      "item, copy_from) first waits for committed work that uses the memory, and raises DeviceError\n"
      "if that work failed, KernelFault if a checked device found a kernel of it doing wrong.")
      .def_prop_ro(
          "shape", [](const Buffer& self) { return tuple_of(self.shape()); },
          nb::sig("def shape(self) -> tuple[int, ...]"), "The sizes of the axes.")
      .def_prop_ro(
          "dtype",
          [](const Buffer& self) { return nb::typed<nb::object, ElementType>(dtype_object(self.dtype())); },
          "The type of the elements.")
      .def_prop_ro(
          "ndim", [](const Buffer& self) { return self.shape().rank(); }, "The number of axes.")
      .def_prop_ro("size", &Buffer::size, "The number of elements.")
      .def_prop_ro("nbytes", &Buffer::nbytes, "The bytes of all elements.")
      .def_prop_ro(
          "itemsize", [](const Buffer& self) { return size_of(self.dtype()); }, "The bytes of one element.")
      .def_prop_ro("offset", &Buffer::offset, "Where the buffer starts in its allocation, in bytes.")
      .def_prop_ro(
          "address", [](const Buffer& self) { return reinterpret_cast<uintptr_t>(self.address()); },
          "The address of the first element in the host's memory.")
      .def_prop_ro("device", &Buffer::device, nb::rv_policy::reference, nb::sig("def device(self) -> Device"),
                   "The device that made it.")
      .def_prop_ro("readonly", &Buffer::readonly,
                   "Whether the memory may not be written, as that of a file mapped for reading.")
      .def("__len__", length)
      .def("__getitem__", get_item, nb::arg("key"),
           nb::sig("def __getitem__(self, key: int | slice, /) -> Buffer"),
           "A view of one element or a range of the leading axis. Slices have step 1.")
      .def("reshape", reshape, nb::sig("def reshape(self, *shape: int | Sequence[int]) -> Buffer"),
           "A view of another shape with the same number of elements. One size may be -1.\n\n"
           "Raises ValidationError if the number of elements differs.")
      .def(
          "view",
          [](const Buffer& self, nb::handle dtype) { return self.view(dtype_from(dtype, "Buffer.view")); },
          nb::arg("dtype").none(), nb::sig("def view(self, dtype: DTypeLike) -> Buffer"),
          "The same bytes as another type; the last axis takes up a change of element size.\n\n"
          "Raises ValidationError if the last axis or the offset is no multiple of the new element size.")
      .def("flatten", &Buffer::flatten, "A view with one axis.")
      .def("numpy", numpy_view, nb::sig("def numpy(self) -> NDArray"),
           "The memory as a NumPy array, without a copy; bfloat16 as ``ml_dtypes.bfloat16``.")
      .def(
          "tolist", [](const Buffer& self) { return host_values(self).attr("tolist")(); },
          nb::sig("def tolist(self) -> list"), "The elements as nested lists of Python numbers.")
      .def("item", item, nb::sig("def item(self) -> bool | int | float"),
           "The only element as a Python number. Raises ValidationError if there is not exactly one.")
      .def("copy_from", copy_into, nb::arg("obj").none(), nb::sig("def copy_from(self, obj: object) -> None"),
           "Overwrites the elements with those of an array-like of the same shape, converted as NumPy\n"
           "assignment does.\n\n"
           "Raises ValidationError if the shapes differ or the buffer is read-only.")
      .def_prop_ro("__array_interface__", array_interface, nb::sig("def __array_interface__(self) -> dict"))
      .def("__array__", to_array, nb::arg("dtype") = nb::none(), nb::arg("copy") = nb::none(),
           nb::sig("def __array__(self, dtype: NumpyDType | None = None, copy: bool | None = None) -> "
                   "NDArray"))
      .def("__dlpack__", dlpack,
           nb::sig(
               "def __dlpack__(self, *, stream: object = None, max_version: tuple[int, int] | None = None, "
               "dl_device: tuple[int, int] | None = None, copy: bool | None = None) -> object"))
      .def(
          "__dlpack_device__", [](const Buffer&) { return nb::make_tuple(int{nb::device::cpu::value}, 0); },
          nb::sig("def __dlpack_device__(self) -> tuple[int, int]"))
      .def("__repr__", repr);
}

}  // namespace metalloid::bindings
