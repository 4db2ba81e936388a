// Element types of buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>

namespace metalloid {

enum class DType : uint8_t {
  float32,
  float16,
  bfloat16,
  int8,
  uint8,
  int16,
  uint16,
  int32,
  uint32,
  int64,
  uint64,
  bool_,
};

inline constexpr size_t kDTypeCount = 12;

struct DTypeInfo {
  std::string_view name;
  uint8_t size;
  char kind;           // as NumPy: 'f', 'i', 'u', 'b'; 'V' for bfloat16, which NumPy itself does not know
  const char* format;  // of the buffer protocol, native sizes (LP64), null where it has none
};

inline constexpr DTypeInfo kDTypes[kDTypeCount] = {
    {"float32", 4, 'f', "f"}, {"float16", 2, 'f', "e"}, {"bfloat16", 2, 'V', nullptr}, {"int8", 1, 'i', "b"},
    {"uint8", 1, 'u', "B"},   {"int16", 2, 'i', "h"},   {"uint16", 2, 'u', "H"},       {"int32", 4, 'i', "i"},
    {"uint32", 4, 'u', "I"},  {"int64", 8, 'i', "l"},   {"uint64", 8, 'u', "L"},       {"bool", 1, 'b', "?"},
};

constexpr const DTypeInfo& info(DType type) { return kDTypes[static_cast<size_t>(type)]; }
constexpr size_t size_of(DType type) { return info(type).size; }
constexpr std::string_view name_of(DType type) { return info(type).name; }

inline std::ostream& operator<<(std::ostream& stream, DType type) { return stream << name_of(type); }

// The type called `name`, which may also be "bool_". Returns whether there is one.
constexpr bool dtype_from_name(std::string_view name, DType& out) {
  if (name == "bool_") name = "bool";
  for (size_t i = 0; i < kDTypeCount; ++i) {
    if (kDTypes[i].name == name) {
      out = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

}  // namespace metalloid
