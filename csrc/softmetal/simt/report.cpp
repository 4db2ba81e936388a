#include "softmetal/simt/report.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <list>
#include <mutex>

#include "softmetal/simt/lines.h"

namespace softmetal::simt {

namespace {

// Lines of shared objects that faults were found in, the latest first.
std::shared_ptr<const Lines> lines_of(const std::string& path) {
  struct Entry {
    std::string path;
    struct stat file;
    std::shared_ptr<const Lines> lines;
  };
  constexpr size_t kKept = 8;
  static std::mutex mutex;
  static std::list<Entry>* const entries = new std::list<Entry>;

  struct stat file{};
  if (stat(path.c_str(), &file) != 0) return std::make_shared<Lines>(path);
  const std::lock_guard lock(mutex);
  const auto same = [&](const Entry& entry) {
    return entry.path == path && entry.file.st_ino == file.st_ino && entry.file.st_dev == file.st_dev &&
           entry.file.st_size == file.st_size && entry.file.st_mtim.tv_sec == file.st_mtim.tv_sec &&
           entry.file.st_mtim.tv_nsec == file.st_mtim.tv_nsec;
  };
  auto found = std::find_if(entries->begin(), entries->end(), same);
  if (found == entries->end()) {
    entries->push_front({path, file, std::make_shared<Lines>(path)});
    if (entries->size() > kKept) entries->pop_back();
    found = entries->begin();
  }
  return found->lines;
}

bool is_ours(const std::string& file) {
  return file.find("softmetal/msl/stdlib/") != std::string::npos ||
         file.find("softmetal/msl/kernel_entry.h") != std::string::npos ||
         file.find("softmetal/msl/support.cpp") != std::string::npos;
}

bool ends_with_file(const std::string& path, const std::string& name) {
  if (name.empty() || path.size() < name.size() || path.compare(path.size() - name.size(), name.size(), name))
    return false;
  return path.size() == name.size() || path[path.size() - name.size() - 1] == '/';
}

std::string trimmed(const std::string& line) {
  const size_t begin = line.find_first_not_of(" \t"), end = line.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : line.substr(begin, end - begin + 1);
}

std::string line_of_text(const char* text, uint32_t line) {
  for (uint32_t at = 1; at < line; ++at) {
    while (*text && *text != '\n') ++text;
    if (!*text++) return "";
  }
  const char* end = text;
  while (*end && *end != '\n') ++end;
  return trimmed(std::string(text, end));
}

std::string line_of_file(const std::string& path, uint32_t line) {
  std::ifstream file(path);
  std::string text;
  for (uint32_t at = 0; at < line; ++at)
    if (!std::getline(file, text)) return "";
  return trimmed(text);
}

std::string place_text(const ThreadPlace& place, bool with_dispatch) {
  std::string result = text("threadgroup (%u, %u, %u), SIMD-group %u, lane %u, thread (%u, %u, %u)",
                            place.threadgroup[0], place.threadgroup[1], place.threadgroup[2], place.simdgroup,
                            place.lane, place.thread[0], place.thread[1], place.thread[2]);
  if (with_dispatch) result += text(" of dispatch %llu", static_cast<unsigned long long>(place.dispatch));
  return result;
}

std::string side_text(const Side& side, bool with_dispatch) {
  std::string result = "  " + place_text(side.thread, with_dispatch) + " " + side.action;
  if (side.location.line == 0) return result + "\n";
  result += " at " + side.location.file + ":" + std::to_string(side.location.line) + "\n";
  if (!side.location.code.empty()) result += "      " + side.location.code + "\n";
  return result;
}

// Keys and values of a dictionary, made from C++ values.
class Entries {
 public:
  void set(const char* key, const std::string& value) { add(key, new String(value)); }
  void set(const char* key, int64_t value) {
    auto* number = new Value(Value::Kind::Signed);
    number->integer = value;
    add(key, number);
  }
  void set_natural(const char* key, uint64_t value) {
    auto* number = new Value(Value::Kind::Unsigned);
    number->natural = value;
    add(key, number);
  }
  void set(const std::string& key, const uint32_t (&place)[3]) {
    for (int i = 0; i < 3; ++i) set_natural((key + "_" + "xyz"[i]).c_str(), place[i]);
  }
  Ref<Dictionary> take() { return std::move(dictionary_); }

