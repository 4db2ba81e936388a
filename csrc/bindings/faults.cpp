#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bindings/bindings.h"
#include "metalloid/device.h"
#include "metalloid/fault.h"

namespace metalloid::bindings {

namespace {

// The Python classes; they live as long as the process.
PyObject* kernel_fault = nullptr;
PyObject* kernel_fault_warning = nullptr;

nb::tuple tuple_of_three(const std::array<uint64_t, 3>& xyz) {
  return nb::make_tuple(xyz[0], xyz[1], xyz[2]);
}

nb::object exception_of(const Fault& fault, const std::string& text) {
  nb::object instance = nb::borrow(kernel_fault)(text);
  nb::object side_class = nb::module_::import_("metalloid").attr("FaultThread");
  instance.attr("kind") = fault.kind;
  instance.attr("kernel") = fault.kernel;
  instance.attr("label") = fault.label;
  instance.attr("variable") = fault.variable;
  instance.attr("address_space") = fault.address_space;
  instance.attr("offset") = fault.offset;
  instance.attr("element") = fault.element;
  instance.attr("bytes") = fault.bytes;
  instance.attr("count") = fault.count;
  instance.attr("seed") = fault.seed;
  instance.attr("fatal") = fault.fatal;
  instance.attr("message") = fault.message;
  instance.attr("text") = fault.text;
  nb::list threads;
  for (const Fault::Side& side : fault.sides) {
    threads.append(side_class(tuple_of_three(side.threadgroup), side.simdgroup, side.lane,
                              tuple_of_three(side.thread), side.dispatch, side.action));
  }
  instance.attr("threads") = nb::tuple(threads);
  instance.attr("file") = fault.sides[0].file;
  instance.attr("line") = fault.sides[0].line;
  instance.attr("code") = fault.sides[0].code;
  if (fault.sides.size() > 1) {
    instance.attr("second_file") = fault.sides[1].file;
    instance.attr("second_line") = fault.sides[1].line;
    instance.attr("second_code") = fault.sides[1].code;
  }
  instance.attr("faults") = nb::make_tuple(instance);
  return instance;
}

nb::list exceptions_of(const Faults& faults) {
  nb::list all;
  for (const Fault& fault : faults) all.append(exception_of(fault, fault.text));
  return all;
}

CheckMode mode_from(std::string_view name) {
  std::string all;
  for (size_t i = 0; i < std::size(kCheckModes); ++i) {
    if (name == kCheckModes[i]) return static_cast<CheckMode>(i);
    all.append(all.empty() ? "" : ", ").append(kCheckModes[i]);
  }
  throw ValidationError(text("Device.check_mode: got \"", name, "\", needs one of: ", all));
}

void set_settings(std::optional<bool> enabled, std::optional<bool> non_finite, std::optional<uint64_t> seed,
                  std::optional<double> time_limit) {
  software::CheckSettings settings = software::check_settings();
  if (time_limit && !(*time_limit > 0)) {
    throw ValidationError(
        text("set_check_settings: time_limit is ", *time_limit, " seconds, needs more than 0"));
  }
  settings.enabled = enabled.value_or(settings.enabled);
  settings.non_finite = non_finite.value_or(settings.non_finite);
  settings.seed = seed.value_or(settings.seed);
  settings.time_limit = time_limit.value_or(settings.time_limit);
  metalloid::set_check_settings(settings);
}

}  // namespace

nb::object exception_of(const KernelFault& fault) {
  nb::object first = exception_of(fault.faults()[0], fault.what());
  nb::list all = exceptions_of(fault.faults());
  all[0] = first;
  first.attr("faults") = nb::tuple(all);
  return first;
}

std::string_view check_mode(Device& device) {
  return kCheckModes[static_cast<size_t>(device.faults().mode())];
}

void set_check_mode(Device& device, std::string_view name) { device.faults().set_mode(mode_from(name)); }

nb::list collected_faults(Device& device) {
  // Those of work that is complete, but that nobody waited for.
  device.retire();
  return exceptions_of(device.faults().collected());
}

void issue_warnings(Device& device) {
  for (const Fault& fault : device.faults().warnings()) {
    if (PyErr_WarnEx(kernel_fault_warning, fault.text.c_str(), 1) != 0) throw nb::python_error();
  }
}

void bind_faults(nb::module_& m, nb::handle base) {
  kernel_fault = make_error(
      m, "KernelFault",
      "A checked device found a kernel doing wrong. ``str()`` is the whole report. The fields:\n\n"
      "kind            \"threadgroup-race\", \"out-of-bounds\", ...: the table in docs/checker.md\n"
      "kernel          its name\n"
      "label           of the encoder, its groups and the dispatch, separated by slashes\n"
      "variable        the argument or threadgroup variable; \"\" where it is none\n"
      "address_space   \"device\", \"constant\", \"threadgroup\" or \"\"\n"
      "offset          bytes from the start of the variable\n"
      "element         the same in elements\n"
      "bytes           how many were accessed\n"
      "threads         a FaultThread for each thread that takes part, one or two\n"
      "file, line      where the first of them was, and ``code``, the text of that line\n"
      "second_file     the same of the second, with ``second_line`` and ``second_code``\n"
      "count           how often it was found\n"
      "seed            of the order in which threads ran: METALLOID_SEED repeats it\n"
      "fatal           whether it ended the dispatch\n"
      "message         the report in one line\n"
      "text            the report of this fault alone\n"
      "faults          all of the command buffer, this one first",
      base);
  for (const char* field : {"kind", "kernel", "label", "variable", "address_space", "file", "code",
                            "second_file", "second_code", "message", "text"}) {
    nb::handle(kernel_fault).attr(field) = "";
  }
  for (const char* field : {"offset", "element", "bytes", "line", "second_line", "seed"}) {
    nb::handle(kernel_fault).attr(field) = 0;
  }
  nb::handle(kernel_fault).attr("count") = 1;
  nb::handle(kernel_fault).attr("fatal") = false;
  for (const char* field : {"threads", "faults"}) nb::handle(kernel_fault).attr(field) = nb::make_tuple();
  kernel_fault_warning =
      make_error(m, "KernelFaultWarning", "A kernel's fault on a device whose check_mode is \"warn\".",
                 PyExc_UserWarning);

  nb::class_<software::CheckSettings>(m, "CheckSettings",
                                      "How kernels are checked; see set_check_settings().")
      .def_ro("enabled", &software::CheckSettings::enabled, "Whether they are.")
      .def_ro("non_finite", &software::CheckSettings::non_finite,
              "Whether the first NaN or infinity that a kernel makes is a fault.")
      .def_ro("seed", &software::CheckSettings::seed,
              "Of the order in which threadgroups and SIMD-groups run; 0 is their natural order.")
      .def_ro("time_limit", &software::CheckSettings::time_limit,
              "The CPU seconds that one threadgroup may take.")
      .def("__repr__", [](const software::CheckSettings& self) {
        return text("CheckSettings(enabled=", self.enabled ? "True" : "False",
                    ", non_finite=", self.non_finite ? "True" : "False", ", seed=", self.seed,
                    ", time_limit=", self.time_limit, ")");
      });
  m.def("check_settings", &software::check_settings,
        "How kernels on the device \"simt\" are checked.\n\n"
        "At first as the environment says: METALLOID_CHECK=off, METALLOID_CHECK_NAN=1, METALLOID_SEED and\n"
        "METALLOID_TIME_LIMIT.");
  m.def(
      "set_check_settings", set_settings, nb::kw_only(), nb::arg("enabled") = nb::none(),
      nb::arg("non_finite") = nb::none(), nb::arg("seed") = nb::none(), nb::arg("time_limit") = nb::none(),
      "Changes how kernels are checked, from the next dispatch on; what is None stays. See CheckSettings.\n\n"
      "Raises ValidationError for a time limit that is not above 0.");
}

}  // namespace metalloid::bindings
