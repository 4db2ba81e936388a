#include "metalloid/availability.h"

#include <cstdlib>
#include <string_view>

namespace metalloid {

// All there is, unless an older system is to be stood in for.
bool available(const void*, Feature feature) {
  switch (feature) {
    case Feature::residency_sets: {
      static const char* const chosen = std::getenv("METALLOID_RESIDENCY_SETS");
      return !chosen || std::string_view(chosen) != "0";
    }
    case Feature::math_mode:
    case Feature::indirect_commands:
      return true;
  }
  return false;
}

}  // namespace metalloid
