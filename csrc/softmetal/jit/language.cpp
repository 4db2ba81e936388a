#include "softmetal/jit/language.h"

#include <algorithm>
#include <cstdlib>

#include "softmetal/runtime/object.h"

namespace softmetal::jit {

namespace {

// Those of macOS 14, 15 and 26.
constexpr const char* kNewest[] = {"3.1", "3.2", "4.0"};

const std::string& chosen() {
  static const auto* const chosen = [] {
    const char* value = std::getenv("METALLOID_LANGUAGE_VERSION");
    return new std::string(value ? value : "");
  }();
  return *chosen;
}

bool is_known(const std::string& version) {
  return std::find(std::begin(kNewest), std::end(kNewest), version) != std::end(kNewest);
}

}  // namespace

std::string newest_language() { return is_known(chosen()) ? chosen() : "4.0"; }

std::string language_problem() {
  if (chosen().empty() || is_known(chosen())) return {};
  return text("METALLOID_LANGUAGE_VERSION is \"%s\", needs one of: 3.1, 3.2, 4.0 (or not to be set)",
              chosen().c_str());
}

}  // namespace softmetal::jit
