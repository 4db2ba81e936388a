#pragma once

#include <string>
#include <vector>

namespace softmetal::msl {

// Symbols that the shared object at `path` needs from elsewhere, demangled.
std::vector<std::string> undefined_symbols(const std::string& path);

}  // namespace softmetal::msl
