// What operations and kernels are encoded into: a command buffer, or a graph.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "metalloid/buffer.h"
#include "metalloid/device.h"
#include "metalloid/hazards.h"
#include "metalloid/kernel.h"

namespace metalloid {

// A float in the params of an operation (its [[buffer(0)]]) that may be changed once it is recorded.
struct Scalar {
  const char* name;
  uint64_t offset;
  bool positive;
};

// A kind of dispatch, declared at namespace scope by the operation; told apart by address.
struct Operation {
  const char* name;
  std::span<const Scalar> scalars = {};
  bool in_place = true;  // its output may be an input
};

// One argument of a dispatch, for [[buffer(index)]] or [[threadgroup(index)]]. Refers to what it is made
// from, which must live until dispatch() returns.
struct Argument {
  enum class Kind : uint8_t { buffer, bytes, threadgroup_memory };

  static Argument read(uint8_t index, const Buffer& buffer) { return of(index, buffer, Access::read); }
  static Argument write(uint8_t index, const Buffer& buffer) { return of(index, buffer, Access::write); }
  template <class Params>
  static Argument params(uint8_t index, const Params& params) {
    return {Kind::bytes, Access::read, index, sizeof(Params), &params};
  }
  // Rounded up to the 16 bytes that Metal asks for, at least 16.
  static Argument memory(uint8_t index, uint64_t bytes) {
    return {Kind::threadgroup_memory, Access::read_write, index, padded_memory(bytes), nullptr};
  }

  Kind kind;
  Access access;
  uint8_t index;
  uint64_t length;
  const void* object;

 private:
  static Argument of(uint8_t index, const Buffer& buffer, Access access) {
    return {Kind::buffer, access, index, buffer.nbytes(), &buffer};
  }
};

// What the caller says of a dispatch of a kernel of its own: what it reads, what it writes all bytes of,
// where that is known better than the kernel's arguments tell, and what it is called.
struct Declared {
  std::optional<std::span<const Buffer* const>> reads;
  std::optional<std::span<const Buffer* const>> writes;
  std::string_view label = {};
};

class Encoder {
 public:
  virtual ~Encoder() = default;
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  Device& device() const { return device_; }

  // Throws Error unless something may still be encoded.
  virtual void check_encoding(const char* operation) const = 0;
  virtual bool encoding() const = 0;

  // Memory for what a dispatch will write.
  virtual Buffer output(const Shape& shape, DType dtype, const char* operation) = 0;

  // Runs `pipeline` over `threadgroups` of `threads` each. The arguments must be all that the kernel has,
  // and valid: operations check before they come here.
  virtual void dispatch(const Operation& operation, const Pipeline& pipeline,
                        std::initializer_list<Argument> arguments, Extent threadgroups, Extent threads) = 0;
  // Runs `kernel` over `grid` in threadgroups of `threadgroup` threads. `values` are for the kernel's
  // arguments by position. Throws ValidationError before anything is encoded.
  virtual void dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                        const Extent& threadgroup, const Declared& declared = {}) = 0;
  // What comes after sees the memory that what came before wrote.
  virtual void barrier() = 0;
  // Names what is encoded until the matching pop_group(), for debuggers, traces and errors.
  virtual void push_group(std::string_view name) = 0;
  virtual void pop_group() = 0;

 protected:
  explicit Encoder(Device& device) : device_(device) {}

  // What must hold of a dispatch of somebody's own kernel. Throws ValidationError.
  void check_dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                      const Extent& threadgroup, const Declared& declared) const;

  Device& device_;
};

inline MemoryUse use_of(const Buffer& buffer, Access access) {
  return {buffer.storage(),        buffer.offset(),        buffer.offset() + buffer.nbytes(),
          access != Access::write, access != Access::read, 0};
}
// What a dispatch of somebody's own kernel touches, in `uses`: what is declared, else what its arguments
// tell.
std::span<const MemoryUse> uses_of(const Kernel& kernel, std::span<const Value> values,
                                   const Declared& declared, std::vector<MemoryUse>& uses);

// Threads for a threadgroup that shares `work` items, about `per_thread` for each thread: whole SIMD-groups,
// or a single thread where the device has no SIMD-groups to speak of.
uint32_t cooperative_threads(const Pipeline& pipeline, uint64_t work, uint64_t per_thread);

// SIMD-groups for a threadgroup that shares `work` items, one SIMD-group to each; every SIMD-group takes
// `memory_each` bytes of threadgroup memory beside `memory_shared`. 0 if not even one fits.
uint32_t cooperative_simdgroups(const Pipeline& pipeline, uint64_t work, uint32_t at_most,
                                uint64_t memory_each, uint64_t memory_shared);

}  // namespace metalloid
