#include "metalloid/scalar.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace metalloid {

namespace {

// Each scalar type is followed by its vectors of 2, 3 and 4.
struct Family {
  MTL::DataType first;
  DType dtype;
  const char* name;
};

constexpr Family kFamilies[] = {
    {MTL::DataTypeFloat, DType::float32, "float"},    {MTL::DataTypeHalf, DType::float16, "half"},
    {MTL::DataTypeBFloat, DType::bfloat16, "bfloat"}, {MTL::DataTypeInt, DType::int32, "int"},
    {MTL::DataTypeUInt, DType::uint32, "uint"},       {MTL::DataTypeShort, DType::int16, "short"},
    {MTL::DataTypeUShort, DType::uint16, "ushort"},   {MTL::DataTypeChar, DType::int8, "char"},
    {MTL::DataTypeUChar, DType::uint8, "uchar"},      {MTL::DataTypeBool, DType::bool_, "bool"},
    {MTL::DataTypeLong, DType::int64, "long"},        {MTL::DataTypeULong, DType::uint64, "ulong"},
};

// The matrices of a scalar type are numbered 2x2, 2x3, 2x4, 3x2, ... 4x4: columns, then rows.
constexpr Family kMatrices[] = {
    {MTL::DataTypeFloat2x2, DType::float32, "float"},
    {MTL::DataTypeHalf2x2, DType::float16, "half"},
};

// A double as an IEEE type of 16 bits.
uint16_t narrow(double value, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const auto infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | infinity | (1 << (mantissa_bits - 1)));
  if (std::isinf(value)) return static_cast<uint16_t>(sign | infinity);
  if (value == 0) return sign;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int place = std::max(exponent - 1, 1 - bias);
  // In units of the last place; a carry into the next binade comes out right by itself.
  const double units = std::nearbyint(std::ldexp(std::fabs(value), mantissa_bits - place));
  const double bits = units + std::ldexp(place + bias - 1, mantissa_bits);
  return bits >= infinity ? static_cast<uint16_t>(sign | infinity)
                          : static_cast<uint16_t>(sign | static_cast<uint16_t>(bits));
}

bool is_integer(Number number) { return number.kind != Number::Kind::real; }

double real_of(Number number) {
  switch (number.kind) {
    case Number::Kind::real:
      return number.real;
    case Number::Kind::negative:
      return static_cast<double>(number.negative);
    default:
      return static_cast<double>(number.natural);
  }
}

template <class T>
const char* store_integer(Number number, void* out, const char* needs) {
  if (!is_integer(number)) return needs;
  bool negative = number.kind == Number::Kind::negative;
  if (negative ? number.negative < static_cast<int64_t>(std::numeric_limits<T>::min())
               : number.natural > static_cast<uint64_t>(std::numeric_limits<T>::max())) {
    return needs;
  }
  auto value = negative ? static_cast<T>(number.negative) : static_cast<T>(number.natural);
  std::memcpy(out, &value, sizeof value);
  return nullptr;
}

const char* store_narrow(Number number, void* out, int exponent_bits, int mantissa_bits, const char* needs) {
  double value = real_of(number);
  uint16_t bits = narrow(value, exponent_bits, mantissa_bits);
  const int infinity = ((1 << exponent_bits) - 1) << mantissa_bits;
  if (std::isfinite(value) && (bits & 0x7fff) == infinity) return needs;
  std::memcpy(out, &bits, sizeof bits);
  return nullptr;
}

}  // namespace

Element element_of(MTL::DataType type) {
  for (const Family& family : kFamilies) {
    if (type >= family.first && type <= family.first + 3) {
      return {family.dtype, static_cast<uint8_t>(type - family.first + 1), 1};
    }
  }
  for (const Family& family : kMatrices) {
    if (type < family.first || type > family.first + 8) continue;
    auto place = static_cast<uint8_t>(type - family.first);
    return {family.dtype, static_cast<uint8_t>(place % 3 + 2), static_cast<uint8_t>(place / 3 + 2)};
  }
  return {};
}

std::string_view metal_name(DType type) {
  for (const Family& family : kFamilies) {
    if (family.dtype == type) return family.name;
  }
  return "";
}

std::string name_of(MTL::DataType type) {
  Element element = element_of(type);
  if (!element.dtype) return type == MTL::DataTypeNone ? "void" : "struct";
  std::string name(metal_name(*element.dtype));
  if (element.columns > 1) {
    return name + std::to_string(element.columns) + "x" + std::to_string(element.lanes);
  }
  return element.lanes > 1 ? name + std::to_string(element.lanes) : name;
}

std::ostream& operator<<(std::ostream& stream, const Number& number) {
  switch (number.kind) {
    case Number::Kind::boolean:
      return stream << (number.natural ? "True" : "False");
    case Number::Kind::negative:
      return stream << number.negative;
    case Number::Kind::natural:
      return stream << number.natural;
    case Number::Kind::real:
      return stream << number.real;
  }
  return stream;
}

const char* store(Number number, DType type, void* out) {
  switch (type) {
    case DType::float32: {
      double value = real_of(number);
      auto narrowed = static_cast<float>(value);
      if (std::isfinite(value) && std::isinf(narrowed)) return "a number within +-3.4e38";
      std::memcpy(out, &narrowed, sizeof narrowed);
      return nullptr;
    }
    case DType::float16:
      return store_narrow(number, out, 5, 10, "a number within +-65504");
    case DType::bfloat16:
      return store_narrow(number, out, 8, 7, "a number within +-3.39e38");
    case DType::int8:
      return store_integer<int8_t>(number, out, "an integer from -128 to 127");
    case DType::uint8:
      return store_integer<uint8_t>(number, out, "an integer from 0 to 255");
    case DType::int16:
      return store_integer<int16_t>(number, out, "an integer from -32768 to 32767");
    case DType::uint16:
      return store_integer<uint16_t>(number, out, "an integer from 0 to 65535");
    case DType::int32:
      return store_integer<int32_t>(number, out, "an integer from -2^31 to 2^31 - 1");
    case DType::uint32:
      return store_integer<uint32_t>(number, out, "an integer from 0 to 2^32 - 1");
    case DType::int64:
      return store_integer<int64_t>(number, out, "an integer from -2^63 to 2^63 - 1");
    case DType::uint64:
      return store_integer<uint64_t>(number, out, "an integer from 0 to 2^64 - 1");
    case DType::bool_: {
      constexpr const char* needs = "True, False, 1 or 0";
      if (!is_integer(number) || number.kind == Number::Kind::negative || number.natural > 1) return needs;
      auto value = static_cast<uint8_t>(number.natural);
      std::memcpy(out, &value, sizeof value);
      return nullptr;
    }
  }
  return "a type that has numbers";
}

}  // namespace metalloid
