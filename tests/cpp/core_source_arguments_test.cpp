#include <doctest/doctest.h>

#include "metalloid/source_arguments.h"

using namespace metalloid;

TEST_CASE("address spaces are those that the kernel writes") {
  const SourceArguments source(R"(
    #include <metal_stdlib>
    // kernel void commented(constant float* x) {}
    /* kernel void commented(constant float* x) {} */
    float helper(constant uchar* bytes, thread float* x);
    template <typename T, int N = 2> struct Pair { T a[N]; };
    kernel void first(device const uchar* bytes [[buffer(0)]], constant Pair<uchar, 3>& pair [[buffer(1)]],
                      const device metal::array<half, 4> *array, threadgroup float *scratch [[threadgroup(0)]],
                      uint i [[thread_position_in_grid]]) { helper("a, constant x", ')'); }
    [[kernel, max_total_threads_per_threadgroup(64)]] void second(constant uchar *bytes [[ buffer(0) ]]) {}
    kernel [[max_total_threads_per_threadgroup(64)]]
    void third(const constant half* __restrict bytes, POINTER(half) hidden, ALSO_HIDDEN) {}
  )");
  for (const char* kernel : {"first", "second", "third"}) CHECK(source.has(kernel));
  CHECK_FALSE(source.has("commented"));
  CHECK_FALSE(source.has("helper"));
  CHECK(source.address_space("first", "bytes") == "device");
  CHECK(source.address_space("first", "pair") == "constant");
  CHECK(source.address_space("first", "array") == "device");
  CHECK(source.address_space("first", "scratch") == "threadgroup");
  CHECK(source.address_space("second", "bytes") == "constant");
  CHECK(source.address_space("third", "bytes") == "constant");
  // Not known: what macros make, and what is not there.
  for (const char* argument : {"hidden", "ALSO_HIDDEN", "i", "", "x"}) {
    CHECK(source.address_space("third", argument).empty());
    CHECK(source.address_space("fourth", argument).empty());
  }
  CHECK(source.address_space("fourth", "bytes").empty());
}

TEST_CASE("kernels with a host name have the arguments that all kernels agree on") {
  const SourceArguments source(R"(
    template <class T> kernel void scale(device const T* x, constant T* y, device T* both) {}
    template <class T> kernel void add(device const T* x, constant T* both, PTR(x) x_too) {}
    template [[host_name("scale_half")]] kernel void scale<half>(device const half*, constant half*, device half*);
  )");
  CHECK(source.address_space("scale_half", "x") == "device");
  CHECK(source.address_space("scale_half", "y") == "constant");
  CHECK(source.address_space("scale_half", "both").empty());
  CHECK(source.address_space("scale_half", "x_too").empty());
  CHECK(source.address_space("scale_float", "x").empty());  // nobody says what it is
}

TEST_CASE("what differs between branches of the preprocessor is not known") {
  const SourceArguments source(R"(
    #if A
    kernel void k(constant half* x, constant half* y) {}
    #else
    kernel void k(device half* x, constant half* y) {}
    #endif
  )");
  CHECK(source.address_space("k", "x").empty());
  CHECK(source.address_space("k", "y") == "constant");
}

TEST_CASE("arguments that function constants switch off") {
  const SourceArguments source(R"(
    kernel void k(device int* y [[buffer(0)]], device int* z [[buffer(1), function_constant(has_z)]],
                  threadgroup int* t [[function_constant(has_z), threadgroup(2)]],
                  constant int* unknown [[buffer(PLACE), function_constant(has_z)]]) {}
    kernel void other(device int* z [[function_constant(has_z)]]) {}
  )");
  const auto found = source.switched("k");
  REQUIRE(found.size() == 3);
  CHECK(found[0].name == "z");
  CHECK(found[0].index == 1);
  CHECK(found[1].name == "t");
  CHECK(found[1].index == 2);
  CHECK(found[1].address_space == "threadgroup");
  CHECK_FALSE(found[2].index);
  CHECK(source.switched("none").empty());
}

TEST_CASE("no text is too broken to read") {
  const std::string whole =
      "#define K \"a\\\"b\" 'c' \\\n [[kernel]] void k<float, 2>(device metal::array<half, (4)>* x "
      "[[buffer(1)]],"
      " constant T& y [[buffer(2), function_constant(c)]] /* end */) { } // end";
  for (size_t length = 0; length <= whole.size(); ++length) {
    for (const char* more : {"", "\"", "'", "\\", "/", "/*", "kernel", "kernel (", "[", ")", ">", "<"}) {
      const SourceArguments source(whole.substr(0, length) + more);
      CHECK(source.switched("k").size() <= 1);
    }
    CHECK(SourceArguments(whole.substr(length)).switched("k").size() <= 1);
  }
  // Nor takes long.
  for (const char* part :
       {"kernel (", "kernel void f(device float* x ", "kernel [", "[[kernel", "kernel void f<"}) {
    std::string nested;
    for (int i = 0; i < 100'000; ++i) nested += part;
    CHECK(SourceArguments(nested).switched("f").empty());
    CHECK(SourceArguments(nested + std::string(100'000, ')') + ";").switched("f").empty());
  }
}
