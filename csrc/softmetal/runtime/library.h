#pragma once

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/device.h"
#include "softmetal/runtime/division.h"
#include "softmetal/runtime/kernel_abi.h"

namespace softmetal {

// Instruction sets that this CPU and system can run, best first; METALLOID_ISA narrows them to one.
std::vector<std::string> usable_isas(std::string* error);

// Threadgroup memory that the body of a kernel declares, without what checks need around it.
uint32_t static_threadgroup_bytes(const SoftmetalKernel& kernel);

const char* data_type_name(MTL::DataType type);
size_t data_type_size(MTL::DataType type);

class ConstantValues final : public Object {
 public:
  const char* class_name() const override { return "MTL::FunctionConstantValues"; }
  Object* clone() override;

  struct Entry {
    std::string name;  // empty when set by index
    NS::UInteger index = 0;
    MTL::DataType type = MTL::DataTypeNone;
    std::vector<char> bytes;
  };
  void set(Entry entry);
  const Entry* find(const SoftmetalFunctionConstant& constant) const;

  std::vector<Entry> entries;
};
SOFTMETAL_BRIDGE(MTL::FunctionConstantValues, ConstantValues)

class Library final : public Object {
 public:
  Library(Device& owner, void* handle, const SoftmetalLibrary* tables);
  ~Library() override;
  // Loads a shared object, or the best one of a directory of them.
  static Library* open(Device& device, const std::string& path, NS::Error** error);
  // Takes `handle`; null and an error when the table cannot be used on the device.
  static Library* create(Device& device, void* handle, const SoftmetalLibrary* table,
                         const std::string& origin, NS::Error** error);

  const char* class_name() const override { return "MTL::Library"; }
  // Where a checked library's shared object can be read as long as it lives, whatever becomes of its file.
  std::string object_path() const;

  Device& device;
  const SoftmetalLibrary* const table;
  std::map<std::string, const SoftmetalKernel*, std::less<>> kernels;
  std::string label;

 private:
  void* const handle_;
  std::optional<DivisionGuard> divisions_;
  int object_ = -1;  // the open file
};
SOFTMETAL_BRIDGE(MTL::Library, Library)

class Function final : public Object {
 public:
  Function(Library& owner, const SoftmetalKernel& entry);
  const char* class_name() const override { return "MTL::Function"; }
  std::string describe() const override;

  // Packs the values that were given; a message when one has the wrong type or a required one is missing.
  std::string specialize(const ConstantValues* values);
  std::string missing_constant() const;

  const Ref<Library> library;
  const SoftmetalKernel& kernel;
  std::vector<char> constants;
  uint64_t constants_defined = 0;
  std::string label;
  std::string name;
};
SOFTMETAL_BRIDGE(MTL::Function, Function)

class FunctionConstant final : public Object {
 public:
  FunctionConstant(Library& owner, const SoftmetalFunctionConstant& constant)
      : library(&owner), table(constant) {}
  const char* class_name() const override { return "MTL::FunctionConstant"; }
  const Ref<Library> library;
  const SoftmetalFunctionConstant& table;
};
SOFTMETAL_BRIDGE(MTL::FunctionConstant, FunctionConstant)

class FunctionDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::FunctionDescriptor"; }
  Object* clone() override;
  Ref<String> name, specialized_name;
  Ref<ConstantValues> constants;
};
SOFTMETAL_BRIDGE(MTL::FunctionDescriptor, FunctionDescriptor)

class PipelineDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::ComputePipelineDescriptor"; }
  Object* clone() override;
  Ref<Function> function;
  Ref<String> label;
  Ref<Array> archives;
  NS::UInteger max_threads = 0;
  bool multiple_of_width = false;
  bool indirect = false;  // supportIndirectCommandBuffers
};
SOFTMETAL_BRIDGE(MTL::ComputePipelineDescriptor, PipelineDescriptor)

class Pipeline final : public Allocation {
 public:
  explicit Pipeline(Function& entry);
  static Pipeline* create(Function* function, const PipelineDescriptor* descriptor, NS::Error** error);

