// The settings of csrc/metalloid/software.h, for softmetal.
#include "metalloid/software.h"

#include <atomic>

#include "softmetal/jit/language.h"
#include "softmetal/jit/setup.h"
#include "softmetal/runtime/library.h"
#include "softmetal/runtime/limits.h"
#include "softmetal/runtime/softmetal.h"
#include "softmetal/simt/settings.h"

namespace metalloid::software {

namespace {

std::atomic<Toolchain (*)()> find_toolchain{nullptr};

softmetal::jit::Setup found_setup() {
  Toolchain found = find_toolchain.load()();
  softmetal::jit::Setup setup;
  setup.compiler = std::move(found.compiler);
  setup.missing = std::move(found.missing);
  setup.headers = std::move(found.headers);
  setup.cache = std::move(found.cache);
  return setup;
}

}  // namespace

void set_toolchain(Toolchain (*find)()) {
  find_toolchain = find;
  softmetal::jit::set_finder(find ? found_setup : nullptr);
}

CheckSettings check_settings() {
  const softmetal::simt::Settings now = softmetal::simt::settings();
  return {now.enabled, now.non_finite, now.seed, now.time_limit};
}

void set_check_settings(const CheckSettings& wanted) {
  softmetal::simt::set_settings({wanted.enabled, wanted.non_finite, wanted.seed, wanted.time_limit});
}

std::string settings_problem() {
  std::string problem = softmetal::limits_problem();
  return problem.empty() ? softmetal::jit::language_problem() : problem;
}

std::string gpu_family(MTL::Device*) {
  const softmetal::GpuFamily* family = softmetal::limit_settings().family;
  return family ? family->name : "";
}

void fail_next_command_buffer(MTL::CommandBufferError code) { softmetal::fail_next_command_buffer(code); }

bool is_checked(const MTL::Device* device) {
  return softmetal::impl(device)->executor.checks() && check_settings().enabled;
}

KernelInfo kernel_info(const MTL::ComputePipelineState* pipeline) {
  if (softmetal::imitates_mac()) return {};
  const SoftmetalKernel& kernel = softmetal::impl(pipeline)->kernel;
  static constexpr const char* kSpaces[] = {"device", "constant", "threadgroup"};
  KernelInfo info;
  info.known = true;
  for (uint32_t i = 0; i < kernel.argument_count; ++i) {
    const SoftmetalArgument& argument = kernel.arguments[i];
    info.arguments.push_back({argument.kind == SOFTMETAL_ARGUMENT_THREADGROUP, argument.index,
                              kSpaces[argument.address_space], static_cast<MTL::DataType>(argument.data_type),
                              argument.type_name});
  }
  info.builtins.assign(kernel.builtins, kernel.builtins + kernel.builtin_count);
  if (kernel.source_file) info.file = kernel.source_file;
  info.line = kernel.source_line;
  return info;
}

}  // namespace metalloid::software
