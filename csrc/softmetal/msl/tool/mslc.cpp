// mslc: compiles Metal shaders into a library for processors without Metal.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "softmetal/msl/compile.h"

namespace {

constexpr const char* kUsage =
    "usage: mslc [options] FILE.metal ... -o LIBRARY.so\n"
    "  -o FILE             the shared object to write\n"
    "  --cxx COMMAND       the C++ compiler, with its arguments (default: $METALLOID_SHADER_CXX, else "
    "clang++)\n"
    "  --isa NAME          x86-64-v3, x86-64-v4, x86-64-v4-bf16 or aarch64 (default: what this processor "
    "has)\n"
    "  --width any|32      lanes of a SIMD-group; any: the kernels do not depend on it (default)\n"
    "  --checked           report every access to the runtime; at width 32\n"
    "  --fast-math on|off  relaxed floating-point arithmetic (default: on)\n"
    "  -I DIR, -D NAME=V   passed to the preprocessor\n"
    "  --runtime-dir DIR   holds softmetal/msl/stdlib and softmetal/runtime\n"
    "  --jobs N            files compiled at a time (default: 2)\n"
    "  --emit-cpp          print the translated C++ instead\n"
    "  --reflect           print the kernels as JSON instead\n";

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "mslc: error: %s\n", message.c_str());
  std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  namespace msl = softmetal::msl;
  msl::Options options;
  options.runtime_directory = SOFTMETAL_RUNTIME_DIRECTORY;
  const char* compiler = std::getenv("METALLOID_SHADER_CXX");
  std::string command = compiler && *compiler ? compiler : "clang++";
  bool emit_cpp = false, reflect = false;
  std::vector<msl::Source> sources;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    // `-Idir` and `-I dir`.
    const auto joined = [&](const char* name) { return option.rfind(name, 0) == 0 && option.size() > 2; };
    const auto value = [&]() -> std::string {
      if (i + 1 >= argc) fail("option " + option + " needs a value");
      return argv[++i];
    };
    if (option == "-h" || option == "--help") {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (option == "-o")
      options.output = value();
    else if (option == "--cxx")
      command = value();
    else if (option == "--isa")
      options.isa = value();
    else if (option == "--width")
      options.width = value();
    else if (option == "--checked")
      options.checked = true;
    else if (option == "--runtime-dir")
      options.runtime_directory = value();
    else if (option == "--emit-cpp")
      emit_cpp = true;
    else if (option == "--reflect")
      reflect = true;
    else if (option == "-I")
      options.include_directories.push_back(value());
    else if (option == "-D")
      options.defines.push_back(value());
    else if (joined("-I"))
      options.include_directories.push_back(option.substr(2));
    else if (joined("-D"))
      options.defines.push_back(option.substr(2));
    else if (option == "--jobs")
      options.jobs = std::atoi(value().c_str());
    else if (option == "--fast-math") {
      const std::string setting = value();
      if (setting != "on" && setting != "off") fail("--fast-math got '" + setting + "', needs on or off");
      options.fast_math = setting == "on";
    } else if (option.size() > 1 && option[0] == '-') {
      fail("unknown option " + option + "; mslc --help lists them");
    } else {
      sources.push_back({option, std::nullopt});
    }
  }
  options.compiler = msl::split_command(command);
  if (sources.empty()) fail("no .metal file is given");

  if (emit_cpp || reflect) {
    bool ok = true;
    std::vector<msl::KernelReflection> kernels;
    for (msl::Translation& t : msl::translate_sources(options, sources)) {
      std::fputs(t.log().c_str(), stderr);
      ok = ok && t.ok();
      if (emit_cpp) std::fputs(t.cpp.c_str(), stdout);
      kernels.insert(kernels.end(), t.kernels.begin(), t.kernels.end());
    }
    if (ok && reflect) std::fputs(msl::reflection_json(kernels).c_str(), stdout);
    return ok ? 0 : 1;
  }
  if (options.output.empty()) fail("-o FILE is needed: where to write the library");
  const msl::Result result = msl::compile(options, sources);
  std::fputs(result.log.c_str(), stderr);
  return result.ok ? 0 : 1;
}
