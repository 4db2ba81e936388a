// Where a Mac and softmetal need different answers that Metal's API has no word for. apple/system.cpp
// implements it on a Mac, csrc/softmetal elsewhere, and the build picks.
#pragma once

#include <string>

#include "metalloid/metal.h"

namespace metalloid {

// The bytes of `data`, which nobody may change. metal-cpp asks for those that may be changed, and what Metal
// gives has none: on a Mac that would end the process.
const void* bytes_of(const NS::Data* data);

// The newest version of the shading language that is compiled here, such as "3.1", and by whom.
struct Language {
  std::string newest;
  std::string system;  // "macOS 14.5"
};
Language language();

// Whether the child of a fork can go on with its parent's devices.
bool survives_forks();

}  // namespace metalloid
