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

std::string settings_problem() { return {}; }

// Each family has those before it. The numbers of families to come are known, their names are not.
std::string gpu_family(MTL::Device* device) {
  constexpr int kFirst = MTL::GPUFamilyApple1, kMost = 30;
  for (int number = kMost; number >= 1; --number) {
    if (device->supportsFamily(static_cast<MTL::GPUFamily>(kFirst + number - 1)))
      return "apple" + std::to_string(number);
  }
  return {};
}

void fail_next_command_buffer(MTL::CommandBufferError) {}

bool is_checked(const MTL::Device*) { return false; }

KernelInfo kernel_info(const MTL::ComputePipelineState*) { return {}; }

}  // namespace metalloid::software