  const char* class_name() const override { return "MTL::ComputePipelineState"; }
  std::string describe() const override;
  NS::UInteger allocated_size() const override { return sizeof(*this) + function->constants.size(); }

  const Ref<Function> function;
  const SoftmetalKernel& kernel;
  NS::UInteger max_threads;
  bool multiple_of_width = false;
  bool indirect = false;        // may be set in indirect command buffers
  const uint32_t static_bytes;  // of threadgroup memory, in the kernel's body
  // Those of the function.
  const void* const constants;
  const uint64_t constants_defined;
  std::string label;

  // What every dispatch has to bind.
  struct Need {
    const SoftmetalArgument* argument;
    uint32_t index;
    uint32_t alignment;
    uint64_t bytes;
  };
  std::vector<Need> buffers, threadgroup;
  uint32_t buffer_slots = 0;       // highest buffer index + 1
  uint32_t threadgroup_slots = 0;  // highest [[threadgroup(n)]] index + 1
  uint32_t buffer_mask = 0;

  // Measured time of one unit in nanoseconds, zero until it ran. A hint for splitting, so races do not
  // matter.
  mutable std::atomic<float> unit_ns{0};
  mutable std::atomic<uint32_t> unmeasured{0};  // dispatches to run before one is measured again
  mutable std::atomic<uint64_t> retained_by{0};
};
SOFTMETAL_BRIDGE(MTL::ComputePipelineState, Pipeline)

// Whether a function constant leaves the argument in the kernel, and the kernel then uses it.
bool is_active(const Function& function, const SoftmetalArgument& argument);

// What arguments point to, as Metal has it: atomics are structs.
MTL::DataType pointee_type(const SoftmetalArgument& argument);

class Type : public Object {
 public:
  virtual MTL::DataType type() const = 0;
};
SOFTMETAL_BRIDGE(MTL::Type, Type)

class PointerType final : public Type {
 public:
  explicit PointerType(Pipeline& owner, const SoftmetalArgument& argument)
      : pipeline(&owner), table(argument) {}
  const char* class_name() const override { return "MTL::PointerType"; }
  MTL::DataType type() const override { return MTL::DataTypePointer; }
  const Ref<Pipeline> pipeline;  // keeps the tables loaded
  const SoftmetalArgument& table;
};
SOFTMETAL_BRIDGE(MTL::PointerType, PointerType)

// The one member of an atomic.
class StructMember final : public Object {
 public:
  explicit StructMember(MTL::DataType held) : type(held) {}
  const char* class_name() const override { return "MTL::StructMember"; }
  const MTL::DataType type;
};
SOFTMETAL_BRIDGE(MTL::StructMember, StructMember)

class StructType final : public Type {
 public:
  explicit StructType(MTL::DataType held) : members(Ref<Array>::adopt(new Array)) {
    members->items.push_back(Ref<Object>::adopt(new StructMember(held)));
  }
  const char* class_name() const override { return "MTL::StructType"; }
  MTL::DataType type() const override { return MTL::DataTypeStruct; }
  const Ref<Array> members;
};
SOFTMETAL_BRIDGE(MTL::StructType, StructType)

// Serves as MTL::Binding, its kinds, and the older MTL::Argument.
class Binding final : public Object {
 public:
  Binding(Pipeline& owner, const SoftmetalArgument& argument) : pipeline(&owner), table(argument) {}
  const char* class_name() const override { return "MTL::Binding"; }
  std::string describe() const override;
  const Ref<Pipeline> pipeline;
  const SoftmetalArgument& table;
};
SOFTMETAL_BRIDGE(MTL::Binding, Binding)
SOFTMETAL_IMPL(MTL::Argument, Binding)

class Reflection final : public Object {
 public:
  explicit Reflection(Pipeline& pipeline);
  const char* class_name() const override { return "MTL::ComputePipelineReflection"; }
  Ref<Array> bindings;
};
SOFTMETAL_BRIDGE(MTL::ComputePipelineReflection, Reflection)

}  // namespace softmetal
