#include "softmetal/msl/toolchain.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

namespace softmetal::msl {
namespace {

std::string base_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

bool names_zig(const std::vector<std::string>& command) {
  return std::any_of(command.begin(), command.end(), [](const std::string& word) {
    const std::string base = base_name(word);
    return base == "zig" || base == "ziglang" || base == "zig.exe" || base.rfind("zig-", 0) == 0;
  });
}

void append(std::vector<std::string>& to, std::initializer_list<const char*> flags) {
  to.insert(to.end(), flags.begin(), flags.end());
}

std::string host_architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "";
#endif
}

}  // namespace

std::vector<std::string> split_command(const std::string& command) {
  std::vector<std::string> words;
  std::string word;
  bool open = false;
  char quote = 0;
  for (size_t i = 0; i < command.size(); ++i) {
    const char c = command[i];
    if (quote) {
      if (c == quote)
        quote = 0;
      else
        word += c;
    } else if (c == '"' || c == '\'') {
      quote = c;
      open = true;
    } else if (c == '\\' && i + 1 < command.size()) {
      word += command[++i];
      open = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      if (open) words.push_back(word);
      word.clear();
      open = false;
    } else {
      word += c;
      open = true;
    }
  }
  if (open) words.push_back(word);
  return words;
}

namespace {

Toolchain ask_toolchain(const std::vector<std::string>& command) {
  Toolchain result;
  result.command = command;
  if (command.empty()) {
    result.error = "no shader compiler is given";
    return result;
  }
  std::vector<std::string> ask = command;
  ask.push_back("--version");
  const ProcessResult answer = run_process(ask, tool_environment(""), 60);
  std::string name;
  for (const std::string& word : command) name += (name.empty() ? "" : " ") + word;
  if (!answer.ok()) {
    result.error = "the shader compiler '" + name +
                   "' does not work: " + (answer.output.empty() ? "no answer to --version" : answer.output);
    return result;
  }
  result.version = answer.output.substr(0, answer.output.find('\n'));
  const bool clang = answer.output.find("clang") != std::string::npos;
  const bool gcc = answer.output.find("Free Software Foundation") != std::string::npos;
  if (!clang && !gcc) {
    result.error =
        "the shader compiler '" + name + "' is neither clang nor gcc: it says '" + result.version + "'";
    return result;
  }
  result.flavour = !clang ? Flavour::Gcc : names_zig(command) ? Flavour::Zig : Flavour::Clang;
  if (result.flavour == Flavour::Zig) result.version += " (zig)";
  // "clang version 16.0.6", "g++ (Debian 12.2.0-14) 12.2.0": the number after the last space or after
  // "version".
  size_t number = result.version.find("version ");
  if (clang && number != std::string::npos)
    number += 8;
  else
    number = result.version.rfind(' ') + 1;
  result.major = std::atoi(result.version.c_str() + std::min(number, result.version.size()));
  const int needed = clang ? 16 : 12;
  if (result.major != 0 && result.major < needed)
    result.error = "the shader compiler '" + name + "' is " + result.version + ", needs version " +
                   std::to_string(needed) + " or newer";
  return result;
}

}  // namespace

Toolchain detect_toolchain(const std::vector<std::string>& command) {
  static std::mutex mutex;
  static std::map<std::vector<std::string>, Toolchain> known;
  {
    const std::lock_guard lock(mutex);
    if (const auto it = known.find(command); it != known.end()) return it->second;
  }
  // Without the lock: a process may be forked while the compiler takes its time to answer.
  Toolchain result = ask_toolchain(command);
  const std::lock_guard lock(mutex);
  if (result.error.empty()) known.emplace(command, result);
  return result;
}

const std::vector<std::string>& known_isas() {
  static const std::vector<std::string> names = {"x86-64-v3", "x86-64-v4", "x86-64-v4-bf16", "aarch64"};
  return names;
}

