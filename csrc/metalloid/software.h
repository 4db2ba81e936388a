// The few settings of the software implementation of Metal that Metal's own API has no word for. On macOS all
// of this but gpu_family() is inert: csrc/softmetal implements it elsewhere, and the build picks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metalloid/metal.h"

namespace metalloid::software {

// How kernels are compiled at run time. Asked for once, at the first compilation.
struct Toolchain {
  std::vector<std::string> compiler;  // the command; empty: none was found
  std::string missing;                // why, and what to install
  std::string headers;                // the directory that holds softmetal/msl and softmetal/runtime
  std::string cache;                  // the directory of compiled libraries; empty: keep nothing
};
void set_toolchain(Toolchain (*find)());

struct CheckSettings {
  bool enabled = true;
  bool non_finite = false;   // also report where NaN or Inf first appears
  uint64_t seed = 0;         // of the order of threadgroups and SIMD-groups
  double time_limit = 10.0;  // CPU seconds that a threadgroup may take
};
CheckSettings check_settings();
void set_check_settings(const CheckSettings& settings);

// What is wrong with settings in the environment that devices go by; empty: nothing.
std::string settings_problem();

// The newest of Apple's GPU families that the device has, such as "apple8", or that it imitates; else empty.
std::string gpu_family(MTL::Device* device);

// The next command buffer that is committed, on whatever device, ends in this error.
void fail_next_command_buffer(MTL::CommandBufferError code);

// Whether kernels on the device are checked.
bool is_checked(const MTL::Device* device);

// What Metal's reflection does not tell of a kernel.
struct KernelInfo {
  struct Argument {
    bool threadgroup;
    uint32_t index;
    std::string address_space;  // "device", "constant" or "threadgroup"
    MTL::DataType type;         // of threadgroup memory
    std::string type_name;      // as written
  };
  bool known = false;  // by anybody
  std::vector<Argument> arguments;
  std::vector<std::string> builtins;  // the attributes of its other arguments
  // Where it is in its source.
  std::string file;
  uint32_t line = 0;
};
KernelInfo kernel_info(const MTL::ComputePipelineState* pipeline);

}  // namespace metalloid::software
