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

bool available(const MTL::Device* device, Feature feature) {
  switch (feature) {
    case Feature::residency_sets:
      return Asks::answers(device, "newResidencySetWithDescriptor:error:");
  }
  return false;
}

}  // namespace metalloid
