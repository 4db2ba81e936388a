// The newest version of the shading language that is taken, which METALLOID_LANGUAGE_VERSION can lower.
#pragma once

#include <string>

namespace softmetal::jit {

// As metalloid::Language has it.
std::string newest_language();

// What is wrong with the setting; empty: nothing.
std::string language_problem();

}  // namespace softmetal::jit
