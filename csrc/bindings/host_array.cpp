#include "bindings/host_array.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstring>

#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

nb::module_ numpy() { return nb::module_::import_("numpy"); }

std::string class_of(nb::handle obj) { return nb::cast<std::string>(nb::inst_name(obj)); }

// DLPack's device types that the host can read.
bool on_host(int device_type) {
  return device_type == nb::device::cpu::value || device_type == nb::device::cuda_host::value ||
         device_type == nb::device::rocm_host::value;
}

// What the producer hands out, as asked for in the current or in the original form of the protocol.
nb::object dlpack_capsule(nb::handle obj) {
  nb::object method = obj.attr("__dlpack__");
  try {
    return method(nb::arg("max_version") = nb::make_tuple(1, 0));
  } catch (nb::python_error& e) {
    if (!e.matches(PyExc_TypeError)) throw;
  }
  return method();
}

template <class Array>
nb::object numpy_from(const Array& array) {
  // The tensor lives as long as the NumPy array.
  nb::capsule owner(new Array(array), [](void* tensor) noexcept { delete static_cast<Array*>(tensor); });
  std::vector<size_t> shape;
  std::vector<int64_t> strides;
  for (size_t i = 0; i < array.ndim(); ++i) {
    shape.push_back(array.shape(i));
    strides.push_back(array.stride(i));
  }
  // NumPy has no code for bf16: it travels as integers of its size.
  nb::dlpack::dtype type = array.dtype();
  bool bf16 = type == nb::dlpack::dtype{static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
  if (bf16) type = nb::dtype<uint16_t>();
  using Exported = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(array.data())>>,
                                      nb::ndarray<nb::numpy, nb::ro>, nb::ndarray<nb::numpy>>;
  nb::object result =
      nb::cast(Exported(array.data(), shape.size(), shape.data(), owner, strides.data(), type));
  return bf16 ? result.attr("view")(nb::module_::import_("ml_dtypes").attr("bfloat16")) : result;
}

nb::object numpy_from_dlpack(nb::handle obj, const char* operation) {
  auto device = nb::borrow<nb::sequence>(obj.attr("__dlpack_device__")());
  int device_type = nb::cast<int>(nb::int_(device[0]));
  if (!on_host(device_type)) {
    throw ValidationError(text(operation, ": obj (", class_of(obj),
                               ") is in the memory of DLPack device type ", device_type,
                               ", needs to be in host memory; copy it to the CPU first"));
  }
  nb::object capsule = dlpack_capsule(obj);
  // Each is tried on the same capsule, which stays whole when the answer is no.
  if (nb::ndarray<> array; nb::try_cast(capsule, array)) return numpy_from(array);
  if (nb::ndarray<nb::ro> array; nb::try_cast(capsule, array)) return numpy_from(array);
  throw ValidationError(
      text(operation, ": obj (", class_of(obj), ") gives a DLPack tensor that cannot be read"));
}

nb::str dtype_name(nb::handle array) {
  nb::object dtype = array.attr("dtype");  // an accessor would be taken for a string as it is
  return nb::str(dtype);
}

// The element type of an array whose elements can be taken as they are.
bool element_type(nb::handle array, DType& out) {
  nb::object dtype = array.attr("dtype");
  return nb::cast<bool>(dtype.attr("isnative")) &&
         dtype_from_name(nb::cast<std::string>(dtype.attr("name")), out);
}

std::byte* data_of(nb::handle array) {
  return reinterpret_cast<std::byte*>(nb::cast<uintptr_t>(array.attr("ctypes").attr("data")));
}

bool c_contiguous(nb::handle array) { return nb::cast<bool>(array.attr("flags").attr("c_contiguous")); }

// `array` has the shape of `buffer`, which nobody else uses.
void fill(const Buffer& buffer, nb::handle array) {
  DType type;
  if (element_type(array, type) && type == buffer.dtype() && c_contiguous(array)) {
    const std::byte* from = data_of(array);
    NoGil nogil;
    if (buffer.nbytes()) std::memmove(buffer.address(), from, buffer.nbytes());
    return;
  }
  // NumPy lets go of the GIL by itself.
  numpy().attr("copyto")(numpy_view(buffer), array, nb::arg("casting") = "unsafe");
}

// Refuses what is no real number: text, objects, dates, records, complex numbers.
void check_numeric(nb::handle array, const char* operation) {
  nb::object dtype = array.attr("dtype");
  auto kind = nb::cast<std::string>(dtype.attr("kind"));
  if (std::strchr("biuf", kind[0])) return;
  if (nb::cast<std::string>(dtype.attr("type").attr("__module__")) == "ml_dtypes") return;
  throw ValidationError(
      text(operation, ": obj has elements of type ", dtype_name(array).c_str(), ", needs real numbers"));
}

void release_owner(void* owner) {
  // At its end there is no interpreter to give the reference back to.
  TakesGil takes;
  if (!takes.allowed() || !nb::is_alive()) return;
  nb::gil_scoped_acquire gil;
  takes.done();
  Py_DECREF(static_cast<PyObject*>(owner));
}

}  // namespace

