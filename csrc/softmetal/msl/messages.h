#pragma once

#include <string>

namespace softmetal::msl {

// A C++ compiler's messages in the user's terms: without the emitted file in `directory`, the headers of the
// standard library below `runtime` that lead to it, snippets of emitted code, and the names that translation
// added.
std::string clean_messages(const std::string& log, const std::string& directory, const std::string& runtime);

// That a function's variables do not fit onto a GPU thread's stack.
std::string frame_message(const std::string& function, const std::string& bytes, const std::string& limit);

void replace_all(std::string& text, const std::string& from, const std::string& to);

}  // namespace softmetal::msl