 private:
  void add(const char* key, Object* value) {
    const auto name = Ref<String>::adopt(new String(key));
    dictionary_->set(name.get(), Ref<Object>::adopt(value).get());
  }

  Ref<Dictionary> dictionary_ = Ref<Dictionary>::adopt(new Dictionary);
};

// What a later dispatch of the same command buffer adds its faults to.
constexpr const char* kFaultList = "softmetal faults";
class FaultList final : public Object {
 public:
  explicit FaultList(std::vector<Fault> list) : faults(std::move(list)) {}
  const char* class_name() const override { return "FaultList"; }
  const std::vector<Fault> faults;
};

Ref<Dictionary> dictionary_of(const Fault& fault) {
  Entries entries;
  entries.set("kind", fault.kind);
  entries.set("kernel", fault.kernel);
  entries.set("label", fault.label);
  entries.set("variable", fault.variable);
  entries.set("address_space", fault.address_space);
  entries.set("message", fault.message);
  entries.set("text", fault.text());
  entries.set("offset", fault.offset);
  entries.set("element", fault.element);
  entries.set_natural("bytes", fault.bytes);
  entries.set_natural("count", fault.count);
  entries.set_natural("seed", fault.seed);
  entries.set("fatal", int64_t{fault.fatal});
  entries.set("has_second", int64_t{fault.has_second});
  const auto add_side = [&](const Side& side, const std::string& suffix) {
    entries.set(("file" + suffix).c_str(), side.location.file);
    entries.set_natural(("line" + suffix).c_str(), side.location.line);
    entries.set(("code" + suffix).c_str(), side.location.code);
    entries.set(("action" + suffix).c_str(), side.action);
    entries.set_natural(("dispatch" + suffix).c_str(), side.thread.dispatch);
    entries.set_natural(("simdgroup" + suffix).c_str(), side.thread.simdgroup);
    entries.set_natural(("lane" + suffix).c_str(), side.thread.lane);
    entries.set("threadgroup" + suffix, side.thread.threadgroup);
    entries.set("thread" + suffix, side.thread.thread);
  };
  add_side(fault.first, "");
  add_side(fault.second, "2");
  return entries.take();
}

}  // namespace

Image::Image(const SoftmetalLibrary& library, const std::string& file) : table(library) {
  const auto visit = [](dl_phdr_info* info, size_t, void* context) {
    auto& image = *static_cast<Image*>(context);
    const auto inside = reinterpret_cast<uintptr_t>(&image.table);
    std::vector<Range> loaded;
    bool found = false;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const ElfW(Phdr) & header = info->dlpi_phdr[i];
      if (header.p_type != PT_LOAD) continue;
      const Range range{info->dlpi_addr + header.p_vaddr, info->dlpi_addr + header.p_vaddr + header.p_memsz,
                        (header.p_flags & PF_W) != 0};
      found = found || (inside >= range.begin && inside < range.end);
      loaded.push_back(range);
    }
    if (!found) return 0;
    image.ranges = std::move(loaded);
    image.base = info->dlpi_addr;
    image.path = info->dlpi_name && *info->dlpi_name ? info->dlpi_name : "/proc/self/exe";
    return 1;
  };
  dl_iterate_phdr(visit, this);
  if (!file.empty()) path = file;
}

Image::Range Image::thread_local_range() const {
  struct Search {
    uintptr_t base;
    Range found{0, 0, true};
  } search{base};
  const auto visit = [](dl_phdr_info* info, size_t, void* context) {
    auto& wanted = *static_cast<Search*>(context);
    if (info->dlpi_addr != wanted.base || !info->dlpi_tls_data) return 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
      wanted.found.begin = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
      wanted.found.end = wanted.found.begin + info->dlpi_phdr[i].p_memsz;
    }
    return 1;
  };
  dl_iterate_phdr(visit, &search);
  return search.found;
}

