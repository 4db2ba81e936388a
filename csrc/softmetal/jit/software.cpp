// The settings of csrc/metalloid/software.h, for softmetal.
#include "metalloid/software.h"

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "softmetal/jit/setup.h"
#include "softmetal/runtime/library.h"

namespace metalloid::software {

namespace {

std::atomic<Toolchain (*)()> find_toolchain{nullptr};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

CheckSettings initial_settings() {
  CheckSettings settings;
  const std::string check = variable("METALLOID_CHECK"), non_finite = variable("METALLOID_CHECK_NAN");
  settings.enabled = check != "off" && check != "0";
  settings.non_finite = !non_finite.empty() && non_finite != "0";
  if (const std::string seed = variable("METALLOID_SEED"); !seed.empty())
    settings.seed = std::strtoull(seed.c_str(), nullptr, 0);
  if (const double limit = std::atof(variable("METALLOID_TIME_LIMIT").c_str()); limit > 0)
    settings.time_limit = limit;
  return settings;
}

std::mutex settings_mutex;
CheckSettings& settings() {
  static CheckSettings current = initial_settings();
  return current;
}

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
  const std::lock_guard lock(settings_mutex);
  return settings();
}

void set_check_settings(const CheckSettings& wanted) {
  const std::lock_guard lock(settings_mutex);
  settings() = wanted;
}

bool is_checked(const MTL::Device* device) {
  return softmetal::impl(device)->executor.checks() && check_settings().enabled;
}

KernelInfo kernel_info(const MTL::ComputePipelineState* pipeline) {
  const SoftmetalKernel& kernel = softmetal::impl(pipeline)->kernel;
  static constexpr const char* kSpaces[] = {"device", "constant", "threadgroup"};
  KernelInfo info;
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
