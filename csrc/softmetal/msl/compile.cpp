#include "softmetal/msl/compile.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <thread>

#include "softmetal/msl/elf.h"
#include "softmetal/msl/messages.h"
#include "softmetal/runtime/kernel_abi.h"

namespace softmetal::msl {
namespace {

// Headers of Metal's library. The translator works on the user's text alone, so they are empty while it is
// preprocessed; the emitted code includes our own.
constexpr const char* kMetalHeaders[] = {
    "metal_stdlib",
    "metal_types",
    "metal_math",
    "metal_common",
    "metal_geometric",
    "metal_integer",
    "metal_relational",
    "metal_matrix",
    "metal_atomic",
    "metal_compute",
    "metal_simdgroup",
    "metal_quadgroup",
    "metal_pack",
    "metal_limits",
    "metal_numeric",
    "metal_array",
    "metal_type_traits",
    "metal_extended_vector",
    "metal_simdgroup_matrix",
    "metal_texture",
    "metal_graphics",
    "metal_config",
    "metal_assert",
    "metal_logging",
    "metal_uniform",
    "metal_raytracing",
    "metal_initializer_list",
    "metal_tensor",
    "metal_cooperative_tensor",
    "metal_imageblocks",
    "metal_interpolate",
    "metal_mesh",
    "metal_visible_function_table",
    "metal_command_buffer",
    "metal_utility",
    "metal_functional",
    "metal_simd",
    "metal_curves",
    "metal_tessellation",
    "metal_bfloat16",
    "simd/simd.h",
};

struct Job {
  std::string preprocessed;
  std::string object;
  std::string log;
  Translation translation;
  bool ok = false;
};

// What a function may have of a thread's stack. The rest is for those around it and for the runtime.
constexpr uint64_t kFrameLimit = SOFTMETAL_STACK_BYTES - 96 * 1024;

// A file that kernels come from.
struct SourceText {
  std::string name, text;
};

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary);
  stream << text;
  return static_cast<bool>(stream.flush());
}

bool read_file(const std::string& path, std::string& text) {
  std::ifstream stream(path, std::ios::binary);
  text.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  return !stream.bad() && stream.is_open();
}

// Everything one call of compile() or translate_sources() shares.
class Session {
 public:
  explicit Session(const Options& options) : options_(options) {}

  // False, with a line for the log, when nothing can be compiled.
  bool prepare(bool compiling, std::string& log) {
    if (options_.isa.empty()) options_.isa = host_isa();
    if (options_.width != "any" && options_.width != "32") {
      log = "mslc: error: SIMD width '" + options_.width +
            "' is unknown, needs 32, or any for kernels that do not depend on it\n";
      return false;
    }
    if (options_.checked && !lanes()) {
      log = "mslc: error: checked kernels need SIMD width 32, got '" + options_.width + "'\n";
      return false;
    }
    if (directory_.path().empty()) {
      log = "mslc: error: cannot make a temporary directory in $TMPDIR or /tmp\n";
      return false;
    }
    toolchain_ = detect_toolchain(options_.compiler);
    std::string error = toolchain_.error;
    if (error.empty() && compiling) target_ = target_flags(toolchain_, options_.isa, error);
    if (!error.empty()) {
      log = "mslc: error: " + error + "\n";
      return false;
    }
    environment_ = tool_environment(directory_.path());
    std::error_code failed;
    std::filesystem::create_directories(directory_.file("metal/simd"), failed);
    for (const char* header : kMetalHeaders)
      if (!write_file(directory_.file(std::string("metal/") + header), "")) {
        log = "mslc: error: cannot write to " + directory_.path() + "\n";
        return false;
      }
    return true;
  }

  void translate(const Source& source, size_t number, Job& job) {
    std::string path = source.name;
    if (source.text) {
      path = directory_.file("source" + std::to_string(number) + ".metal");
      if (!write_file(path, "#line 1 " + quote(source.name) + "\n" + *source.text)) {
        job.log = "mslc: error: cannot write to " + directory_.path() + "\n";
        return;
      }
    }
    const std::string output = directory_.file("source" + std::to_string(number) + ".ii");
    std::vector<std::string> command = preprocess_command(toolchain_);
    command.push_back("-D__METAL_VERSION__=" + std::to_string(options_.language_version));
    // With 32 lanes a kernel runs as on a GPU, so it is what Metal's own compiler would see.
    command.push_back(lanes() ? "-D__SOFTMETAL_SIMT__=1" : "-D__SOFTMETAL__=1");
    command.push_back("-I" + directory_.file("metal"));
    for (const std::string& include : options_.include_directories) command.push_back("-I" + include);
    for (const std::string& define : options_.defines) command.push_back("-D" + define);
    command.insert(command.end(), {path, "-o", output});
    if (!run(command, job)) return;
    std::string text;
    if (!read_file(output, text)) {
      job.log = "mslc: error: the preprocessor wrote no output for " + source.name + "\n";
      return;
    }
    job.translation =
        msl::translate(text, source.name, {std::to_string(number), lanes() ? 32u : 1u, options_.checked});
    job.log += job.translation.log();
    job.ok = job.translation.ok();
  }

