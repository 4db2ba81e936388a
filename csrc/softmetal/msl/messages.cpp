#include "softmetal/msl/messages.h"

#include <sstream>
#include <string_view>

namespace softmetal::msl {
namespace {

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }
bool starts_with(const std::string& text, std::string_view part) { return text.rfind(part, 0) == 0; }

// "   12 | text of the emitted code", and the caret under it.
bool is_snippet(const std::string& line) {
  const size_t bar = line.find('|');
  return bar != std::string::npos && bar > 0 && line.find_first_not_of(" 0123456789") == bar;
}

bool is_count(const std::string& line) {
  return contains(line, " generated.") && (contains(line, "error") || contains(line, "warning"));
}

// "static assertion failed due to requirement 'x': text" becomes "text", which is written for the user.
void strip_assertion(std::string& line) {
  replace_all(line, "static assertion failed: ", "");
  const size_t at = line.find("static assertion failed due to requirement '");
  const size_t end = at == std::string::npos ? at : line.find("': ", at + 44);
  if (end != std::string::npos) line.erase(at, end + 3 - at);
}

// "stack frame size (240040) exceeds limit (204800) in 'name' [-W...]"
void name_frame(std::string& line) {
  const size_t at = line.find("stack frame size (");
  const size_t limit = line.find(") exceeds limit (", at), name = line.find(") in ", limit);
  if (at == std::string::npos || limit == std::string::npos || name == std::string::npos) return;
  line = line.substr(0, at) + frame_message(line.substr(name + 5, line.find(" [", name) - name - 5),
                                            line.substr(at + 18, limit - at - 18),
                                            line.substr(limit + 17, name - limit - 17));
}

void name_swizzle(std::string& text, const std::string& swizzle) {
  for (const char* method : {"'sw'", "'sw_ref'"}) replace_all(text, method, "'" + swizzle + "'");
}

}  // namespace

std::string frame_message(const std::string& function, const std::string& bytes, const std::string& limit) {
  std::string name = function.find("::sm_thread") == std::string::npos ? function : "the kernel";
  for (const char* scope : {"(anonymous namespace)::", "{anonymous}::"}) replace_all(name, scope, "");
  return name + " needs " + bytes + " bytes of private memory a thread, at most " + limit +
         " are there: use smaller arrays";
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

std::string clean_messages(const std::string& log, const std::string& directory, const std::string& runtime) {
  std::istringstream lines(log);
  std::string out, previous;
  const auto flush = [&] {
    name_swizzle(previous, "swizzle");  // gcc does not say which
    out += previous;
    previous.clear();
  };
  for (std::string line; std::getline(lines, line);) {
    const bool of_ours = contains(line, directory) || contains(line, runtime + "/softmetal/msl/");
    const bool chain =
        starts_with(line, "In file included from ") || starts_with(line, "                 from ");
    if (is_snippet(line) || is_count(line) || (of_ours && (chain || contains(line, ": In ")))) continue;
    // A swizzle is a macro in the emitted code, and what was tried with it is in the message before.
    const size_t macro = line.find("macro 'sw_");
    if (macro != std::string::npos && contains(line, ": note: ")) {
      name_swizzle(previous, line.substr(macro + 10, line.find_first_of("_'", macro + 10) - macro - 10));
      continue;
    }
    // Which of the library's functions were not meant, and why, helps nobody who did not write them.
    if (of_ours && contains(line, ": note: ")) continue;
    replace_all(line, directory + "/", "");
    replace_all(line, "(anonymous namespace)::", "");
    replace_all(line, "{anonymous}::", "");
    strip_assertion(line);
    name_frame(line);
    if (contains(line, "variable length array"))
      line =
          line.substr(0, line.find("variable length array")) + "the length of an array needs to be constant";
    flush();
    previous = line + "\n";
  }
  flush();
  return out;
}

}  // namespace softmetal::msl
