// Compiled shaders and the kernels made from them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "metalloid/forked.h"
#include "metalloid/kernel.h"
#include "metalloid/metal.h"
#include "metalloid/pipeline_cache.h"
#include "metalloid/source_arguments.h"

namespace metalloid {

// The value of one [[function_constant]], one number for each of its lanes.
struct ConstantValue {
  std::string name;  // empty: given by index
  uint32_t index = 0;
  std::vector<Number> lanes;
};

class Library {
 public:
  // `arguments` are those of its source, if it has been compiled from one.
  Library(Device& device, NS::SharedPtr<MTL::Library> library, std::string path = {},
          SourceArguments arguments = {});
  ~Library() { abandon_if_forked(library_); }
  // Loads a compiled library, or compiles a .metal file that needs no other as the built-in shaders are.
  // Throws DeviceError with what Metal says, CompileError if that is about the source.
  static std::unique_ptr<Library> load(Device& device, const std::string& path);

  Device& device() const { return device_; }
  std::vector<std::string> kernels() const;
  // Metal's label of the library.
  std::string label() const;
  // The file that it comes from; empty: from none.
  const std::string& path() const { return path_; }
  // Whether it was compiled by this process.
  bool from_source() const;

  // A kernel with these constants; made on first use. Safe to call from any thread. Throws ValidationError
  // for a name, constant or value that does not fit, DeviceError for what Metal says.
  std::shared_ptr<const Kernel> kernel(std::string_view name, std::span<const ConstantValue> constants = {});
  // The function constants of a kernel.
  std::vector<KernelConstant> constants(std::string_view name) const;
  // The same for the operations: what is missing is the library's fault, so a DeviceError.
  const Pipeline& pipeline(std::string_view name);
  // Has its pipelines kept for the next process. To be called before anybody else has it.
  void keep_pipelines(PipelineCache& cache) { cache_ = &cache; }

 private:
  NS::SharedPtr<MTL::Function> function(std::string_view name) const;
  std::shared_ptr<const Kernel> make(std::string_view name, const MTL::FunctionConstantValues* values,
                                     std::vector<KernelConstant> constants);

  Device& device_;
  NS::SharedPtr<MTL::Library> library_;
  const std::string path_;
  const SourceArguments arguments_;
  PipelineCache* cache_ = nullptr;
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const Kernel>> kernels_;
};

// A kernel of the built-in library, declared at namespace scope by the operation that dispatches it.
// Each declaration has a slot of its own on every device: Device::pipeline() is an array access.
class BuiltinKernel {
 public:
  explicit BuiltinKernel(std::string name);
  const std::string& name() const { return name_; }
  uint32_t slot() const { return slot_; }
  static uint32_t count();

 private:
  std::string name_;
  uint32_t slot_;
};

// Where devices look for the built-in kernels: what set_library_path() said, else METALLOID_LIBRARY,
// else metalloid.metallib beside the binary that holds this code, else metalloid.metal. To be set before the
// first device is opened.
void set_library_path(std::string path);
std::string library_path();

}  // namespace metalloid
