#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "bindings/bindings.h"

namespace metalloid::bindings {

namespace {

// Never given back: types are compared until the very end of the interpreter.
PyObject* objects[kDTypeCount];

const char* attribute(DType type) { return type == DType::bool_ ? "bool_" : info(type).name.data(); }

nb::object numpy_dtype(DType type) {
  nb::object spec = type == DType::bfloat16 ? nb::module_::import_("ml_dtypes").attr("bfloat16")
                                            : nb::object(nb::str(info(type).name.data()));
  return nb::module_::import_("numpy").attr("dtype")(spec);
}

bool convert(nb::handle spec, DType& out) {
  ElementType* element = nullptr;
  if (nb::try_cast(spec, element) && element) {
    out = element->type;
    return true;
  }
  if (nb::isinstance<nb::str>(spec)) return dtype_from_name(nb::cast<std::string_view>(spec), out);
  // NumPy knows what else can be a type: dtypes and scalar types, also of ml_dtypes.
  bool is_type = PyType_Check(spec.ptr());
  nb::object numpy = nb::module_::import_("numpy");
  if (!is_type && !nb::isinstance(spec, numpy.attr("dtype"))) return false;
  try {
    nb::object dtype = numpy.attr("dtype")(spec);
    return nb::cast<bool>(dtype.attr("isnative")) &&
           dtype_from_name(nb::cast<std::string_view>(dtype.attr("name")), out);
  } catch (nb::python_error&) {
    return false;
  }
}

}  // namespace

nb::object dtype_object(DType type) { return nb::borrow(objects[static_cast<size_t>(type)]); }

DType dtype_from(nb::handle spec, const char* operation) {
  DType type;
  if (convert(spec, type)) return type;
  std::string all;
  for (const DTypeInfo& each : kDTypes) all.append(all.empty() ? "" : ", ").append(each.name);
  throw ValidationError(text(operation, ": dtype is ", nb::repr(spec).c_str(), ", needs one of ", all,
                             " in native byte order"));
}

void bind_dtype(nb::module_& m) {
  nb::class_<ElementType>(
      m, "DType",
      "The type of a buffer's elements. The instances are attributes of the module: float32,\n"
      "float16, bfloat16, int8 ... int64, uint8 ... uint64 and bool_.\n\n"
      "Wherever a dtype is wanted, a NumPy dtype, a scalar type or a name does as well.")
      .def_prop_ro(
          "name", [](const ElementType& self) { return info(self.type).name; }, "NumPy's name of the type.")
      .def_prop_ro(
          "itemsize", [](const ElementType& self) { return size_of(self.type); }, "Bytes of one element.")
      .def_prop_ro(
          "numpy", [](const ElementType& self) { return numpy_dtype(self.type); },
          nb::sig("def numpy(self) -> NumpyDType"), "The NumPy dtype; that of ``ml_dtypes`` for bfloat16.")
      .def(
          "__eq__",
          [](const ElementType& self, nb::handle other) {
            DType type;
            return convert(other, type) && type == self.type;
          },
          nb::arg("other").none(), nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const ElementType& self) { return nb::hash(nb::str(info(self.type).name.data())); })
      .def("__repr__",
           [](const ElementType& self) { return std::string("metalloid.") + attribute(self.type); })
      .def("__reduce__", [](const ElementType& self) { return attribute(self.type); });
  for (size_t i = 0; i < kDTypeCount; ++i) {
    auto type = static_cast<DType>(i);
    objects[i] = nb::cast(ElementType{type}).release().ptr();
    m.attr(attribute(type)) = dtype_object(type);
  }
}

}  // namespace metalloid::bindings
