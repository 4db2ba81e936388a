// Preconditions, and how their messages read: operation, argument, what it got, what it needs.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "metalloid/encoder.h"

namespace metalloid::ops {

class Check {
 public:
  // An input that the output is compared with.
  struct Input {
    const char* name;
    const Buffer* buffer;   // null: not given
    bool in_place = false;  // the output may be exactly this one
  };

  Check(const Operation& operation, const Encoder& encoder) : operation_(operation.name), encoder_(encoder) {
    encoder.check_encoding(operation_);
  }

  template <class... Got>
  void require(bool holds, const char* argument, const char* needs, const Got&... got) const {
    if (!holds) [[unlikely]] {
      throw ValidationError(text(operation_, ": ", argument, ' ', got..., ", needs ", needs));
    }
  }

  void device(const char* argument, const Buffer& buffer) const {
    if (&buffer.device() != &encoder_.device()) [[unlikely]] {
      throw ValidationError(text(operation_, ": ", argument, " is on device ", buffer.device().name(),
                                 ", needs to be on the encoder's device ", encoder_.device().name()));
    }
  }

  // `needs` is the list in words.
  void type(const char* argument, const Buffer& buffer, std::initializer_list<DType> allowed,
            const char* needs) const {
    for (DType type : allowed) {
      if (buffer.dtype() == type) return;
    }
    require(false, argument, needs, "is ", buffer.dtype());
  }

  void same_type(const char* argument, const Buffer& buffer, DType needed, const char* like) const {
    if (buffer.dtype() == needed) return;
    throw ValidationError(text(operation_, ": ", argument, " is ", buffer.dtype(), ", needs ", needed,
                               " (the type of ", like, ")"));
  }

  void rank(const char* argument, const Buffer& buffer, size_t rank, const char* layout) const {
    if (buffer.shape().rank() == rank) return;
    throw ValidationError(text(operation_, ": ", argument, " has ", buffer.shape().rank(), " axes (shape ",
                               buffer.shape(), "), needs ", rank, ": ", layout));
  }

  // No axis of size 0, and every size fits the 32 bits in which it travels.
  void sizes(const char* argument, const Buffer& buffer) const {
    for (uint64_t size : buffer.shape()) {
      require(size > 0, argument, "sizes of at least 1", "has shape ", buffer.shape());
      fits(argument, size, buffer.shape());
    }
  }

  void fits(const char* argument, uint64_t size, const Shape& shape) const {
    require(size <= std::numeric_limits<uint32_t>::max(), argument, "sizes below 2^32", "has shape ", shape);
  }

  void same_shape(const char* argument, const Shape& got, const Shape& needed, const char* why) const {
    if (got == needed) return;
    throw ValidationError(
        text(operation_, ": ", argument, " has shape ", got, ", needs ", needed, " (", why, ")"));
  }

  void elements(const char* argument, const Buffer& buffer, uint64_t needed, const char* why) const {
    if (buffer.size() == needed) return;
    throw ValidationError(text(operation_, ": ", argument, " has ", buffer.size(), " elements, needs ",
                               needed, " (", why, ")"));
  }

  void multiple(const char* argument, const char* size, uint64_t got, uint64_t of, const char* why) const {
    if (got % of == 0) return;
    throw ValidationError(text(operation_, ": ", argument, " has ", size, ' ', got, ", needs a multiple of ",
                               of, " (", why, ")"));
  }

  // `got` elements or rows of a buffer of that shape.
  void at_least(const char* argument, uint64_t got, uint64_t needed, const char* unit, const char* why,
                const Shape& shape) const {
    if (got >= needed) return;
    throw ValidationError(text(operation_, ": ", argument, " has ", got, ' ', unit, " (shape ", shape,
                               "), needs at least ", needed, " (", why, ")"));
  }

  // As the f32 that it becomes in the shader.
  float positive(const char* argument, double value) const {
    auto narrow = static_cast<float>(value);
    require(std::isfinite(narrow) && narrow > 0, argument, "a finite number above 0, as f32", "is ", value);
    return narrow;
  }

  void threadgroup_memory(const char* argument, uint32_t simdgroups, const Pipeline& pipeline,
                          const Shape& shape) const {
    if (simdgroups != 0) return;
    throw ValidationError(text(operation_, ": ", argument, " has shape ", shape,
                               ", which takes more threadgroup memory than the device's ",
                               pipeline.threadgroup_memory_limit, " bytes; needs a smaller last axis"));
  }

  // Of the device that it is encoded for. Throws DeviceError where that cannot run it.
  const Pipeline& pipeline(const BuiltinKernel& kernel) const {
    return encoder_.device().pipeline(kernel, operation_);
  }

  // Device, shape, type and overlap of `out`, where there is one. It has the type of `like`.
  void output(const Buffer* out, const Shape& shape, const char* why_shape, DType type, const char* like,
              std::initializer_list<Input> inputs) const;

 private:
  const char* operation_;
  const Encoder& encoder_;
};

// `out`, or a new buffer. To be called when nothing can fail any more but this.
Buffer output_or_new(Encoder& encoder, const Buffer* out, const Shape& shape, DType type,
                     const Operation& operation);

inline constexpr std::initializer_list<DType> kFloats = {DType::float32, DType::float16, DType::bfloat16};
inline constexpr const char* kFloatsText = "float32, float16 or bfloat16";
inline constexpr std::initializer_list<DType> kPositions = {DType::uint32, DType::int32};
inline constexpr const char* kPositionsText = "uint32 or int32";

// The kernels of one family, one for each type of x and of the weight; floats are numbered as in DType.
inline constexpr size_t kFloatCount = 3;
inline size_t number(DType type) { return static_cast<size_t>(type); }

// A weight is of x's type, or f32.
inline void check_weight(const Check& check, const Buffer& x, const Buffer& weight) {
  check.device("weight", weight);
  check.type("weight", weight, {x.dtype(), DType::float32},
             x.dtype() == DType::float32   ? "float32 (as x is float32)"
             : x.dtype() == DType::float16 ? "float16 or float32 (as x is float16)"
                                           : "bfloat16 or float32 (as x is bfloat16)");
}

}  // namespace metalloid::ops
