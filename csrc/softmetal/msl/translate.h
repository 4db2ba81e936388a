// Metal Shading Language to C++: a pure function of the preprocessed text. It reads the token stream, never a
// full grammar: types stay text, and the C++ compiler answers every question about them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "softmetal/msl/lexer.h"

namespace softmetal::msl {

// What the source says about one argument of a kernel. `index` is the text of the attribute's argument:
// a number, or an expression that only the C++ compiler can evaluate.
struct ArgumentReflection {
  std::string name;
  std::string type_name;  // of the pointee, without address space and const
  std::string kind;       // "buffer" or "threadgroup"
  std::string index;
  std::string address_space;  // "device", "constant" or "threadgroup"
  std::string access;         // "read" or "read-write"
  bool is_reference = false;
  std::string active_constant;  // the function constant that switches it on, or empty
};

struct ConstantReflection {
  std::string name;
  std::string type_name;
  std::string index;
  bool required = true;
};

struct KernelReflection {
  std::string name;                         // host name
  std::string function;                     // as written: "scale", "blur<float, 4>"
  std::string mode;                         // "threadgroups" or "threads"
  std::string max_threads_per_threadgroup;  // at width 1, 1 where threads of a threadgroup would have to meet
  bool uses_threadgroup = false;      // barriers, SIMD-group functions or threadgroup memory are in reach
  std::vector<std::string> builtins;  // attributes of its other arguments
  std::string file;
  uint32_t line = 0;
  std::vector<ArgumentReflection> arguments;
  std::vector<ConstantReflection> constants;
};

struct Translation {
  std::string cpp;  // empty when there is an error
  std::vector<KernelReflection> kernels;
  std::vector<std::string> files;  // those that the text comes from
  std::vector<Diagnostic> diagnostics;

  bool ok() const;
  std::string log() const;  // the diagnostics, one a line
};

struct TranslateOptions {
  // Suffix of the accessor `softmetal_unit_<name>` through which the library's index finds the file's
  // kernels.
  std::string unit_name = "0";
  // Lanes of a SIMD-group: 1, where a threadgroup whose threads meet has one thread, or 32.
  uint32_t width = 1;
  bool checked = false;  // every access is reported: all kernels run thread by thread
};

// Never fails otherwise than by diagnostics, whatever the input.
Translation translate(std::string_view preprocessed, const std::string& file_name,
                      const TranslateOptions& options = {});

// The reflection of some kernels as JSON.
std::string reflection_json(const std::vector<KernelReflection>& kernels);

}  // namespace softmetal::msl
