#include "softmetal/msl/compile.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <thread>

#include "softmetal/msl/elf.h"
#include "softmetal/msl/messages.h"

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
};

struct Job {
  std::string preprocessed;
  std::string object;
  std::string log;
  Translation translation;
  bool ok = false;
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
    if (options_.width != "any") {
      log = "mslc: error: SIMD width '" + options_.width +
            "' needs the 32-lane device, which this build lacks; kernels that do not depend on the width are "
            "compiled with 'any'\n";
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
    std::filesystem::create_directory(directory_.file("metal"), failed);
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
    job.translation = msl::translate(text, source.name, {std::to_string(number)});
    job.log += job.translation.log();
    job.ok = job.translation.ok();
  }

  void compile(const Source& source, size_t number, Job& job) {
    translate(source, number, job);
    if (!job.ok) return;
    job.ok = compile_text(job.translation.cpp, "unit" + std::to_string(number), job);
  }

  bool compile_text(const std::string& text, const std::string& name, Job& job) {
    const std::string path = directory_.file(name + ".cpp");
    job.object = directory_.file(name + ".o");
    if (!write_file(path, text)) {
      job.log += "mslc: error: cannot write to " + directory_.path() + "\n";
      return false;
    }
    std::vector<std::string> command = compile_command(toolchain_, {options_.isa, options_.fast_math});
    command.insert(command.end(), target_.begin(), target_.end());
    command.push_back("-I" + options_.runtime_directory + "/softmetal/msl/stdlib");
    command.push_back("-I" + options_.runtime_directory);
    command.insert(command.end(), {path, "-o", job.object});
    return run(command, job);
  }

  // The table of all files, behind the one symbol that the library exports.
  bool compile_index(size_t units, Job& job) {
    std::string text = "#include \"softmetal/runtime/kernel_abi.h\"\n", table;
    for (size_t n = 0; n < units; ++n) {
      const std::string accessor = "softmetal_unit_" + std::to_string(n) + "()";
      text += "extern \"C\" const SoftmetalUnit* " + accessor + ";\n";
      table += "  units[" + std::to_string(n) + "] = " + accessor + ";\n";
    }
    text += "static const SoftmetalUnit* units[" + std::to_string(std::max<size_t>(units, 1)) +
            "];\nstatic const SoftmetalLibrary library = {SOFTMETAL_ABI_VERSION, " + quote(options_.isa) +
            ", " + quote(toolchain_.version) + ", units, " + std::to_string(units) +
            "};\nextern \"C\" __attribute__((visibility(\"default\"))) const SoftmetalLibrary* "
            "softmetal_library() {\n" +
            table + "  return &library;\n}\n";
    return compile_text(text, "index", job);
  }

  bool link(const std::vector<std::string>& objects, const std::string& output, Job& job) {
    std::vector<std::string> command = link_command(toolchain_);
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

}  // namespace

Result compile(const Options& options, const std::vector<Source>& sources) {
  Result result;
  Session session(options);
  if (!session.prepare(true, result.log)) return result;
  std::vector<Job> jobs(sources.size());
  in_parallel(sources.size(), options.jobs, [&](size_t n) { session.compile(sources[n], n, jobs[n]); });
  result.ok = true;
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
  Job index;
  result.ok = session.compile_index(sources.size(), index);
  objects.push_back(index.object);
  result.ok = result.ok && session.link(objects, partial, index);
  result.log += index.log;
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