  void compile(size_t number, Job& job) {
    const std::string name = "unit" + std::to_string(number);
    const CompileFlags flags = {options_.isa, options_.fast_math, options_.checked,
                                lanes() ? kFrameLimit : 0};
    job.ok = compile_text(compile_command(toolchain_, flags), job.translation.cpp, name, job) &&
             (!lanes() || frames_fit(directory_.file(name + ".su"), job));
  }

  // The table of all files, behind the one symbol that the library exports.
  void compile_index(const std::vector<SourceText>& sources, size_t units, Job& job) {
    std::string text = "#include \"softmetal/runtime/kernel_abi.h\"\n", table, files;
    for (size_t n = 0; n < units; ++n) {
      const std::string accessor = "softmetal_unit_" + std::to_string(n) + "()";
      text += "extern \"C\" const SoftmetalUnit* " + accessor + ";\n";
      table += "  units[" + std::to_string(n) + "] = " + accessor + ";\n";
    }
    for (const SourceText& source : sources)
      files += "  {" + quote(source.name) + ", " + quote(source.text) + "},\n";
    if (lanes()) text += "extern \"C\" const SoftmetalHooks* softmetal_hooks;\n";
    if (!files.empty()) text += "static const SoftmetalSource sources[] = {\n" + files + "};\n";
    text += "static const SoftmetalUnit* units[" + std::to_string(std::max<size_t>(units, 1)) +
            "];\nstatic const SoftmetalLibrary library = {SOFTMETAL_ABI_VERSION, " + quote(options_.isa) +
            ", " + quote(toolchain_.version) + ", units, " + std::to_string(units) + ", " +
            (options_.checked ? "1, " : "0, ") + (lanes() ? "&softmetal_hooks" : "nullptr") + ", " +
            (files.empty() ? "nullptr" : "sources") + ", " + std::to_string(sources.size()) +
            "};\nextern \"C\" __attribute__((visibility(\"default\"))) const SoftmetalLibrary* "
            "softmetal_library() {\n" +
            table + "  return &library;\n}\n";
    job.ok = compile_text(plain_compile_command(toolchain_), text, "index", job);
  }

  // The way from compiled code into the runtime.
  void compile_support(Job& job) {
    std::vector<std::string> command = plain_compile_command(toolchain_);
    command.push_back("-O2");
    job.ok = compile_text(command, "#include \"softmetal/msl/support.cpp\"\n", "support", job);
  }

  const std::string& directory() const { return directory_.path(); }
  bool lanes() const { return options_.width == "32"; }

  bool link(const std::vector<std::string>& objects, const std::string& output, Job& job) {
    std::vector<std::string> command = link_command(toolchain_, options_.checked);
    command.insert(command.end(), target_.begin(), target_.end());
    command.insert(command.end(), objects.begin(), objects.end());
    command.insert(command.end(), {"-o", output});
    if (!run(command, job)) return false;
    // The linker leaves these to the loader, where they would fail without saying which source is meant.
    static const std::set<std::string> available = {"memcpy", "memmove", "memset",
                                                    "memcmp", "bcmp",    "__tls_get_addr"};
    bool complete = true;
    for (const std::string& symbol : undefined_symbols(output)) {
      if (available.count(symbol)) continue;
      std::string name = symbol;
      replace_all(name, "(anonymous namespace)::", "");
      job.log += "mslc: error: '" + name + "' is declared and used, but defined nowhere\n";
      complete = false;
    }
    return complete;
  }

 private:
  bool run(const std::vector<std::string>& command, Job& job) {
    const ProcessResult result = run_process(command, environment_, options_.limit_seconds);
    job.log += clean_messages(result.output, directory_.path(), options_.runtime_directory);
    if (result.ok()) return true;
    if (result.timed_out)
      job.log += "mslc: error: the shader compiler took longer than " +
                 std::to_string(options_.limit_seconds) + " s\n";
    else if (job.log.find("error") == std::string::npos)
      job.log +=
          "mslc: error: the shader compiler failed with status " + std::to_string(result.status) + "\n";
    return false;
  }

