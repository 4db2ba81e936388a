// Compiled shaders and the pipelines made from them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "metalloid/metal.h"

namespace metalloid {

// A kernel ready to run. Lives as long as its library.
struct Pipeline {
  std::string name;
  NS::SharedPtr<MTL::ComputePipelineState> state;
  uint32_t execution_width;           // threads of a SIMD-group
  uint32_t max_threads;               // of a threadgroup
  uint64_t static_memory;             // threadgroup memory that the kernel declares itself
  uint64_t threadgroup_memory_limit;  // of the device
};

// The value of one [[function_constant]], given by name.
struct FunctionConstant {
  std::string_view name;
  MTL::DataType type;
  uint64_t bits;  // the value, in its lowest bytes

  static FunctionConstant boolean(std::string_view name, bool value) {
    return {name, MTL::DataTypeBool, value ? uint64_t{1} : 0};
  }
  static FunctionConstant uint32(std::string_view name, uint32_t value) {
    return {name, MTL::DataTypeUInt, value};
  }
};

class Library {
 public:
  // Loads a compiled library. Throws DeviceError with what Metal says.
  Library(MTL::Device* device, const std::string& path);

  std::vector<std::string> kernels() const;
  // Metal's label of the library.
  std::string label() const;

  // The pipeline of a kernel with these constants; made on first use. Safe to call from any thread.
  const Pipeline& pipeline(std::string_view name, std::span<const FunctionConstant> constants = {});

 private:
  std::unique_ptr<Pipeline> make(std::string_view name, std::span<const FunctionConstant> constants);

  MTL::Device* device_;
  NS::SharedPtr<MTL::Library> library_;
  std::mutex mutex_;
  std::unordered_map<std::string, std::unique_ptr<Pipeline>> pipelines_;
};

// A kernel of the built-in library, declared at namespace scope by the operation that dispatches it.
// Each declaration has a slot of its own on every device: Device::pipeline() is an array access.
class Kernel {
 public:
  explicit Kernel(std::string name);
  const std::string& name() const { return name_; }
  uint32_t slot() const { return slot_; }
  static uint32_t count();

 private:
  std::string name_;
  uint32_t slot_;
};

// Where devices look for the built-in kernels: what set_library_path() said, else METALLOID_LIBRARY,
// else metalloid.metallib beside the binary that holds this code. To be set before the first device is
// opened.
void set_library_path(std::string path);
std::string library_path();

}  // namespace metalloid
