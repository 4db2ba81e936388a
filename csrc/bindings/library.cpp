#include "metalloid/library.h"

#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "bindings/bindings.h"
#include "bindings/dispatch.h"
#include "metalloid/compile.h"
#include "metalloid/device.h"
#include "metalloid/include.h"

namespace metalloid::bindings {

namespace {

constexpr const char* kCompile = "Device.compile";

std::string class_of(nb::handle obj) { return nb::cast<std::string>(nb::inst_name(obj)); }

[[noreturn]] void refuse(const char* argument, nb::handle got, const char* needs) {
  throw ValidationError(text(kCompile, ": ", argument, " is of type ", class_of(got), ", needs ", needs));
}

std::string string_from(const char* argument, nb::handle obj, const char* needs) {
  if (!PyUnicode_Check(obj.ptr())) refuse(argument, obj, needs);
  return nb::cast<std::string>(obj);
}

// A str, or what has __fspath__.
std::string path_from(const char* argument, nb::handle obj) {
  nb::object path = nb::steal(PyOS_FSPath(obj.ptr()));
  if (!path.is_valid()) PyErr_Clear();
  if (!path.is_valid() || !PyUnicode_Check(path.ptr())) refuse(argument, obj, "a path");
  return nb::cast<std::string>(path);
}

// Text is told from a path by what no sensible path has.
bool is_source(std::string_view text) { return text.find_first_of("\n{") != std::string_view::npos; }

void take_source(nb::handle source, CompileRequest& request) {
  if (PyUnicode_Check(source.ptr())) {
    request.source = nb::cast<std::string>(source);
    if (is_source(request.source)) return;
    if (!request.source.ends_with(".metal") && !request.source.ends_with(".h")) {
      throw ValidationError(text(kCompile, ": source is \"", request.source,
                                 "\", needs the text of a shader or the path of a .metal file"));
    }
    request.path = std::move(request.source);
  } else if (nb::hasattr(source, "__fspath__")) {
    request.path = path_from("source", source);
  } else {
    refuse("source", source, "a str or a path");
  }
  std::optional<std::string> text_of_file = read_file(request.path);
  if (!text_of_file) throw ValidationError(text(kCompile, ": cannot read the file \"", request.path, '"'));
  request.source = std::move(*text_of_file);
}

nb::dict dict_from(const char* argument, nb::handle mapping) {
  if (!nb::hasattr(mapping, "keys")) refuse(argument, mapping, "a dict");
  nb::object dict = nb::steal(PyDict_New());
  if (PyDict_Merge(dict.ptr(), mapping.ptr(), 1) != 0) throw nb::python_error();
  return nb::borrow<nb::dict>(dict);
}

std::string macro_from(nb::handle value) {
  if (value.is_none()) return "";
  if (PyBool_Check(value.ptr())) return value.ptr() == Py_True ? "1" : "0";
  if (PyUnicode_Check(value.ptr())) return nb::cast<std::string>(value);
  if (PyLong_Check(value.ptr()) || PyFloat_Check(value.ptr())) return nb::str(value).c_str();
  refuse("a value of macros", value, "a str, number, bool or None");
}

ConstantValue constant_from(nb::handle key, nb::handle value) {
  ConstantValue constant;
  if (PyUnicode_Check(key.ptr())) {
    constant.name = nb::cast<std::string>(key);
  } else if (!PyBool_Check(key.ptr()) && PyLong_Check(key.ptr()) && nb::try_cast(key, constant.index)) {
    // by index
  } else {
    throw ValidationError(text("Library.kernel: constants has the key ", nb::repr(key).c_str(),
                               ", needs the name or the index of a function constant"));
  }
  Number number;
  if (number_from(value, number)) {
    constant.lanes.push_back(number);
  } else if (!PyUnicode_Check(value.ptr()) && PySequence_Check(value.ptr()) &&
             PySequence_Size(value.ptr()) <= 4) {
    for (nb::handle lane : nb::borrow<nb::sequence>(value)) {
      if (number_from(lane, number)) constant.lanes.push_back(number);
    }
  }
  PyErr_Clear();
  if (constant.lanes.empty()) {
    throw ValidationError(text("Library.kernel: constant ", nb::repr(key).c_str(), " is ",
                               nb::repr(value).c_str(),
                               ", needs a number, or a sequence of them for a vector"));
  }
  return constant;
}

nb::object kernel_of(Library& library, std::string_view name, nb::handle constants) {
  std::vector<ConstantValue> values;
  if (!constants.is_none()) {
    if (!nb::hasattr(constants, "keys")) {
      throw ValidationError(text("Library.kernel: constants is of type ", class_of(constants),
                                 ", needs a dict of names or indices"));
    }
    for (auto [key, value] : dict_from("constants", constants)) values.push_back(constant_from(key, value));
  }
  std::shared_ptr<const Kernel> kernel;
  {
    NoGil nogil;
    kernel = library.kernel(name, values);
  }
  return nb::cast(std::const_pointer_cast<Kernel>(kernel));
}

// Asks the package, whose Python half knows where things are installed.
software::Toolchain find_toolchain() {
  software::Toolchain toolchain;
  TakesGil takes;
  if (!takes.allowed()) {
    toolchain.missing = "the interpreter is ending";
    return toolchain;
  }
  nb::gil_scoped_acquire gil;
  takes.done();
  try {
    nb::object found = nb::module_::import_("metalloid._jit").attr("find_toolchain")();
    toolchain.compiler = nb::cast<std::vector<std::string>>(found.attr("compiler"));
    toolchain.missing = nb::cast<std::string>(found.attr("missing"));
    toolchain.headers = nb::cast<std::string>(found.attr("headers"));
    toolchain.cache = nb::cast<std::string>(found.attr("cache"));
  } catch (const std::exception& e) {
    toolchain.missing = text("the search for a compiler failed: ", e.what());
  }
  return toolchain;
}

std::string_view name_of(KernelArgument::Kind kind) {
  return kind == KernelArgument::Kind::buffer ? "buffer" : "threadgroup";
}

std::string_view name_of(Access access) {
  constexpr std::string_view names[] = {"read", "write", "read-write"};
  return names[static_cast<size_t>(access)];
}

nb::object dtype_of(const Element& element) {
  return element.dtype ? dtype_object(*element.dtype) : nb::none();
}

nb::tuple arguments_of(const Kernel& kernel) {
  nb::list all;
  for (const KernelArgument& argument : kernel.arguments()) all.append(nb::cast(argument));
  return nb::tuple(all);
}

nb::tuple constants_of(const std::vector<KernelConstant>& constants) {
  nb::list all;
  for (const KernelConstant& constant : constants) all.append(nb::cast(constant));
  return nb::tuple(all);
}

std::string repr(const KernelArgument& argument) {
  return text("KernelArgument(", name_of(argument.kind), ' ', argument.index, ", '", argument.name, "', ",
              argument.address_space, argument.address_space.empty() ? "" : " ", argument.type_name, ", ",
              name_of(argument.access), argument.active ? ")" : ", not active)");
}

}  // namespace

nb::object compile(Device& device, nb::handle source, nb::handle name, nb::handle include_dirs,
                   nb::handle headers, nb::handle macros, bool fast_math, nb::handle language_version,
                   nb::handle simd_width) {
  CompileRequest request;
  take_source(source, request);
  if (!name.is_none()) request.name = string_from("name", name, "a str");
  if (PyUnicode_Check(include_dirs.ptr()) || !PySequence_Check(include_dirs.ptr())) {
    refuse("include_dirs", include_dirs, "a sequence of paths");
  }
  for (nb::handle directory : nb::borrow<nb::sequence>(include_dirs)) {
    request.include_dirs.push_back(path_from("an element of include_dirs", directory));
  }
  if (!headers.is_none()) {
    for (auto [key, value] : dict_from("headers", headers)) {
      request.headers[string_from("a name of headers", key, "a str")] =
          string_from("a value of headers", value, "a str");
    }
  }
  if (!macros.is_none()) {
    for (auto [key, value] : dict_from("macros", macros)) {
      request.macros[string_from("a name of macros", key, "a str")] = macro_from(value);
    }
  }
  request.fast_math = fast_math;
  if (!language_version.is_none()) {
    request.language_version = string_from("language_version", language_version, "a str such as \"3.1\"");
  }
  if (!simd_width.is_none()) {
    request.any_simd_width = simd_width.equal(nb::str("any"));
    if (!request.any_simd_width && !simd_width.equal(nb::int_(32))) {
      throw ValidationError(
          text(kCompile, ": simd_width is ", nb::repr(simd_width).c_str(), ", needs \"any\", 32 or None"));
    }
  }
  std::shared_ptr<Library> library;
  {
    NoGil nogil;
    library = device.compile(request);
  }
  return nb::cast(library);
}

nb::object builtin_kernel(Device& device, std::string_view name, nb::handle constants) {
  return kernel_of(device.library(), name, constants);
}

void bind_library(nb::module_& m) {
  using nb::sig;
  nb::class_<KernelArgument>(m, "KernelArgument", "What a kernel says of one of its arguments.")
      .def_ro("index", &KernelArgument::index, "Of ``[[buffer(index)]]`` or ``[[threadgroup(index)]]``.")
      .def_ro("name", &KernelArgument::name, "As in the source.")
      .def_prop_ro(
          "kind", [](const KernelArgument& self) { return name_of(self.kind); },
          "\"buffer\" or \"threadgroup\".")
      .def_ro("address_space", &KernelArgument::address_space,
              "\"device\", \"constant\" or \"threadgroup\"; \"\" where Metal does not tell.")
      .def_ro("element_type", &KernelArgument::element_type,
              "\"float\", \"uint4\", ...; \"struct\" for what is no scalar, vector or matrix; \"void\" for "
              "no type.")
      .def_prop_ro(
          "dtype", [](const KernelArgument& self) { return dtype_of(self.element); },
          sig("def dtype(self) -> DType | None"), "The type of a Buffer for it; None for structs and void.")
      .def_prop_ro(
          "access", [](const KernelArgument& self) { return name_of(self.access); },
          "\"read\", \"write\" or \"read-write\".")
      .def_ro("size", &KernelArgument::size, "The bytes of one element.")
      .def_ro("alignment", &KernelArgument::alignment, "What a Buffer's offset has to be a multiple of.")
      .def_ro("active", &KernelArgument::active,
              "False if a function constant switches it off, or the compiler found that the kernel does not\n"
              "use it: then it needs no value, and one that it is given is ignored.")
      .def("__repr__", repr);

  nb::class_<KernelConstant>(m, "KernelConstant", "A function constant that a kernel has.")
      .def_ro("index", &KernelConstant::index, "Of ``[[function_constant(index)]]``.")
      .def_ro("name", &KernelConstant::name, "As in the source.")
      .def_prop_ro(
          "type", [](const KernelConstant& self) { return metalloid::name_of(self.type); },
          "\"bool\", \"uint\", ...")
      .def_ro("required", &KernelConstant::required,
              "False if the kernel asks is_function_constant_defined() first.")
      .def("__repr__", [](const KernelConstant& self) {
        return text("KernelConstant(", self.index, ", '", self.name, "', ", metalloid::name_of(self.type),
                    self.required ? ", required)" : ")");
      });

  nb::class_<Kernel>(
      m, "Kernel", nb::is_weak_referenceable(),
      "A kernel that CommandEncoder.dispatch() runs, made by Library.kernel(). Any thread may use it.")
      .def_prop_ro("name", &Kernel::name, "The name in the library.")
      .def_prop_ro("device", &Kernel::device, nb::rv_policy::reference, sig("def device(self) -> Device"),
                   "The device that it is compiled for.")
      .def_prop_ro("arguments", arguments_of, sig("def arguments(self) -> tuple[KernelArgument, ...]"),
                   "Its arguments in order of position: buffers by index, then threadgroup memory by index.")
      .def_prop_ro(
          "constants", [](const Kernel& self) { return constants_of(self.constants()); },
          sig("def constants(self) -> tuple[KernelConstant, ...]"), "The function constants that it has.")
      .def_prop_ro(
          "builtins",
          [](const Kernel& self) {
            nb::list all;
            for (const std::string& name : self.builtins()) all.append(nb::str(name.c_str()));
            return nb::tuple(all);
          },
          sig("def builtins(self) -> tuple[str, ...]"),
          "The attributes of its other arguments, e.g. \"thread_position_in_grid\"; empty where Metal does "
          "not\n"
          "tell.")
      .def_prop_ro(
          "max_total_threads_per_threadgroup", [](const Kernel& self) { return self.pipeline().max_threads; },
          "The threads of the largest threadgroup.")
      .def_prop_ro(
          "thread_execution_width", [](const Kernel& self) { return self.pipeline().execution_width; },
          "The threads of a SIMD-group.")
      .def_prop_ro(
          "static_threadgroup_memory_length",
          [](const Kernel& self) { return self.pipeline().static_memory; },
          "The bytes of threadgroup memory that it declares itself.")
      .def("__repr__", [](const Kernel& self) {
        return text("Kernel('", self.name(), "', device='", self.device().name(), "')");
      });

  nb::class_<Library>(m, "Library", nb::is_weak_referenceable(),
                      "Compiled shaders, made by Device.compile(). Any thread may use it.")
      .def_prop_ro("kernels", &Library::kernels, "The names of its kernels.")
      .def_prop_ro("label", &Library::label, "What messages call its source.")
      .def_prop_ro("device", &Library::device, nb::rv_policy::reference, sig("def device(self) -> Device"),
                   "The device that it is compiled for.")
      .def(
          "constants",
          [](const Library& self, std::string_view name) { return constants_of(self.constants(name)); },
          nb::arg("name"), sig("def constants(self, name: str) -> tuple[KernelConstant, ...]"),
          "The function constants of a kernel. Raises ValidationError if there is no such kernel.")
      .def(
          "kernel", kernel_of, nb::arg("name"), nb::arg("constants") = nb::none(),
          sig("def kernel(self, name: str, constants: Constants | None = None) -> Kernel"),
          "A kernel, with values for its function constants by name or by index. The same values give the\n"
          "same kernel.\n\n"
          "Raises ValidationError if there is no such kernel or constant, a required one has no value, or a\n"
          "value does not fit the constant's type.")
      .def("__repr__", [](const Library& self) {
        return text("Library('", self.label(), "', device='", self.device().name(), "')");
      });

  nb::class_<Reinterpreted>(m, "Reinterpreted", "What reinterpret() makes.")
      .def_ro("buffer", &Reinterpreted::buffer, "The Buffer.");
  nb::class_<ThreadgroupMemory>(m, "ThreadgroupMemory", "What threadgroup_memory() makes.")
      .def_ro("nbytes", &ThreadgroupMemory::bytes, "The length.");
  m.def(
      "reinterpret", [](const Buffer& buffer) { return Reinterpreted{buffer}; }, nb::arg("buffer"),
      "As an argument of CommandEncoder.dispatch(): the buffer, whatever its element type is. Size and\n"
      "alignment are still checked.");
  m.def(
      "threadgroup_memory",
      [](nb::handle nbytes) {
        nb::object index = nb::steal(PyNumber_Index(nbytes.ptr()));
        unsigned long long bytes = index.is_valid() ? PyLong_AsUnsignedLongLong(index.ptr()) : 0;
        if (!index.is_valid() || PyErr_Occurred() || bytes == 0) {
          PyErr_Clear();
          throw ValidationError(text("threadgroup_memory: nbytes is ", nb::repr(nbytes).c_str(),
                                     ", needs an integer of at least 1"));
        }
        return ThreadgroupMemory{bytes};
      },
      nb::arg("nbytes").none(), sig("def threadgroup_memory(nbytes: int) -> ThreadgroupMemory"),
      "As an argument of CommandEncoder.dispatch(): that many bytes of threadgroup memory, rounded up to a\n"
      "multiple of 16.\n\n"
      "Raises ValidationError for fewer than one.");

  init_dispatch();
  software::set_toolchain(find_toolchain);
}

}  // namespace metalloid::bindings