  bool compile_text(std::vector<std::string> command, const std::string& text, const std::string& name,
                    Job& job) {
    const std::string path = directory_.file(name + ".cpp");
    job.object = directory_.file(name + ".o");
    if (!write_file(path, text)) {
      job.log += "mslc: error: cannot write to " + directory_.path() + "\n";
      return false;
    }
    command.insert(command.end(), target_.begin(), target_.end());
    command.push_back(std::string("-DSOFTMETAL_WIDTH=") + (lanes() ? "32" : "1"));
    if (options_.checked) command.push_back("-DSOFTMETAL_CHECKED=1");
    command.push_back("-I" + options_.runtime_directory + "/softmetal/msl/stdlib");
    command.push_back("-I" + options_.runtime_directory);
    command.insert(command.end(), {path, "-o", job.object});
    return run(command, job);
  }

  // gcc's list of stack frames: "file:line:column:function\tbytes\tkind" in each line.
  bool frames_fit(const std::string& path, Job& job) const {
    std::ifstream stream(path);
    bool fit = true;
    for (std::string line; std::getline(stream, line);) {
      const size_t tab = line.find('\t');
      const uint64_t bytes = tab == std::string::npos ? 0 : std::strtoull(line.c_str() + tab, nullptr, 10);
      if (bytes <= kFrameLimit) continue;
      const std::string place = line.substr(0, tab);
      const size_t column = position_end(place),
                   function = column == std::string::npos ? std::string::npos : place.find(':', column + 1);
      if (function == std::string::npos) continue;
      job.log += place.substr(0, column) + ": error: " +
                 frame_message("'" + place.substr(function + 1) + "'", std::to_string(bytes),
                               std::to_string(kFrameLimit)) +
                 "\n";
      fit = false;
    }
    return fit;
  }

  // Where "file:line" ends in "file:line:column:function"; the file and the function may have colons too.
  static size_t position_end(const std::string& place) {
    constexpr const char* kDigits = "0123456789";
    for (size_t colon = place.find(':'); colon != std::string::npos; colon = place.find(':', colon + 1)) {
      const size_t line = place.find_first_not_of(kDigits, colon + 1);
      if (line == std::string::npos || line == colon + 1 || place[line] != ':') continue;
      const size_t column = place.find_first_not_of(kDigits, line + 1);
      if (column != std::string::npos && column != line + 1 && place[column] == ':') return line;
    }
    return std::string::npos;
  }

  Options options_;
  TemporaryDirectory directory_;
  Toolchain toolchain_;
  std::vector<std::string> target_, environment_;
};

// Calls work(n) for n in [0, count), `jobs` of them at a time.
template <class Work>
void in_parallel(size_t count, int jobs, Work work) {
  std::atomic<size_t> next{0};
  const auto loop = [&] {
    for (size_t n = next++; n < count; n = next++) work(n);
  };
  std::vector<std::thread> threads;
  for (size_t t = 1; t < std::min(count, static_cast<size_t>(std::max(jobs, 1))); ++t)
    threads.emplace_back(loop);
  loop();
  for (std::thread& t : threads) t.join();
}

// Host names are the library's, so they must differ between files as well.
void check_names(const std::vector<Job>& jobs, std::string& log) {
  std::map<std::string, const KernelReflection*> seen;
  for (const Job& job : jobs)
    for (const KernelReflection& k : job.translation.kernels) {
      const auto [other, added] = seen.emplace(k.name, &k);
      if (!added)
        log += Diagnostic{k.file, k.line,
                          "two kernels have the host name '" + k.name + "'; the other is at " +
                              other->second->file + ":" + std::to_string(other->second->line),
                          Severity::Error}
                   .text() +
               "\n";
    }
}

// `#line 12 "file"` or `# 12 "file"`; without a name the file stays.
bool line_marker(std::string_view line, size_t& number, std::string& file) {
  const auto skip_blanks = [&] { line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size())); };
  skip_blanks();
  if (line.empty() || line[0] != '#') return false;
  line.remove_prefix(1);
  skip_blanks();
  if (line.substr(0, 4) == "line") line.remove_prefix(4);
  skip_blanks();
  const auto [rest, code] = std::from_chars(line.data(), line.data() + line.size(), number);
  if (code != std::errc()) return false;
  const size_t open = line.find('"'), close = line.rfind('"');
  if (open < close && close != std::string_view::npos) file = unquote(line.substr(open, close - open + 1));
  return true;
}

