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

void fail_next_command_buffer(MTL::CommandBufferError) {}

bool is_checked(const MTL::Device*) { return false; }

KernelInfo kernel_info(const MTL::ComputePipelineState*) { return {}; }

}  // namespace metalloid::software
