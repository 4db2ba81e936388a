// Compiling shaders at run time.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace metalloid {

struct CompileRequest {
  std::string source;  // the text
  std::string path;    // of the file that it comes from; empty: from none
  std::string name;    // as messages call it; empty: the path, or Metal's own name
  std::vector<std::string> include_dirs;
  std::map<std::string, std::string> headers;  // in memory: name to text
  std::map<std::string, std::string> macros;   // name to replacement
  bool fast_math = true;
  std::string language_version;  // "3.1"; empty: the newest
  bool any_simd_width = false;   // the kernels do not depend on the width of SIMD-groups
};

}  // namespace metalloid
