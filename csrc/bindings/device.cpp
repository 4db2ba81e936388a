#include "metalloid/device.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "bindings/bindings.h"
#include "bindings/host_array.h"
#include "metalloid/graph.h"

namespace metalloid::bindings {

namespace {

Device* open(std::optional<std::string> name) { return &Device::open(name.value_or("")); }

nb::tuple max_threads(const Device& device) {
  auto size = device.max_threads_per_threadgroup();
  return nb::make_tuple(size[0], size[1], size[2]);
}

Buffer empty(Device& device, nb::handle shape, nb::handle dtype, bool checked) {
  Buffer buffer = device.empty(shape_from(shape, "Device.empty"), dtype_from(dtype, "Device.empty"),
                               "Device.empty", checked ? Contents::undefined : Contents::any);
  // Memory that was used before may still be marked as undefined.
  if (!checked && device.checked() && buffer.nbytes()) std::memset(buffer.address(), 0, buffer.nbytes());
  return buffer;
}

Buffer zeros(Device& device, nb::handle shape, nb::handle dtype) {
  Shape sizes = shape_from(shape, "Device.zeros");
  DType type = dtype_from(dtype, "Device.zeros");
  NoGil nogil;
  return device.zeros(sizes, type);
}

// A buffer is shared with its own device already.
nb::object wrap(Device& device, nb::handle obj) {
  Buffer* buffer = nullptr;
  if (nb::try_cast(obj, buffer) && buffer && &buffer->device() == &device) return nb::borrow(obj);
  return nb::cast(share(device, obj));
}

void synchronize(Device& device) {
  {
    NoGil nogil;
    device.synchronize();
  }
  issue_warnings(device);
}

CommandEncoder* commands(Device& device, std::optional<std::string> label, bool concurrent,
                         std::string_view hazards, Queue* queue) {
  if (hazards != "automatic" && hazards != "manual") {
    throw ValidationError(
        text("Device.commands: hazards is \"", hazards, "\", needs \"automatic\" or \"manual\""));
  }
  return new CommandEncoder(device, {label.value_or(""), concurrent, hazards == "automatic", queue});
}

}  // namespace

void bind_device(nb::module_& m) {
  m.def("devices", &Device::names, "The names of the devices that Device() opens on this machine.");

  nb::class_<Device>(
      m, "Device",
      "A GPU, or what stands in for one.\n\n"
      "``Device()`` opens the default device, or the one that the environment variable\n"
      "METALLOID_DEVICE names; ``Device(name)`` one of devices(). Opening a device again gives the\n"
      "same object, which any thread may use. Raises DeviceError if there is no such device.")
      .def(nb::new_(&open), nb::arg("name") = nb::none(), nb::rv_policy::reference)
      .def_prop_ro("name", &Device::name, "The name that opens it: \"cpu\", \"simt\" or \"metal\".")
      .def_prop_ro("description", &Device::description, "Metal's name of the device.")
      .def_prop_ro(
          "gpu_family",
          [](const Device& self) {
            return self.gpu_family().empty() ? std::nullopt : std::optional(self.gpu_family());
          },
          "The newest of Apple's GPU families that the device has, e.g. \"apple8\". Off macOS the one whose\n"
          "limits METALLOID_GPU_FAMILY asks for; None if it asks for none.")
      .def_prop_ro("max_buffer_length", &Device::max_buffer_length, "The bytes of the largest buffer.")
      .def_prop_ro("max_threadgroup_memory_length", &Device::max_threadgroup_memory_length,
                   "The bytes of threadgroup memory of one threadgroup.")
      .def_prop_ro("max_threads_per_threadgroup", max_threads,
                   nb::sig("def max_threads_per_threadgroup(self) -> tuple[int, int, int]"),
                   "The largest threadgroup along each axis.")
      .def_prop_ro(
          "thread_execution_width", &Device::thread_execution_width,
          "The threads of a SIMD-group of built-in kernels: 32 on Apple GPUs and \"simt\", 1 on \"cpu\".")
      .def_prop_ro("has_unified_memory", &Device::has_unified_memory,
                   "Whether host and device work on the same memory.")
      .def_prop_ro("kernel_variant", &Device::kernel_variant,
                   "What the loaded kernels were compiled for, e.g. \"x86-64-v4\"; on Metal their form, "
                   "\"metallib\"\n"
                   "or \"source\".")
      .def_prop_ro("shader_compiler", &Device::shader_compiler, "What compiled the loaded kernels.")
      .def_prop_ro(
          "library_path", [](Device& self) { return self.library().path(); },
          "The file of the built-in kernels. One that ends in .metal is compiled when it is first used.")
      .def_prop_ro("allocated_size", &Device::allocated_size,
                   "The bytes of memory that buffers use; that of wrap() does not count.")
      .def_prop_ro("pooled_size", &Device::pooled_size,
                   "The bytes of freed memory kept for the next buffers.")
      .def("empty_cache", &Device::empty_cache, nb::call_guard<NoGil>(),
           "Gives the memory kept for the next buffers back to the system.")
      .def("synchronize", synchronize,
           "Waits until everything committed so far has completed. Ctrl-C ends the wait, not the work.\n\n"
           "Raises KernelFault for faults of work that nobody has waited for.")
      .def("empty", empty, nb::arg("shape").none(), nb::arg("dtype").none() = dtype_object(DType::float32),
           nb::arg("checked") = true,
           nb::sig("def empty(self, shape: int | Sequence[int], dtype: DTypeLike = 'float32', "
                   "checked: bool = True) -> Buffer"),
           "A buffer with undefined contents.\n\n"
           "On a checked device it is a fault if a kernel reads what nobody wrote, unless ``checked`` is "
           "False.\n\n"
           "Raises ValidationError for a shape that no buffer can have, DeviceError if there is no memory.")
      .def("zeros", zeros, nb::arg("shape").none(), nb::arg("dtype").none() = dtype_object(DType::float32),
           nb::sig("def zeros(self, shape: int | Sequence[int], dtype: DTypeLike = 'float32') -> Buffer"),
           "A buffer full of zeros. Raises as empty() does.")
      .def("array", copy_to, nb::arg("obj").none(), nb::arg("dtype") = nb::none(),
           nb::sig("def array(self, obj: object, dtype: DTypeLike | None = None) -> Buffer"),
           "A buffer with a copy of an array-like: NumPy, DLPack, the buffer protocol, nested lists, "
           "numbers;\n"
           "any strides.\n\n"
           "Elements are converted only if ``dtype`` is given, but Python's own floats become float32.\n"
           "Raises ValidationError if no device has the type of the elements.")
      .def("wrap", wrap, nb::arg("obj").none(), nb::sig("def wrap(self, obj: object) -> Buffer"),
           "A buffer over the memory of ``obj``, without a copy: a NumPy array or memmap, a DLPack producer, "
           "an\n"
           "object with the buffer protocol. It keeps ``obj`` alive. Read-only memory gives a read-only "
           "buffer,\n"
           "which no operation takes as its output.\n\n"
           "The device maps whole pages: the memory starts at a multiple of mmap.PAGESIZE, and nothing else\n"
           "that a device writes may lie on its last page. Raises ValidationError if the memory is not\n"
           "page-aligned, not C-contiguous, empty, not on the host or of a type that no device has; array()\n"
           "copies instead.")
      .def(
          "commands", commands, nb::arg("label") = nb::none(), nb::arg("concurrent") = true,
          nb::arg("hazards") = "automatic", nb::arg("queue") = nb::none(), nb::rv_policy::take_ownership,
          nb::sig("def commands(self, label: str | None = None, concurrent: bool = True, "
                  "hazards: Literal['automatic', 'manual'] = 'automatic', queue: Queue | None = None) -> "
                  "CommandEncoder"),
          "An encoder for one command buffer; see CommandEncoder.\n\n"
          "label       shows in errors, traces and debuggers\n"
          "concurrent  whether dispatches that do not depend on each other may overlap; else each runs "
          "after\n"
          "            the one before\n"
          "hazards     \"automatic\" puts a barrier where a dispatch touches memory that an earlier one "
          "wrote,\n"
          "            or writes what it touched; with \"manual\" only barrier() orders the dispatches of a\n"
          "            concurrent encoder\n"
          "queue       where it is committed to; the device's own by default")
      .def(
          "queue",
          [](Device& self, std::optional<std::string> label) -> Queue& {
            return self.queue(label.value_or(""));
          },
          nb::arg("label") = nb::none(), nb::rv_policy::reference,
          nb::sig("def queue(self, label: str | None = None) -> Queue"),
          "The queue of that label, made when it is first asked for; the device's own without one. See "
          "Queue.\n\n"
          "Raises Error for more than eight.")
      .def(
          "event", [](Device& self) { return Event::create(self); }, nb::sig("def event(self) -> Event"),
          "A new event with the value 0; see Event.")
      .def(
          "record",
          [](Device& self, std::optional<std::string> label) { return new Graph(self, label.value_or("")); },
          nb::arg("label") = nb::none(), nb::rv_policy::take_ownership,
          nb::sig("def record(self, label: str | None = None) -> Graph"),
          "A graph that records what is encoded into it; see Graph. ``label`` shows in traces and debuggers.")
      .def(
          "kernels", [](Device& self) { return self.library().kernels(); },
          "The names of the built-in kernels.")
      .def("kernel", builtin_kernel, nb::arg("name"), nb::arg("constants") = nb::none(),
           nb::sig("def kernel(self, name: str, constants: Constants | None = None) -> Kernel"),
           "A built-in kernel, as Library.kernel() gives one.")
      .def(
          "compile", compile, nb::arg("source").none(), nb::kw_only(), nb::arg("name") = nb::none(),
          nb::arg("include_dirs") = nb::tuple(), nb::arg("headers") = nb::none(),
          nb::arg("macros") = nb::none(), nb::arg("fast_math") = true,
          nb::arg("language_version") = nb::none(), nb::arg("simd_width") = nb::none(),
          nb::sig(
              "def compile(self, source: str | PathLike[str], *, name: str | None = None, "
              "include_dirs: Sequence[str | PathLike[str]] = (), headers: Mapping[str, str] | None = None, "
              "macros: Mapping[str, str | int | float | bool | None] | None = None, fast_math: bool = True, "
              "language_version: str | None = None, simd_width: Literal['any', 32] | None = None) -> "
              "Library"),
          "Compiles Metal shaders.\n\n"
          "source            the text, or a file: a path, or a str without a line break that ends in .metal "
          "or .h\n"
          "name              what messages call it; the path by default\n"
          "include_dirs      where included files are looked up, after the file's own directory\n"
          "headers           included files in memory, looked up first: name to text\n"
          "macros            name to replacement; True is 1, False 0, None nothing\n"
          "fast_math         whether arithmetic may be regrouped\n"
          "language_version  of Metal, e.g. \"3.1\"; the newest by default\n"
          "simd_width        \"any\" promises that the kernels do not depend on how many threads a "
          "SIMD-group\n"
          "                  has, which makes them faster on \"cpu\"\n\n"
          "What was compiled before comes from a cache on disk; `metalloid cache` says where that is. The\n"
          "other threads run meanwhile.\n\n"
          "Raises CompileError, whose log has what the compiler says with files and lines of the source, or\n"
          "what to install where there is no compiler; ValidationError if an argument does not fit.")
      .def_prop_ro("checked", &Device::checked, "Whether kernels are checked while they run.")
      .def_prop_rw(
          "check_mode", check_mode, set_check_mode, nb::arg("mode"),
          nb::for_getter(nb::sig("def check_mode(self) -> str")),
          nb::for_setter(nb::sig("def check_mode(self, mode: Literal['raise', 'warn', 'collect', 'off'], "
                                 "/) -> None")),
          "What becomes of the faults that checks find: \"raise\" has waits and reads of results raise\n"
          "KernelFault, \"warn\" has them issue a KernelFaultWarning, \"collect\" gathers them in "
          "``faults``,\n\"off\" forgets them.")
      .def_prop_ro("faults", collected_faults, nb::sig("def faults(self) -> list[KernelFault]"),
                   "The faults gathered so far, if check_mode is \"collect\".")
      .def(
          "clear_faults", [](Device& self) { self.faults().clear(); }, "Forgets the faults gathered so far.")
      .def("__repr__", [](const Device& self) { return text("Device('", self.name(), "')"); });
}

}  // namespace metalloid::bindings