std::string host_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
  if (!v4) return "x86-64-v3";
  return __builtin_cpu_supports("avx512bf16") ? "x86-64-v4-bf16" : "x86-64-v4";
#else
  return host_architecture();
#endif
}

std::vector<std::string> target_flags(const Toolchain& toolchain, const std::string& isa,
                                      std::string& error) {
  const auto& known = known_isas();
  if (std::find(known.begin(), known.end(), isa) == known.end()) {
    error = "instruction set '" + isa + "' is unknown, needs x86-64-v3, x86-64-v4, x86-64-v4-bf16 or aarch64";
    return {};
  }
  const std::string architecture = isa == "aarch64" ? "aarch64" : "x86_64";
  const bool x86 = architecture == "x86_64";
  const bool native = architecture == host_architecture();
  // x86-64-v4-bf16 is x86-64-v4 with the instructions that round to bfloat16.
  const bool bf16 = isa == "x86-64-v4-bf16";
  const std::string level = bf16 ? "x86-64-v4" : isa;
  std::vector<std::string> flags;
  switch (toolchain.flavour) {
    case Flavour::Zig: {
      std::string cpu = level;
      std::replace(cpu.begin(), cpu.end(), '-', '_');
      flags = {"-target", architecture + "-linux-gnu.2.28"};
      if (x86) flags.push_back("-mcpu=" + cpu);
      break;
    }
    case Flavour::Clang:
      if (!native) flags = {"--target=" + architecture + "-linux-gnu", "-fuse-ld=lld"};
      if (x86) flags.push_back("-march=" + level);
      break;
    case Flavour::Gcc:
      if (!native) {
        error = "gcc cannot compile for " + isa + " on this machine, needs clang or zig";
        return {};
      }
      if (x86) flags.push_back("-march=" + level);
      break;
  }
  if (bf16) flags.push_back("-mavx512bf16");
  return flags;
}

std::vector<std::string> preprocess_command(const Toolchain& toolchain) {
  std::vector<std::string> command = toolchain.command;
  append(command,
         {"-E", "-x", "c++", "-std=c++17", "-undef", "-nostdinc", "-w", "-D__METAL__=1",
          "-D__METAL_MACOS__=1", "-D__HAVE_BFLOAT__=1",
          // The macros of <metal_stdlib> that stand for specifiers: they must be gone before translation.
          "-DMETAL_FUNC=inline __attribute__((always_inline))"});
  return command;
}

std::vector<std::string> plain_compile_command(const Toolchain& toolchain) {
  std::vector<std::string> command = toolchain.command;
  append(command, {"-c", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden",
                   "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-stack-protector",
                   "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer", "-fsigned-char",
                   // Kernels reinterpret buffers as a matter of course.
                   "-fno-strict-aliasing"});
  // Messages are for the user's .metal file; columns and snippets would be those of the emitted code.
  if (toolchain.flavour == Flavour::Gcc)
    append(command, {"-w", "-fdiagnostics-color=never", "-fno-diagnostics-show-caret", "-fno-show-column",
                     "-ftrack-macro-expansion=0", "-fmax-errors=20",
                     // No traps where a divisor is known to be zero: division.h has a result for it.
                     "-fno-isolate-erroneous-paths-dereference"});
  else
    append(command, {"-Wno-everything", "-fno-color-diagnostics", "-fno-caret-diagnostics",
                     "-fno-show-column", "-ferror-limit=20"});
  if (toolchain.flavour == Flavour::Zig) command.push_back("-fno-sanitize=undefined");
  return command;
}

