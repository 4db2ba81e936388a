#include "metalloid/library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "metalloid/error.h"
#include "metalloid/timeline.h"

namespace metalloid {

namespace {

std::mutex path_mutex;
std::string& chosen_path() {
  static std::string path;
  return path;
}

std::atomic<uint32_t>& kernel_count() {
  static std::atomic<uint32_t> count{0};
  return count;
}

}  // namespace

void set_library_path(std::string path) {
  std::lock_guard lock(path_mutex);
  chosen_path() = std::move(path);
}

std::string library_path() {
  {
    std::lock_guard lock(path_mutex);
    if (!chosen_path().empty()) return chosen_path();
  }
  if (const char* path = std::getenv("METALLOID_LIBRARY"); path && *path) return path;
  Dl_info binary{};
  dladdr(reinterpret_cast<const void*>(&kernel_count), &binary);
  std::string path = binary.dli_fname ? binary.dli_fname : "";
  size_t slash = path.rfind('/');
  return (slash == std::string::npos ? "." : path.substr(0, slash)) + "/metalloid.metallib";
}

Kernel::Kernel(std::string name) : name_(std::move(name)), slot_(kernel_count().fetch_add(1)) {}

uint32_t Kernel::count() { return kernel_count().load(); }

Library::Library(MTL::Device* device, const std::string& path) : device_(device) {
  AutoreleaseScope scope;
  NS::Error* error = nullptr;
  library_ = NS::TransferPtr(device->newLibrary(ns_string(path).get(), &error));
  if (!library_) {
    throw DeviceError(
        text("Device: cannot load the kernels from ", path, ": ", describe(error, "Metal gave no reason")));
  }
}

std::vector<std::string> Library::kernels() const {
  AutoreleaseScope scope;
  std::vector<std::string> names;
  const NS::Array* functions = library_->functionNames();
  for (NS::UInteger i = 0; functions && i < functions->count(); ++i) {
    names.push_back(to_string(functions->object<NS::String>(i)));
  }
  return names;
}

std::string Library::label() const {
  AutoreleaseScope scope;
  return to_string(library_->label());
}

const Pipeline& Library::pipeline(std::string_view name, std::span<const FunctionConstant> constants) {
  std::string key(name);
  for (const FunctionConstant& constant : constants) {
    key.append(1, '\0').append(constant.name).append(1, '\0');
    key.append(reinterpret_cast<const char*>(&constant.bits), sizeof constant.bits);
  }
  std::lock_guard lock(mutex_);
  std::unique_ptr<Pipeline>& pipeline = pipelines_[key];
  if (!pipeline) pipeline = make(name, constants);
  return *pipeline;
}

std::unique_ptr<Pipeline> Library::make(std::string_view name, std::span<const FunctionConstant> constants) {
  AutoreleaseScope scope;
  NS::Error* error = nullptr;
  NS::SharedPtr<NS::String> function_name = ns_string(std::string(name));
  NS::SharedPtr<MTL::Function> function;
  if (constants.empty()) {
    function = NS::TransferPtr(library_->newFunction(function_name.get()));
  } else {
    auto values = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
    for (const FunctionConstant& constant : constants) {
      values->setConstantValue(&constant.bits, constant.type, ns_string(std::string(constant.name)).get());
    }
    function = NS::TransferPtr(library_->newFunction(function_name.get(), values.get(), &error));
  }
  if (!function) {
    throw DeviceError(text("kernel ", name, ": the library has none such: ", describe(error, "no function")));
  }
  auto state = NS::TransferPtr(device_->newComputePipelineState(function.get(), &error));
  if (!state) {
    throw DeviceError(text("kernel ", name, ": no pipeline: ", describe(error, "Metal gave no reason")));
  }
  auto pipeline = std::make_unique<Pipeline>();
  pipeline->name = name;
  pipeline->execution_width = static_cast<uint32_t>(state->threadExecutionWidth());
  pipeline->max_threads = static_cast<uint32_t>(state->maxTotalThreadsPerThreadgroup());
  pipeline->static_memory = state->staticThreadgroupMemoryLength();
  pipeline->threadgroup_memory_limit = device_->maxThreadgroupMemoryLength();
  pipeline->state = std::move(state);
  return pipeline;
}

}  // namespace metalloid
