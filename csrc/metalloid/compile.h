// Compiling shaders at run time.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "metalloid/metal.h"
#include "metalloid/source_arguments.h"

namespace metalloid {

struct CompileRequest {
  std::string source;  // the text
  std::string path;    // of the file that it comes from; empty: from none
  std::string name;    // as messages call it; empty: the path, or Metal's own name
  std::vector<std::string> include_dirs;
  std::map<std::string, std::string> headers;  // in memory: name to text
  std::map<std::string, std::string> macros;   // name to replacement
  bool fast_math = true;
  bool keep_non_finite = false;  // fast math, but with infinities and NaN, where Metal can
  std::string language_version;  // "3.1"; empty: the newest that the system knows
  bool any_simd_width = false;   // the kernels do not depend on the width of SIMD-groups
};

// The newest version of the language in a macOS, of which `major` is the version.
const char* newest_language(long major);

// Null, with an error, for what Metal does not compile. Throws ValidationError for what it cannot be given.
// `arguments` is set to what the source, with its includes, tells of its kernels.
NS::SharedPtr<MTL::Library> compile(MTL::Device* metal, const CompileRequest& request,
                                    SourceArguments& arguments, NS::Error** error);

}  // namespace metalloid
