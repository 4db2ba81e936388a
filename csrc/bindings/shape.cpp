#include "bindings/bindings.h"

namespace metalloid::bindings {

namespace {

uint64_t size_from(nb::handle size, const char* operation) {
  nb::object index = nb::steal(PyNumber_Index(size.ptr()));
  if (!index.is_valid()) {
    PyErr_Clear();
    throw ValidationError(
        text(operation, ": shape holds ", nb::repr(size).c_str(), ", needs integers of at least 0"));
  }
  int overflow = 0;
  long long value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow > 0) {
    throw ValidationError(
        text(operation, ": shape holds ", nb::str(index).c_str(), ", needs less than 2^63"));
  }
  if (overflow < 0 || value < 0) {
    throw ValidationError(text(operation, ": shape holds ", nb::str(index).c_str(), ", needs at least 0"));
  }
  return static_cast<uint64_t>(value);
}

}  // namespace

Shape shape_from(nb::handle sizes, const char* operation) {
  Shape shape;
  if (PyIndex_Check(sizes.ptr())) {
    shape.push_back(size_from(sizes, operation));
    return shape;
  }
  nb::object iterator = nb::steal(PyObject_GetIter(sizes.ptr()));
  if (!iterator.is_valid()) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
    PyErr_Clear();
    throw ValidationError(text(operation, ": shape is ", nb::repr(sizes).c_str(),
                               ", needs an integer or a sequence of integers"));
  }
  while (nb::object size = nb::steal(PyIter_Next(iterator.ptr()))) {
    if (shape.rank() == Shape::kMaxRank) {
      throw ValidationError(text(operation, ": shape has more than ", Shape::kMaxRank,
                                 " axes, needs at most ", Shape::kMaxRank));
    }
    shape.push_back(size_from(size, operation));
  }
  if (PyErr_Occurred()) throw nb::python_error();
  return shape;
}

nb::tuple tuple_of(const Shape& shape) {
  nb::object tuple = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(shape.rank())));
  for (size_t i = 0; i < shape.rank(); ++i) {
    // Steals the reference to the integer.
    PyTuple_SetItem(tuple.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromUnsignedLongLong(shape[i]));
  }
  return nb::borrow<nb::tuple>(tuple);
}

}  // namespace metalloid::bindings
