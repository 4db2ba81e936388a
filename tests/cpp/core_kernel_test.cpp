#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "metalloid/command_encoder.h"
#include "params/rms_norm.h"

using namespace metalloid;

namespace {

Device& device() { return Device::open(); }

template <class T>
T stored(Number number, DType type) {
  T value{};
  const char* needs = store(number, type, &value);
  CAPTURE(number);
  CHECK(needs == nullptr);
  return value;
}

bool refused(Number number, DType type) {
  uint64_t untouched = 0x5a5a5a5a5a5a5a5a;
  bool refuses = store(number, type, &untouched) != nullptr;
  CHECK((!refuses || untouched == 0x5a5a5a5a5a5a5a5a));
  return refuses;
}

Value of(const Buffer& buffer) { return {Value::Kind::buffer, 0, &buffer}; }
template <class T>
Value bytes_of(const T& value) {
  return {Value::Kind::bytes, sizeof value, &value};
}

}  // namespace

TEST_CASE("integers are stored within their range") {
  CHECK(stored<int8_t>(Number::of(int64_t{-128}), DType::int8) == -128);
  CHECK(stored<uint8_t>(Number::of(uint64_t{255}), DType::uint8) == 255);
  CHECK(stored<int64_t>(Number::of(std::numeric_limits<int64_t>::min()), DType::int64) ==
        std::numeric_limits<int64_t>::min());
  CHECK(stored<uint64_t>(Number::of(UINT64_MAX), DType::uint64) == UINT64_MAX);
  CHECK(stored<uint32_t>(Number::of(true), DType::uint32) == 1);
  CHECK(refused(Number::of(int64_t{-129}), DType::int8));
  CHECK(refused(Number::of(uint64_t{256}), DType::uint8));
  CHECK(refused(Number::of(UINT64_MAX), DType::int64));
  CHECK(refused(Number::of(int64_t{-1}), DType::uint64));
  CHECK(refused(Number::of(1.0), DType::int32));
  CHECK(refused(Number::of(uint64_t{2}), DType::bool_));
  CHECK(refused(Number::of(1.0), DType::bool_));
}

TEST_CASE("every half is itself, and what lies between is rounded to even") {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const int exponent = static_cast<int>(bits >> 10);
    const double mantissa = bits & 0x3ff;
    const double value = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
    const double next = exponent ? std::ldexp(1, exponent - 25) : std::ldexp(1, -24);
    const double middle = value + next / 2;
    REQUIRE(stored<uint16_t>(Number::of(value), DType::float16) == bits);
    REQUIRE(stored<uint16_t>(Number::of(-value), DType::float16) == (bits | 0x8000));
    if (bits == 0x7bff) continue;
    REQUIRE(stored<uint16_t>(Number::of(middle), DType::float16) == bits + (bits & 1));
    REQUIRE(stored<uint16_t>(Number::of(std::nextafter(middle, 1e9)), DType::float16) == bits + 1);
    REQUIRE(stored<uint16_t>(Number::of(std::nextafter(middle, 0)), DType::float16) == bits);
  }
  CHECK(refused(Number::of(65520.0), DType::float16));
  CHECK_FALSE(refused(Number::of(65519.0), DType::float16));
  CHECK(stored<uint16_t>(Number::of(INFINITY), DType::float16) == 0x7c00);
  CHECK((stored<uint16_t>(Number::of(std::nan("")), DType::bfloat16) & 0x7fff) > 0x7f80);
  CHECK(stored<uint16_t>(Number::of(1.0), DType::bfloat16) == 0x3f80);
  CHECK(refused(Number::of(3.4e38), DType::bfloat16));
  CHECK(refused(Number::of(1e39), DType::float32));
}

TEST_CASE("data types have names and parts") {
  CHECK(name_of(MTL::DataTypeFloat) == "float");
  CHECK(name_of(MTL::DataTypeUShort3) == "ushort3");
  CHECK(name_of(MTL::DataTypeHalf4x2) == "half4x2");
  CHECK(name_of(MTL::DataTypeStruct) == "struct");
  Element matrix = element_of(MTL::DataTypeFloat3x4);
  CHECK(matrix.dtype == DType::float32);
  CHECK((matrix.columns == 3 && matrix.lanes == 4));
  CHECK_FALSE(element_of(MTL::DataTypeStruct).dtype);
}

TEST_CASE("a built-in kernel is dispatched by its reflection") {
  auto kernel = device().library().kernel("rms_norm_f32");
  REQUIRE(kernel->arguments().size() == 3);
  CHECK(kernel->arguments()[0].size == sizeof(RmsNormParams));
  CHECK(kernel->arguments()[1].element.dtype == DType::float32);
  CHECK(kernel->position("y") == 2);
  CHECK_THROWS_AS(kernel->position("nobody"), ValidationError);
  CHECK(kernel == device().library().kernel("rms_norm_f32"));

  Buffer x = device().zeros({2, 64}, DType::float32), y = device().zeros({2, 64}, DType::float32);
  std::fill_n(reinterpret_cast<float*>(x.address()), 128, 3.0f);
  RmsNormParams params{};
  params.dim = 64;
  params.eps = 1e-6f;
  CommandEncoder encoder(device());
  Value values[] = {bytes_of(params), of(x), of(y)};
  const Grid grid{Grid::Unit::threadgroups, {2}};
  CHECK_THROWS_AS(encoder.dispatch(*kernel, std::span(values).first(3), grid, {0}), ValidationError);
  Value swapped[] = {of(x), bytes_of(params), of(y)};
  CHECK_THROWS_AS(encoder.dispatch(*kernel, swapped, grid, {1}), ValidationError);
  CHECK(encoder.dispatch_count() == 0);
  encoder.dispatch(*kernel, values, grid, {1});
  encoder.commit_and_wait();
  y.wait_to_read();
  CHECK(std::abs(reinterpret_cast<float*>(y.address())[127] - 1) < 1e-5);
}

TEST_CASE("a library is asked for what it has") {
  CHECK_THROWS_AS(device().library().kernel("nobody"), ValidationError);
  ConstantValue constant{"nobody", 0, {Number::of(true)}};
  CHECK_THROWS_AS(device().library().kernel("rms_norm_f32", {&constant, 1}), ValidationError);
  CHECK(device().library().constants("rms_norm_f32").empty());
}

TEST_CASE("faults are kept as the mode says") {
  FaultLog log;
  Faults faults(2);
  CHECK_FALSE(log.take(faults));
  CHECK(log.collected().empty());
  log.set_mode(CheckMode::collect);
  CHECK(log.take(faults));
  CHECK(log.take(faults));
  CHECK(log.collected().size() == 4);
  CHECK(log.warnings().empty());
  log.set_mode(CheckMode::warn);
  CHECK(log.take(faults));
  CHECK(log.warnings().size() == 2);
  CHECK(log.warnings().empty());
  log.set_mode(CheckMode::off);
  CHECK(log.take(faults));
  CHECK(log.collected().size() == 4);
  log.clear();
  CHECK(log.collected().empty());
}
