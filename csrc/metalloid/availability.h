// What newer systems than macOS 14 have. A function that calls any of it asks here first, or holds an object
// that only such a system gives: metal-cpp compiles the calls for every system, and on an older one they end
// the process.
#pragma once

#include <cstdint>

#include "metalloid/metal.h"

namespace metalloid {

enum class Feature : uint8_t {
  residency_sets,     // of a device: MTL::ResidencySet and what takes one, macOS 15
  math_mode,          // of compile options: macOS 15
  indirect_commands,  // of a device: MTL::IndirectCommandBuffer of compute commands
};

// Whether the object has the feature. csrc/softmetal implements it off the Mac, and the build picks.
bool available(const void* object, Feature feature);

}  // namespace metalloid
