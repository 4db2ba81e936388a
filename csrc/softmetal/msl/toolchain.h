// The C++ compiler that shaders are compiled with, and how it is called.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "softmetal/msl/process.h"

namespace softmetal::msl {

enum class Flavour { Clang, Zig, Gcc };

struct Toolchain {
  std::vector<std::string> command;
  Flavour flavour = Flavour::Clang;
  int major = 0;
  std::string version;  // first line of --version
  std::string error;    // why it cannot be used, or empty
};

// Splits a command line at spaces; quotes and backslashes keep them.
std::vector<std::string> split_command(const std::string& command);

// Asks the compiler what it is, once in this process.
Toolchain detect_toolchain(const std::vector<std::string>& command);

// The instruction sets that a library can be compiled for.
const std::vector<std::string>& known_isas();
std::string host_isa();

struct CompileFlags {
  std::string isa;
  bool fast_math = true;
  bool checked = false;      // every access and edge calls the support unit, and lines can be found
  uint64_t frame_limit = 0;  // bytes that a function may have on its stack; 0: any
};

// Flags that select the target, for compiling and linking. `error` says why there are none.
std::vector<std::string> target_flags(const Toolchain& toolchain, const std::string& isa, std::string& error);
std::vector<std::string> preprocess_command(const Toolchain& toolchain);
std::vector<std::string> compile_command(const Toolchain& toolchain, const CompileFlags& flags);
// For code that is not the user's.
std::vector<std::string> plain_compile_command(const Toolchain& toolchain);
std::vector<std::string> link_command(const Toolchain& toolchain, bool keep_lines);

// What the compiler must find in its environment: plain messages, and caches inside `directory`.
std::vector<std::string> tool_environment(const std::string& directory);

}  // namespace softmetal::msl
