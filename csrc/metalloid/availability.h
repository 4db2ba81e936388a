// What newer systems than macOS 14 have. A function that calls any of it asks here first, as metal-cpp
// compiles such calls for every system, and on an older one they end the process.
#pragma once

#include <cstdint>

#include "metalloid/metal.h"

namespace metalloid {

enum class Feature : uint8_t {
  residency_sets,  // MTL::ResidencySet and what takes one: macOS 15
};

// csrc/softmetal implements it off the Mac, and the build picks.
bool available(const MTL::Device* device, Feature feature);

}  // namespace metalloid
