// The pairs of operations that are one operation. A new one joins by a row in fusions.cpp.
#pragma once

#include <span>

#include "metalloid/passes.h"

namespace metalloid::ops {

std::span<const Fusion> fusions();

}  // namespace metalloid::ops
