#include "metalloid/availability.h"

namespace metalloid {

namespace {

// Never made; metal-cpp keeps the question to its own classes.
struct Asks : NS::Object {
  static bool answers(const void* object, const char* selector) {
    return object && respondsToSelector(object, sel_registerName(selector));
  }
};

}  // namespace

bool available(const void* object, Feature feature) {
  switch (feature) {
    case Feature::residency_sets:
      return Asks::answers(object, "newResidencySetWithDescriptor:error:");
    case Feature::math_mode:
      return Asks::answers(object, "setMathMode:");
    case Feature::indirect_commands:
      return Asks::answers(object, "newIndirectCommandBufferWithDescriptor:maxCommandCount:options:");
  }
  return false;
}

}  // namespace metalloid
