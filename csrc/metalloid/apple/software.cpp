#include "metalloid/software.h"

// Metal compiles by itself, and checks nothing.
namespace metalloid::software {

namespace {

// For calls that the oldest system which we run on does not have.
class Asks : public NS::Object {
 public:
  static bool has(const void* object, const char* selector) {
    return respondsToSelector(object, sel_registerName(selector));
  }
};

}  // namespace

void set_toolchain(Toolchain (*)()) {}

void keep_non_finite(MTL::CompileOptions* options) {
  if (Asks::has(options, "setMathMode:")) options->setMathMode(MTL::MathModeRelaxed);
}

CheckSettings check_settings() {
  CheckSettings settings;
  settings.enabled = false;
  return settings;
}

void set_check_settings(const CheckSettings&) {}

bool is_checked(const MTL::Device*) { return false; }

KernelInfo kernel_info(const MTL::ComputePipelineState*) { return {}; }

}  // namespace metalloid::software
