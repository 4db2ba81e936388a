// What Metal's data types are made of, and host numbers as values of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "metalloid/dtype.h"
#include "metalloid/metal.h"

namespace metalloid {

// A scalar, or a vector or matrix of scalars.
struct Element {
  std::optional<DType> dtype;  // of the scalars; nothing for structs and what else has none
  uint8_t lanes = 1;           // of a vector, or of a column
  uint8_t columns = 1;
};

Element element_of(MTL::DataType type);
// As the shading language calls it: "float4", "struct", "void" for no type.
std::string name_of(MTL::DataType type);
std::string_view metal_name(DType type);

// A number from the host.
struct Number {
  enum class Kind : uint8_t { boolean, negative, natural, real } kind;
  union {
    int64_t negative;
    uint64_t natural;  // also for boolean
    double real;
  };

  static Number of(bool value) { return {Kind::boolean, {.natural = value}}; }
  static Number of(uint64_t value) { return {Kind::natural, {.natural = value}}; }
  static Number of(int64_t value) {
    if (value >= 0) return of(static_cast<uint64_t>(value));
    return {Kind::negative, {.negative = value}};
  }
  static Number of(double value) { return {Kind::real, {.real = value}}; }
};

std::ostream& operator<<(std::ostream& stream, const Number& number);

// Stores `number` as a `type` at `out`, floating-point types rounded to nearest. Returns what the type needs
// where the number is of the wrong kind or out of range, and stores nothing then; else null.
const char* store(Number number, DType type, void* out);

}  // namespace metalloid
