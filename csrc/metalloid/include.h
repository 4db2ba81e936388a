// Puts a shader and the headers that it includes into one string, which is what Metal compiles at run time.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace metalloid {

// Where included files come from, in this order of preference.
struct IncludePaths {
  std::map<std::string, std::string> headers;  // name to text
  std::vector<std::string> directories;        // a file's own directory comes before these
  std::vector<std::string> defined;            // macros that the compiler is given
};

// The text that includes are put into.
struct MainFile {
  std::string name;  // as messages call it
  std::string path;  // quoted includes are looked up beside it; empty: among the headers only
};

// `text` with its includes in place. Line markers name the file and line of everything. What is not found
// stays as it is, for the compiler to know or to report. Throws CompileError when includes nest without end.
std::string flatten_includes(const std::string& text, const MainFile& file, const IncludePaths& paths);

// The contents of a file; nothing when it cannot be read.
std::optional<std::string> read_file(const std::string& path);

}  // namespace metalloid
