// A kernel that is ready to run, and what it asks of its arguments.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metalloid/forked.h"
#include "metalloid/metal.h"
#include "metalloid/scalar.h"

namespace metalloid {

class Buffer;
class Device;
class SourceArguments;

enum class Access : uint8_t { read, write, read_write };

struct Extent {
  uint64_t x = 1, y = 1, z = 1;

  friend std::ostream& operator<<(std::ostream& stream, const Extent& extent) {
    return stream << extent.x << " x " << extent.y << " x " << extent.z;
  }
};

// Lives as long as its library.
struct Pipeline {
  std::string name;
  NS::SharedPtr<MTL::ComputePipelineState> state;
  uint32_t execution_width;           // threads of a SIMD-group
  uint32_t max_threads;               // of a threadgroup
  uint64_t static_memory;             // threadgroup memory that the kernel declares itself
  uint64_t threadgroup_memory_limit;  // of the device
};

// One [[buffer(index)]] or [[threadgroup(index)]].
struct KernelArgument {
  enum class Kind : uint8_t { buffer, threadgroup };

  std::string name;
  uint32_t index;
  Kind kind;
  Access access;
  MTL::DataType type;
  Element element;
  std::string element_type;   // "float4"; "struct" for what is no scalar, vector or matrix, or "void"
  std::string type_name;      // as the source calls it, for messages
  std::string address_space;  // "device", "constant", "threadgroup"; empty where Metal does not tell
  uint64_t size;              // of one element
  uint64_t alignment;
  bool active;  // false: switched off by a function constant, or the kernel does not use it
};

// One [[function_constant(index)]].
struct KernelConstant {
  std::string name;
  uint32_t index;
  MTL::DataType type;
  bool required;
};

// What the host gives for an argument. Refers to what it is made from.
struct Value {
  enum class Kind : uint8_t { none, buffer, reinterpreted, bytes, memory };

  Kind kind = Kind::none;
  uint64_t length = 0;           // of bytes and memory
  const void* object = nullptr;  // a Buffer, or the bytes
};

// Of a dispatch: how many threads there are, or how many threadgroups.
struct Grid {
  enum class Unit : uint8_t { threads, threadgroups } unit;
  Extent size;
};

class Kernel : public std::enable_shared_from_this<Kernel> {
 public:
  // `pipeline` has been made with its reflection. `source` tells what that leaves out.
  Kernel(Device& device, Pipeline pipeline, const MTL::ComputePipelineReflection* reflection,
         std::vector<KernelConstant> constants, const SourceArguments& source);
  ~Kernel() { abandon_if_forked(pipeline_.state); }

  Device& device() const { return device_; }
  const std::string& name() const { return pipeline_.name; }
  const Pipeline& pipeline() const { return pipeline_; }
  // In order of position: buffers by index, then threadgroup arguments by index.
  const std::vector<KernelArgument>& arguments() const { return arguments_; }
  const std::vector<KernelConstant>& constants() const { return constants_; }
  // The names of the attributes of its other arguments, e.g. "thread_position_in_grid".
  const std::vector<std::string>& builtins() const { return builtins_; }

  // Whether arguments that function constants switch off may be missing here, because Metal does not tell of
  // them.
  bool may_lack_arguments() const { return may_lack_arguments_; }
  bool has(std::string_view argument) const;
  // The position of the argument with that name. Throws ValidationError.
  size_t position(std::string_view argument) const;
  // Which arguments the values of a dispatch by position are for: all, or those that are active.
  std::span<const uint32_t> positions(size_t values) const;
  std::span<const uint32_t> active_positions() const { return active_; }

  // All that must hold of a dispatch. `values` are by position. Throws ValidationError.
  void check(std::span<const Value> values, const Grid& grid, const Extent& threadgroup) const;
  // "dispatch of NAME: argument ARGUMENT (buffer 1)", with which messages begin.
  std::string place(const KernelArgument& argument) const;

  // The encoder that took a reference last.
  mutable std::atomic<uint64_t> last_encoder{0};

 private:
  void check_buffer(const KernelArgument& argument, const Value& value, bool empty_grid) const;
  void check_bytes(const KernelArgument& argument, const Value& value) const;
  void check_geometry(const Grid& grid, const Extent& threadgroup) const;
  [[noreturn]] void refuse_kind(const KernelArgument& argument, const Value& value) const;

  void add_switched_off(const SourceArguments& source);

  Device& device_;
  Pipeline pipeline_;
  std::vector<KernelArgument> arguments_;
  std::vector<KernelConstant> constants_;
  std::vector<std::string> builtins_;
  std::vector<uint32_t> all_, active_;  // positions
  bool may_lack_arguments_ = false;
  Extent max_threads_;
};

// Rounded up to the 16 bytes that Metal asks of threadgroup memory, at least 16.
constexpr uint64_t padded_memory(uint64_t bytes) { return bytes ? (bytes + 15) / 16 * 16 : 16; }

}  // namespace metalloid
