// From .metal files to a shared object that the runtime loads.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "softmetal/msl/toolchain.h"
#include "softmetal/msl/translate.h"

namespace softmetal::msl {

struct Source {
  std::string name;                 // a path, or what messages call `text`
  std::optional<std::string> text;  // the source itself, when there is no file
};

struct Options {
  std::vector<std::string> compiler;  // the command, e.g. {"python3", "-m", "ziglang", "c++"}
  std::string isa;                    // "x86-64-v4", ...; empty: the host's
  std::string width = "any";          // SIMD width the kernels are for: "32", or "any" where they do not care
  bool checked = false;               // every access is reported to the runtime; at width 32
  bool fast_math = true;
  int language_version = 320;  // __METAL_VERSION__: 320 is Metal 3.2
  std::vector<std::string> include_directories;
  std::vector<std::string> defines;  // "NAME" or "NAME=value"
  std::string runtime_directory;     // holds softmetal/msl/stdlib and softmetal/runtime
  std::string output;                // the shared object to write
  int jobs = 2;                      // files compiled at a time
  int limit_seconds = 300;           // for each call of the compiler
};

struct Result {
  bool ok = false;
  std::string path;  // of the shared object
  std::string log;   // diagnostics, one a line: "file:line: error: message"
  std::vector<KernelReflection> kernels;
};

// Compiles all sources into one shared object at options.output, which appears whole or not at all.
Result compile(const Options& options, const std::vector<Source>& sources);

// The first two steps alone, for each source: its reflection and C++ text.
std::vector<Translation> translate_sources(const Options& options, const std::vector<Source>& sources);

}  // namespace softmetal::msl