std::vector<std::string> compile_command(const Toolchain& toolchain, const CompileFlags& flags) {
  std::vector<std::string> command = plain_compile_command(toolchain);
  const bool gcc = toolchain.flavour == Flavour::Gcc;
  const bool x86 = flags.isa != "aarch64";
  if (flags.fast_math) {
    append(command, {"-ffast-math", "-fno-finite-math-only", "-fno-math-errno"});
    // No reciprocal estimates: they cost accuracy, and differ between processors.
    if (x86) command.push_back(gcc ? "-mno-recip" : "-mrecip=none");
  } else {
    append(command, {"-ffp-contract=off", "-fno-math-errno"});
  }
  if (flags.isa.rfind("x86-64-v4", 0) == 0) command.push_back("-mprefer-vector-width=512");
  // Metal's compiler inlines every function; here that is what lets positions in the grid become constants.
  if (gcc)
    append(command, {"--param=max-inline-insns-single=20000", "--param=max-inline-insns-auto=20000",
                     "--param=large-function-growth=100000", "--param=inline-unit-growth=100000"});
  else
    append(command, {"-mllvm", "-inline-threshold=20000"});
  if (flags.frame_limit != 0) {
    // A call in the source by which threads meet stays one place in the code for all of them: neither copied
    // along a thread's own path, nor made one with another, nor left by a jump. And the blocks stay in the
    // order of the source: lanes that branched apart meet again because those at the lowest place go first.
    command.push_back("-fno-optimize-sibling-calls");
    if (gcc)
      append(command, {"-fno-tree-tail-merge", "-fno-crossjumping", "-fno-thread-jumps", "-fno-split-paths",
                       "-fno-unswitch-loops", "-fno-split-loops", "-fno-ipa-icf", "-fno-reorder-blocks",
                       "-fno-reorder-blocks-and-partition"});
    else
      append(command, {"-fconvergent-functions", "-mllvm", "-disable-block-placement"});
    // Arrays whose length is not constant would evade the limit; Metal does not have them. gcc tells the
    // sizes in a file beside the object, which is read in compile.cpp.
    if (gcc)
      command.push_back("-fstack-usage");
    else
      append(command, {"-Werror=vla", "-Werror=frame-larger-than",
                       ("-Wframe-larger-than=" + std::to_string(flags.frame_limit)).c_str()});
  }
  if (!flags.checked) {
    append(command, {"-O3", "-g0"});
    return command;
  }
  // Vectors hide accesses from the sanitizer's pass, and what is moved out of a loop loses its line. Its
  // calls at the ends of functions are of no use, and it leaves out a read that a write to the same place
  // follows, unless the two are one call.
  append(command, {"-O2", "-g", "-gdwarf-4", "-fsanitize=thread", "-fsanitize-coverage=trace-pc",
                   "-fsanitize=alignment", "-fsanitize-recover=alignment"});
  if (gcc)
    append(command,
           {"-fno-tree-vectorize", "-fno-tree-loop-im", "--param=tsan-instrument-func-entry-exit=0"});
  else
    append(command, {"-fno-sanitize-trap=alignment", "-fno-vectorize", "-fno-slp-vectorize", "-mllvm",
                     "-disable-licm-promotion", "-mllvm", "-tsan-instrument-func-entry-exit=0", "-mllvm",
                     "-tsan-compound-read-before-write=1"});
  return command;
}

std::vector<std::string> link_command(const Toolchain& toolchain, bool keep_lines) {
  std::vector<std::string> command = toolchain.command;
  // Neither start-up files nor libraries: what a shader needs of the C library is checked afterwards and
  // is in every process. Never -ffast-math here: it would set flush-to-zero for the whole process.
  append(command, {"-shared", "-nostdlib", "-Wl,--gc-sections", "-Wl,--build-id=none"});
  if (!keep_lines) command.push_back("-s");
  if (toolchain.flavour == Flavour::Gcc) command.push_back("-Wl,-z,noexecstack");
  return command;
}

std::vector<std::string> tool_environment(const std::string& directory) {
  std::vector<std::string> environment = {"LC_ALL=C"};
  if (!directory.empty()) {
    environment.push_back("ZIG_GLOBAL_CACHE_DIR=" + directory + "/zig");
    environment.push_back("ZIG_LOCAL_CACHE_DIR=" + directory + "/zig");
  }
  return environment;
}

}  // namespace softmetal::msl
