#include "metalloid/software.h"

// Metal compiles by itself, and checks nothing.
namespace metalloid::software {

void set_toolchain(Toolchain (*)()) {}

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