nb::object as_numpy(nb::handle obj, const char* operation, bool may_copy) {
  if (Buffer* buffer = nullptr; nb::try_cast(obj, buffer) && buffer) return numpy_view(*buffer);
  nb::module_ np = numpy();
  if (nb::isinstance(obj, np.attr("ndarray"))) return nb::borrow(obj);
  if (nb::hasattr(obj, "__dlpack__") && nb::hasattr(obj, "__dlpack_device__")) {
    return numpy_from_dlpack(obj, operation);
  }
  bool scalar = nb::isinstance(obj, np.attr("generic"));
  if (!scalar && PyObject_CheckBuffer(obj.ptr())) {
    return np.attr("asarray")(nb::steal(PyMemoryView_FromObject(obj.ptr())));
  }
  if (!scalar && (nb::hasattr(obj, "__array_interface__") || nb::hasattr(obj, "__array__"))) {
    return np.attr("asarray")(obj);
  }
  if (!may_copy) {
    throw ValidationError(
        text(operation, ": obj is of type ", class_of(obj),
             ", needs a NumPy array, a DLPack producer or an object with the buffer protocol; "
             "Device.array() copies"));
  }
  return np.attr("asarray")(obj);
}

nb::object numpy_view(const Buffer& buffer) {
  wait_to_read(buffer);
  nb::object as_array = numpy().attr("asarray");
  if (buffer.dtype() != DType::bfloat16) return as_array(nb::cast(buffer));
  nb::object bits = as_array(nb::cast(buffer.view(DType::uint16)));
  return bits.attr("view")(nb::module_::import_("ml_dtypes").attr("bfloat16"));
}

Buffer copy_to(Device& device, nb::handle obj, nb::handle dtype) {
  constexpr const char* operation = "Device.array";
  nb::object array = as_numpy(obj, operation, true);
  check_numeric(array, operation);
  DType type;
  if (!dtype.is_none()) {
    type = dtype_from(dtype, operation);
  } else if (!dtype_from_name(nb::cast<std::string>(array.attr("dtype").attr("name")), type)) {
    // Python's own floats come as float64 for want of something better; a float64 array means it.
    bool python_numbers = PyList_Check(obj.ptr()) || PyTuple_Check(obj.ptr()) || PyFloat_Check(obj.ptr());
    if (!python_numbers || std::string_view(dtype_name(array).c_str()) != "float64") {
      throw ValidationError(text(operation, ": obj has elements of type ", dtype_name(array).c_str(),
                                 ", which no device has, needs dtype= to convert, e.g. dtype=float32"));
    }
    type = DType::float32;
  }
  Buffer buffer = device.empty(shape_from(array.attr("shape"), operation), type, operation, Contents::any);
  fill(buffer, array);
  return buffer;
}

Buffer share(Device& device, nb::handle obj) {
  constexpr const char* operation = "Device.wrap";
  nb::object array = as_numpy(obj, operation, false);
  DType type;
  if (!element_type(array, type)) {
    throw ValidationError(text(operation, ": obj has elements of type ", dtype_name(array).c_str(),
                               ", needs a type that metalloid has, in native byte order; Device.array() "
                               "copies and converts"));
  }
  if (!c_contiguous(array)) {
    throw ValidationError(text(operation, ": obj has shape ", nb::repr(array.attr("shape")).c_str(),
                               " and strides of ", nb::repr(array.attr("strides")).c_str(),
                               " bytes, needs to be C-contiguous; Device.array() copies"));
  }
  bool readonly = !nb::cast<bool>(array.attr("flags").attr("writeable"));
  Buffer buffer = device.wrap(data_of(array), shape_from(array.attr("shape"), operation), type, readonly,
                              release_owner, array.ptr());
  array.release();  // now the storage's
  return buffer;
}

void copy_into(const Buffer& buffer, nb::handle obj) {
  constexpr const char* operation = "Buffer.copy_from";
  if (buffer.readonly()) {
    throw ValidationError(text(operation, ": the buffer is read-only, needs memory that may be written"));
  }
  nb::object array = as_numpy(obj, operation, true);
  check_numeric(array, operation);
  Shape shape = shape_from(array.attr("shape"), operation);
  if (shape != buffer.shape()) {
    throw ValidationError(text(operation, ": obj has shape ", shape, ", needs ", buffer.shape()));
  }
  wait_to_write(buffer);
  fill(buffer, array);
}

}  // namespace metalloid::bindings
