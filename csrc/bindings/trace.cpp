#include "metalloid/trace.h"

#include <nanobind/stl/string.h>

#include <chrono>

#include "bindings/bindings.h"
#include "metalloid/device.h"

namespace metalloid::bindings {

namespace {

nb::tuple times(const trace::Span& span) { return nb::make_tuple(span.begin, span.end); }
nb::tuple sizes(const Extent& extent) { return nb::make_tuple(extent.x, extent.y, extent.z); }

template <class List, class Make>
nb::list list_of(const List& all, const Make& make) {
  nb::list made;
  for (const auto& each : all) made.append(make(each));
  return made;
}

// The name that Python has for the calling thread.
std::string name_of_this_thread() {
  try {
    nb::object thread = nb::module_::import_("threading").attr("current_thread")();
    return nb::cast<std::string>(thread.attr("name"));
  } catch (const std::exception&) {
    return {};
  }
}

// Of tuples, which metalloid/_trace.py gives names.
nb::dict stop() {
  trace::Report report;
  {
    NoGil nogil;
    report = trace::stop();
  }
  constexpr const char* statuses[] = {"completed", "error", "unfinished"};
  constexpr const char* kinds[] = {"barrier", "signal", "wait_for", "Event.signal", "Event.wait", "wait"};
  nb::list strings = list_of(report.strings, [](const std::string& each) {
    // What Metal or a caller in C++ says need not be UTF-8.
    return nb::steal(PyUnicode_DecodeUTF8(each.data(), static_cast<Py_ssize_t>(each.size()), "replace"));
  });
  nb::dict all;
  all["span"] = times(report.span);
  all["threads"] = list_of(report.threads, [](const trace::Thread& each) {
    return nb::make_tuple(
        each.ident, nb::steal(PyUnicode_DecodeUTF8(each.name.data(),
                                                   static_cast<Py_ssize_t>(each.name.size()), "replace")));
  });
  all["queues"] = list_of(report.queues, [](const Queue* each) {
    return nb::make_tuple(each->device().name(), each->label(), each->device().checked());
  });
  all["command_buffers"] = list_of(report.command_buffers, [&](const trace::CommandBuffer& each) {
    return nb::make_tuple(strings[each.label], each.queue, each.thread, each.serial,
                          statuses[static_cast<size_t>(each.status)], strings[each.reason],
                          times(each.committed), times(each.ran));
  });
  all["dispatches"] = list_of(report.dispatches, [&](const trace::Dispatch& each) {
    return nb::make_tuple(strings[each.name], strings[each.kernel], strings[each.label], strings[each.group],
                          each.command_buffer, each.thread, sizes(each.grid), sizes(each.threads),
                          each.by_threads, each.barrier, each.reads, each.writes, times(each.encoded),
                          times(each.ran));
  });
  all["marks"] = list_of(report.marks, [&](const trace::Mark& each) {
    nb::object queue = each.queue == trace::Report::kNone ? nb::none() : nb::object(nb::int_(each.queue));
    return nb::make_tuple(kinds[static_cast<size_t>(each.kind)], each.thread, queue, each.value,
                          times(each.span));
  });
  all["dropped"] = report.dropped;
  all["unsampled"] = report.unsampled;
  return all;
}

void finish(double patience) {
  NoGil nogil;
  trace::finish(std::chrono::milliseconds(static_cast<int64_t>(patience * 1000)));
}

}  // namespace

void bind_trace(nb::module_& m) {
  trace::set_thread_namer([] { return with_gil(name_of_this_thread); });
  m.def("_trace_start", &trace::start, nb::arg("most") = trace::kMostEvents);
  m.def("_trace_finish", finish, nb::arg("patience"));
  m.def("_trace_stop", stop);
}

}  // namespace metalloid::bindings