// Adds the lines of `text` to the files that they belong to, as its line markers say.
void collect_lines(const std::string& name, const std::string& text,
                   std::map<std::string, std::string>& files) {
  // A marker may name any line at all; none is worth more empty ones than this.
  constexpr size_t kLongestGap = 100000;
  std::map<std::string, size_t> counts;  // lines that a file has already
  std::string current = name;
  size_t next = 1;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (line_marker(line, next, current)) continue;
    size_t& count = counts[current];
    if (next > count && next - count <= kLongestGap) {
      files[current].append(next - 1 - count, '\n').append(line).append("\n");
      count = next;
    }
    ++next;
  }
}

// The text of every file that the translations name, but for those in `directory`, which are ours.
std::vector<SourceText> source_texts(const std::vector<Source>& sources, const std::vector<Job>& jobs,
                                     const std::string& directory) {
  std::map<std::string, std::string> given;
  for (const Source& s : sources)
    if (s.text) collect_lines(s.name, *s.text, given);
  std::vector<SourceText> result;
  std::set<std::string> seen;
  for (const Job& job : jobs)
    for (const std::string& file : job.translation.files) {
      if (!seen.insert(file).second || file.rfind(directory, 0) == 0) continue;
      const auto it = given.find(file);
      SourceText source{file, it == given.end() ? "" : it->second};
      std::error_code failed;
      if (it != given.end() ||
          (std::filesystem::is_regular_file(file, failed) && read_file(file, source.text)))
        result.push_back(std::move(source));
    }
  return result;
}

}  // namespace

Result compile(const Options& options, const std::vector<Source>& sources) {
  Result result;
  Session session(options);
  if (!session.prepare(true, result.log)) return result;
  std::vector<Job> jobs(sources.size());
  in_parallel(sources.size(), options.jobs, [&](size_t n) { session.translate(sources[n], n, jobs[n]); });
  const bool translated = std::all_of(jobs.begin(), jobs.end(), [](const Job& job) { return job.ok; });
  // The longest first.
  Job index, support;
  std::vector<std::function<void()>> tasks;
  for (size_t n = 0; n < sources.size(); ++n)
    if (jobs[n].ok) tasks.emplace_back([&, n] { session.compile(n, jobs[n]); });
  if (translated) {
    if (session.lanes()) tasks.emplace_back([&] { session.compile_support(support); });
    tasks.emplace_back([&] {
      session.compile_index(
          options.checked ? source_texts(sources, jobs, session.directory()) : std::vector<SourceText>(),
          sources.size(), index);
    });
  }
  in_parallel(tasks.size(), options.jobs, [&](size_t n) { tasks[n](); });
  jobs.push_back(std::move(index));
  if (session.lanes()) jobs.push_back(std::move(support));

  result.ok = translated;
  std::vector<std::string> objects;
  for (Job& job : jobs) {
    result.log += job.log;
    result.ok = result.ok && job.ok;
    objects.push_back(job.object);
  }
  const size_t before = result.log.size();
  check_names(jobs, result.log);
  result.ok = result.ok && result.log.size() == before;
  if (!result.ok) return result;

  // Beside its final place, so that the rename cannot cross file systems.
  const std::string partial = options.output + ".partial" + std::to_string(getpid());
  Job link;
  result.ok = session.link(objects, partial, link);
  result.log += link.log;
  std::error_code failed;
  if (result.ok) {
    std::filesystem::rename(partial, options.output, failed);
    if (failed) result.log += "mslc: error: cannot write " + options.output + ": " + failed.message() + "\n";
    result.ok = !failed;
  }
  if (!result.ok) {
    std::filesystem::remove(partial, failed);
    return result;
  }
  result.path = options.output;
  for (const Job& job : jobs)
    result.kernels.insert(result.kernels.end(), job.translation.kernels.begin(),
                          job.translation.kernels.end());
  return result;
}

std::vector<Translation> translate_sources(const Options& options, const std::vector<Source>& sources) {
  std::vector<Translation> result(sources.size());
  Session session(options);
  std::string log;
  if (!session.prepare(false, log)) {
    for (size_t n = 0; n < sources.size(); ++n) result[n].diagnostics.push_back({sources[n].name, 0, log});
    return result;
  }
  std::vector<Job> jobs(sources.size());
  in_parallel(sources.size(), options.jobs, [&](size_t n) { session.translate(sources[n], n, jobs[n]); });
  for (size_t n = 0; n < sources.size(); ++n) {
    result[n] = std::move(jobs[n].translation);
    if (!jobs[n].ok && result[n].ok()) result[n].diagnostics.push_back({sources[n].name, 0, jobs[n].log});
  }
  return result;
}

}  // namespace softmetal::msl