Location Image::locate(uintptr_t pc) const {
  if (pc == 0) return {};
  const std::shared_ptr<const Lines> lines = lines_of(path);
  const uint64_t address = pc - base - 1;
  constexpr uint64_t kNear = 64;
  std::vector<Frame> frames = lines->find(address);
  const auto known = [](const Frame& one) { return one.line != 0 && !is_ours(one.file); };
  auto frame = std::find_if(frames.begin(), frames.end(), known);
  // An access that the compiler moved has lost its line; it stands close to what it was moved away from.
  for (uint64_t distance = 1; frame == frames.end() && distance <= 2 * kNear; ++distance) {
    frames = lines->find(distance <= kNear ? address + distance : address - (distance - kNear));
    frame = std::find_if(frames.begin(), frames.end(), known);
  }
  if (frame == frames.end()) return {};
  Location location{frame->file, frame->line, ""};
  for (uint32_t i = 0; i < table.source_count; ++i) {
    const SoftmetalSource& source = table.sources[i];
    if (!ends_with_file(frame->file, source.name) && !ends_with_file(source.name, frame->file)) continue;
    location.file = source.name;
    location.code = line_of_text(source.text, frame->line);
    return location;
  }
  location.code = line_of_file(frame->file, frame->line);
  return location;
}

std::string Fault::text() const {
  std::string result = kind + " in kernel \"" + kernel + "\"";
  if (!label.empty()) result += " (\"" + label + "\")";
  result += ": " + message + "\n";
  if (!variable.empty())
    result += softmetal::text("  %s \"%s\", byte offset %lld, element %lld, %llu bytes\n",
                              address_space.c_str(), variable.c_str(), static_cast<long long>(offset),
                              static_cast<long long>(element), static_cast<unsigned long long>(bytes));
  const bool dispatches = has_second && first.thread.dispatch != second.thread.dispatch;
  result += side_text(first, dispatches);
  if (has_second) result += side_text(second, dispatches);
  result += softmetal::text("  %llu time%s, METALLOID_SEED=%llu", static_cast<unsigned long long>(count),
                            count == 1 ? "" : "s", static_cast<unsigned long long>(seed));
  return result;
}

std::vector<Fault> merged(std::vector<Fault> faults) {
  std::vector<Fault> result;
  const auto side = [](const Fault& fault, const Side& one) {
    return fault.kernel + "\n" + one.location.file + "\n" + std::to_string(one.location.line);
  };
  const auto key = [&](const Fault& fault) {
    std::string a = side(fault, fault.first), b = fault.has_second ? side(fault, fault.second) : "";
    if (b < a) std::swap(a, b);
    return std::pair(a, b);
  };
  for (Fault& fault : faults) {
    const auto same = std::find_if(result.begin(), result.end(), [&](const Fault& one) {
      return one.kind == fault.kind && one.variable == fault.variable && key(one) == key(fault);
    });
    if (same == result.end()) {
      result.push_back(std::move(fault));
    } else {
      same->count += fault.count;
      same->fatal |= fault.fatal;
    }
  }
  return result;
}

Ref<Error> fault_error(const Error* before, std::vector<Fault> faults) {
  const auto key = [](const char* name) { return Ref<String>::adopt(new String(name)); };
  std::vector<Fault> all;
  if (before && before->info)
    if (const auto* list = dynamic_cast<FaultList*>(before->info->find(key(kFaultList).get())))
      all = list->faults;
  all.insert(all.end(), std::make_move_iterator(faults.begin()), std::make_move_iterator(faults.end()));
  const auto list = Ref<FaultList>::adopt(new FaultList(merged(std::move(all))));

  std::string description;
  const auto dictionaries = Ref<Array>::adopt(new Array);
  for (const Fault& fault : list->faults) {
    description += (description.empty() ? "" : "\n") + fault.text();
    dictionaries->add(dictionary_of(fault).get());
  }
  auto error = Ref<Error>::adopt(new Error("SoftmetalKernelFault", 1, description));
  error->info->set(key("faults").get(), dictionaries.get());
  error->info->set(key(kFaultList).get(), list.get());
  return error;
}

}  // namespace softmetal::simt
