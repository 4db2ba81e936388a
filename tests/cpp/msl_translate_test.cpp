#include "softmetal/msl/translate.h"

#include <doctest/doctest.h>

#include <string>

#include "softmetal/msl/syntax.h"

using namespace softmetal::msl;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The emitted C++ of a file, blanks squeezed so that a comparison does not depend on them.
std::string cpp(const std::string& source) {
  const Translation t = translate(source, "f.metal");
  INFO(t.log());
  REQUIRE(t.ok());
  std::string out;
  for (char c : t.cpp)
    if (!(c == ' ' && !out.empty() && out.back() == ' ')) out += c;
  return out;
}

Translation good(const std::string& source) {
  Translation t = translate(source, "f.metal");
  INFO(t.log());
  REQUIRE(t.ok());
  REQUIRE(!t.cpp.empty());
  return t;
}

// A kernel around statements.
std::string body(const std::string& statements) {
  return "kernel void k(device float4* x [[buffer(0)]]) { " + statements + " }";
}

}  // namespace

TEST_CASE("signatures: kinds, indices, types, access") {
  const Translation t = good(R"(
struct Params { uint n; };
kernel void k(const device float* a [[buffer(3)]],
              device const half4 *b [[buffer(0)]],
              device vec<float, 2>* c [[ buffer(7) ]],
              constant Params& p [[buffer(1)]],
              constant float (&table)[4] [[buffer(9)]],
              threadgroup float* s [[threadgroup(2)]],
              uint2 gid [[thread_position_in_grid]],
              ushort lane [[thread_index_in_simdgroup]]) {}
)");
  REQUIRE(t.kernels.size() == 1);
  const KernelReflection& k = t.kernels[0];
  CHECK(k.name == "k");
  CHECK(k.line == 3);
  CHECK(k.mode == "threadgroups");
  CHECK(k.max_threads_per_threadgroup == "1");
  REQUIRE(k.arguments.size() == 6);
  CHECK(k.arguments[0].name == "a");
  CHECK(k.arguments[0].index == "3");
  CHECK(k.arguments[0].type_name == "float");
  CHECK(k.arguments[0].access == "read");
  CHECK(k.arguments[1].type_name == "half4");
  CHECK(k.arguments[1].access == "read");
  CHECK(k.arguments[2].type_name == "vec<float, 2>");
  CHECK(k.arguments[2].access == "read-write");
  CHECK(k.arguments[3].is_reference);
  CHECK(k.arguments[3].address_space == "constant");
  CHECK(k.arguments[4].name == "table");
  CHECK(k.arguments[4].is_reference);
  CHECK(k.arguments[5].kind == "threadgroup");
  CHECK(k.arguments[5].index == "2");
}

TEST_CASE("every place of the kernel mark and of attributes is read") {
  for (const char* source :
       {"kernel void k(device int* x [[buffer(4)]]) {}", "[[kernel]] void k(device int* x [[buffer(4)]]) {}",
        "[[kernel, max_total_threads_per_threadgroup(64)]] void k(device int* x [[buffer(4)]]) {}",
        "[[kernel]] [[max_total_threads_per_threadgroup(64)]] void k([[buffer(4)]] device int* x) {}",
        "kernel void k(device int* x [[buffer(4)]]) [[max_total_threads_per_threadgroup(64)]] {}",
        "[[max_total_threads_per_threadgroup(64)]] kernel void k(device int* x [[buffer(4), maybe_unused]]) "
        "{}",
        "static kernel void k(device int x[] [[buffer(4)]]) {}"}) {
    CAPTURE(std::string(source));
    const Translation t = translate(source, "f");
    REQUIRE(t.ok());
    REQUIRE(t.kernels.size() == 1);
    CHECK(t.kernels[0].arguments[0].index == "4");
    CHECK(t.kernels[0].arguments[0].name == "x");
    const bool limited = std::string(source).find("64") != std::string::npos;
    CHECK(t.kernels[0].max_threads_per_threadgroup == (limited ? "64" : "1024"));
  }
}

TEST_CASE("a missing index is the lowest free one") {
  const Translation t = good(
      "kernel void k(device int* a, device int* b [[buffer(0)]], constant int& c, device int* d "
      "[[buffer(2)]],"
      " device int* e, threadgroup int* s, threadgroup int* u [[threadgroup(0)]]) {}");
  const auto index = [&](size_t i) { return t.kernels[0].arguments[i].index; };
  CHECK(index(0) == "1");
  CHECK(index(1) == "0");
  CHECK(index(2) == "3");
  CHECK(index(4) == "4");
  CHECK(index(5) == "1");
  CHECK(index(6) == "0");
}

TEST_CASE("the mode follows from what a kernel can reach") {
  const auto mode = [](const std::string& source) {
    const Translation t = good(source);
    return t.kernels.back().mode + "/" + t.kernels.back().max_threads_per_threadgroup;
  };
  const std::string grid = "kernel void k(device int* x, uint i [[thread_position_in_grid]]) ";
  CHECK(mode(grid + "{ x[i] = 1; }") == "threads/1024");
  CHECK(mode(grid + "{ threadgroup_barrier(mem_flags::mem_none); }") == "threadgroups/1");
  CHECK(mode(grid + "{ threadgroup int s[4]; s[0] = 1; }") == "threadgroups/1");
  CHECK(mode("int f(int x) { return simd_sum(x); } " + grid + "{ x[i] = f(1); }") == "threadgroups/1");
  CHECK(mode("int g(int x) { return simd_sum(x); } int f(int x) { return g(x); } " + grid +
             "{ x[i] = f(1); }") == "threadgroups/1");
  CHECK(mode("int f(int x) { return simd_sum(x); } " + grid + "{ x[i] = 1; }") == "threads/1024");
  CHECK(mode("struct S { int m() { return quad_sum(1); } }; " + grid + "{ x[i] = S().m(); }") ==
        "threadgroups/1");
  CHECK(mode("struct S { int v; }; S operator+(S a, S b) { simdgroup_barrier(mem_flags::mem_none); return a; "
             "} " +
             grid + "{ S s; s + s; }") == "threadgroups/1");
  CHECK(mode("kernel void k(uint i [[thread_position_in_threadgroup]]) {}") == "threadgroups/1024");
  CHECK(mode("kernel void k(uint i [[thread_index_in_simdgroup]]) {}") == "threadgroups/1");
  CHECK(mode("kernel void k(threadgroup float* s) {}") == "threadgroups/1");
}

TEST_CASE("templates and their instantiations") {
  const Translation t = good(R"(
namespace ops {
template <typename T> struct Twice { T operator()(T x) { return x + x; } };
template <typename T, typename Op, int N = 4, typename U = metal::vec<metal::vec<T, 2>, 2>>
kernel void apply(const device T* x [[buffer(0)]], device T* y [[buffer(1)]], uint i [[thread_position_in_grid]]) {}
template [[host_name("apply_float")]] [[kernel]] void apply<float, Twice<float>>(
    const device float* x [[buffer(0)]], device float* y [[buffer(1)]], uint i [[thread_position_in_grid]]);
template [[host_name("apply_half")]] kernel decltype(apply<half, Twice<half>, 8>) apply<half, Twice<half>, 8>;
typedef decltype(apply<int, Twice<int>>) apply_t;
template [[host_name("apply_int"), kernel]] apply_t apply<int, Twice<int>>;
}
template [[host_name("apply_" "uint")]] [[kernel]] decltype(ops::apply<uint, ops::Twice<uint>>) ops::apply<uint, ops::Twice<uint>>;
template int helper<int>(int);
)");
  REQUIRE(t.kernels.size() == 4);
  CHECK(t.kernels[0].name == "apply_float");
  CHECK(t.kernels[0].function == "apply<float, Twice<float>>");
  CHECK(t.kernels[1].name == "apply_half");
  CHECK(t.kernels[1].function == "apply<half, Twice<half>, 8>");
  CHECK(t.kernels[2].name == "apply_int");
  CHECK(t.kernels[3].name == "apply_uint");
  CHECK(t.kernels[3].function == "ops::apply<uint, ops::Twice<uint>>");
  CHECK(has(t.cpp, "template int helper<int>(int);"));
  CHECK(!has(t.cpp, "host_name"));
}

TEST_CASE("an uninstantiated template is no kernel, and host_name renames a plain one") {
  const Translation t = good(
      "template <typename T> kernel void unused(device T* x [[buffer(0)]]) {}"
      "[[host_name(\"other\")]] kernel void plain(device int* x) {}");
  REQUIRE(t.kernels.size() == 1);
  CHECK(t.kernels[0].name == "other");
}

TEST_CASE("function constants: order, reachability, queries, switched arguments") {
  const Translation t = good(R"(
constant bool has_bias [[function_constant(2)]];
constant int unused [[function_constant(0)]];
constant float scale [[function_constant(1)]];
constant float used_scale = is_function_constant_defined(scale) ? scale : 1.0;
namespace n { constant uint deep [[function_constant(5)]]; uint f() { return deep; } }
kernel void k(device float* x, device float* bias [[buffer(1), function_constant(has_bias)]]) {
  x[0] = used_scale + n::f();
}
)");
  const KernelReflection& k = t.kernels[0];
  REQUIRE(k.constants.size() == 3);
  CHECK(k.constants[0].name == "has_bias");
  CHECK(k.constants[0].type_name == "bool");
  CHECK(k.constants[0].required);
  CHECK(k.constants[1].name == "scale");
  CHECK(k.constants[1].index == "1");
  CHECK(k.constants[1].type_name == "float");
  CHECK(!k.constants[1].required);
  CHECK(k.constants[2].name == "deep");
  CHECK(k.constants[2].required);
  CHECK(k.arguments[1].active_constant == "has_bias");
  CHECK(has(t.cpp, "softmetal_update_used_scale"));
}

TEST_CASE("rewriting: address spaces and constants") {
  const std::string text =
      cpp("constant float table[2] = {1.0, 2.0};\n"
          "constant constexpr int a = 1; static constant const int b = 2; constant metal::vec<float, 2> "
          "const c = 1;\n"
          "float f(const constant float* p, constant float const* q, device float* r, thread float& t) { "
          "constant float* local = p; threadgroup float* s; return 0; }");
  CHECK(has(text, "const float table[2]"));
  CHECK(has(text, "const constexpr int a"));
  CHECK(has(text, "static const int b"));
  CHECK(has(text, "f(const float* p, float const* q, float* r, float& t)"));
  CHECK(has(text, "const float* local = p"));
  for (const char* word : {"constant float", "device", " thread ", "threadgroup"}) CHECK(!has(text, word));
}

TEST_CASE("rewriting: literals") {
  const std::string text =
      cpp("float a() { return 1.0 + 1. + .5 + 1e3 + 2.5f + 3 + 0x10 + 0x1p3 + 0xeF + 1.5h + 2.0bf + 1h; }");
  CHECK(has(text,
            "return 1.0f + 1.f + .5f + 1e3f + 2.5f + 3 + 0x10 + 0x1p3f + 0xeF + half(1.5f) + bfloat(2.0f) + "
            "half(1.0f);"));
}

TEST_CASE("rewriting: swizzles") {
  const std::string text = cpp(body(
      "x[0].xy = x[1].zw; x[0].rgb *= x[1].bgr; x[0].x = 1; x->yx++; x[0].wz >>= 1; x[0].xyz == x[1].xyz; "
      "x[0].xy >= x[1].xy; y.xyz().x; y.xyzwx;"));
  CHECK(has(text, "x[0]. sw_xy_ref() = x[1]. sw_zw();"));
  CHECK(has(text, "x[0]. sw_rgb_ref() *= x[1]. sw_bgr();"));
  CHECK(has(text, "x[0].x = 1.") == false);
  CHECK(has(text, "x[0].x = 1;"));
  CHECK(has(text, "x-> sw_yx_ref()++;"));
  CHECK(has(text, "x[0]. sw_wz_ref() >>= 1;"));
  CHECK(has(text, "x[0]. sw_xyz() == x[1]. sw_xyz();"));
  CHECK(has(text, "x[0]. sw_xy() >= x[1]. sw_xy();"));
  CHECK(has(text, "y.xyz().x;"));
  CHECK(has(text, "y.xyzwx;"));
}

TEST_CASE("rewriting: members that look like swizzles get accessors") {
  const std::string text =
      cpp("struct S { float2 xy; struct { int zw; }; int n; void f() { return xy; } };\n"
          "struct T { int a; };\n" +
          body("S s; s.xy = s.xy; s.zw = 1;"));
  CHECK(has(text, "when<(A == 0 && B == 1), decltype(xy)&>::type sw() { return xy; }"));
  CHECK(has(text, "when<(A == 2 && B == 3), decltype(zw)&>::type sw_ref() { return zw; }"));
  CHECK(has(text, "struct T { int a; };"));
}

TEST_CASE("rewriting: overloads by address space alone become one function") {
  const std::string text =
      cpp("float f(const device float* x) { return x[0]; }\nfloat f(constant float* x) { return x[0]; }\n"
          "float f(threadgroup float* x) { return x[0]; }\nnamespace n { float f(const device float* x) { "
          "return x[0]; } }\n"
          "struct S { float v; operator float() const thread { return v; } operator float() const device { "
          "return v; }\n"
          "operator float() const constant { return v; } int f(int x) { return x; } int g(int x) { return x; "
          "} };\n"
          "int h() { static constant int k = 1; static constexpr int l = 2; return k + l; }");
  const auto count = [&](const std::string& part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
  };
  CHECK(count("float f(const float* x)") == 2);  // one of them in its namespace
  CHECK(count("float f( float* x)") == 1);
  CHECK(count("operator float() const { return v; }") == 1);
  CHECK(count("int f(int x)") == 1);
  CHECK(count("int g(int x)") == 1);
}

TEST_CASE("rewriting: attributes of C++ stay, Metal's go") {
  const std::string text =
      cpp("[[nodiscard]] int f([[maybe_unused]] int x) { switch (x) { case 0: [[fallthrough]]; default: "
          "return 0; } }"
          "[[gnu::noinline, kernel]] void k(uint i [[thread_position_in_grid]]) {}");
  CHECK(has(text, "[[nodiscard]] int f( [[maybe_unused]] int x)"));
  CHECK(has(text, "[[fallthrough]] ;"));
  CHECK(has(text, "[[gnu::noinline]]"));
  CHECK(!has(text, "[[thread_position_in_grid]])"));
}

TEST_CASE("rewriting: threadgroup variables and pragmas") {
  const std::string text =
      cpp("template <typename T, int N> kernel void k(device T* x) {\n"
          "  threadgroup T tile[N][4], other;\n"
          "#pragma unroll\n"
          "  for (int i = 0; i < 4; ++i) tile[0][i] = x[i];\n"
          "}\n");
  CHECK(has(text, "__attribute__((aligned(64))) T tile[N][4], other;"));
  CHECK(has(text, "ThreadgroupVariable<&k<T, N>, sm_variable_0, decltype(tile)>"));
  CHECK(has(text, "ThreadgroupVariable<&k<T, N>, sm_variable_1, decltype(other)>"));
  CHECK(has(text, "#pragma unroll\n#else\n#pragma GCC unroll 16\n#endif\n#line 4 \"f.metal\"\n"));
}

TEST_CASE("positions of the source are kept") {
  const Translation t = good(
      "# 1 \"a.metal\"\nint f() { return 0; }\n# 9 \"inc/b.h\" 1\nint g() { return 0; }\n# 3 \"a.metal\" 2\n"
      "kernel void k() {}\n");
  CHECK(has(t.cpp, "#line 1 \"a.metal\"\n int f()"));
  CHECK(has(t.cpp, "#line 9 \"inc/b.h\"\n int g()"));
  CHECK(t.kernels[0].file == "a.metal");
  CHECK(t.kernels[0].line == 3);
}

TEST_CASE("metal's own namespace can be extended") {
  const std::string text =
      cpp("namespace metal { int extra() { return 1; } }\nint f() { return 2; }\n"
          "template <> struct metal::limits<int> { };\nint g() { return 3; }");
  CHECK(has(text,
            "}\n#line 1 \"f.metal\"\nnamespace metal { int extra() { return 1; } }\nnamespace {\n#line 2"));
}

struct Mistake {
  const char* source;
  const char* message;  // with its line
};

TEST_CASE("mistakes are named with file and line") {
  const Mistake mistakes[] = {
      {"\nkernel int k(device int* x) { return 0; }",
       "f.metal:2: error: kernel 'k' returns int, needs to return void"},
      {"kernel void k(device int* x [[buffer(31)]]) {}",
       "f.metal:1: error: argument 'x' of kernel 'k' has buffer index 31, the highest is 30"},
      {"kernel void k(device int* x [[buffer(99999999999)]]) {}",
       "buffer index 99999999999, the highest is 30"},
      {"kernel void k(device int* x [[buffer(1)]],\n device int* y [[buffer(1)]]) {}",
       "f.metal:2: error: arguments 'x' and 'y' of kernel 'k' both have buffer index 1"},
      {"kernel void k(int n [[buffer(0)]]) {}",
       "argument 'n' of kernel 'k' has [[buffer]] and is passed by value, needs to be a pointer or reference "
       "in "
       "device or constant memory"},
      {"kernel void k(float* x [[buffer(0)]]) {}",
       "argument 'x' of kernel 'k' is a pointer or reference: it needs an address space (device, constant or "
       "threadgroup)"},
      {"kernel void k(thread float* x [[buffer(0)]]) {}",
       "argument 'x' of kernel 'k' is in the thread address space, needs device, constant or threadgroup"},
      {"kernel void k(threadgroup float* x [[buffer(0)]]) {}",
       "argument 'x' of kernel 'k' is in the threadgroup address space and has [[buffer]], needs "
       "[[threadgroup(n)]]"},
      {"kernel void k(device float* x [[threadgroup(0)]]) {}", "has [[threadgroup]], needs [[buffer(n)]]"},
      {"kernel void k(uint i) {}", "argument 'i' of kernel 'k' has no attribute, needs [[buffer(n)]]"},
      {"kernel void k(float i [[thread_position_in_grid]]) {}",
       "argument 'i' of kernel 'k' with [[thread_position_in_grid]] is float, needs uint, uint2, uint3, "
       "ushort, ushort2 or ushort3"},
      {"kernel void k(uint2 i [[thread_index_in_simdgroup]]) {}",
       "argument 'i' of kernel 'k' with [[thread_index_in_simdgroup]] is uint2, needs uint or ushort"},
      {"kernel void k(device uint* i [[thread_position_in_grid]]) {}",
       "[[thread_position_in_grid]] is a buffer, needs uint"},
      {"kernel void k(device int* x [[buffer]]) {}", "argument 'x' of kernel 'k': [[buffer]] needs an index"},
      {"kernel void k(device int* x [[buffer(0), buffer(1)]]) {}",
       "argument 'x' of kernel 'k' has two indices"},
      {"kernel void k(device int* x[2] [[buffer(0)]]) {}",
       "argument 'x' of kernel 'k' is an array of buffers"},
      {"kernel void k(device int* x [[bufer(0)]]) {}", "f.metal:1: error: unknown attribute [[bufer]]"},
      {"kernel void k() {}\nkernel void k() {}", "f.metal:2: error: two kernels have the host name 'k'"},
      {"kernel void a() {}\n[[host_name(\"a\")]] kernel void b() {}",
       "f.metal:2: error: two kernels have the host name 'a'"},
      {"float x = 1;", "f.metal:1: error: program-scope variable 'x' needs the constant address space"},
      {"constexpr float x = 1;", "program-scope variable 'x' needs the constant address space"},
      {"namespace n { static int count; }",
       "program-scope variable 'count' needs the constant address space"},
      {"struct S { int a; } s;", "program-scope variable"},
      {"threadgroup float s[4];", "'s': a threadgroup variable can be declared only in a kernel"},
      {"void f() { threadgroup float s[4]; }",
       "'s': a threadgroup variable can be declared only in a kernel"},
      {"kernel void k() { threadgroup int s = 1; }", "threadgroup variable 's' cannot be initialised"},
      {"void f(float* x) {}",
       "argument 'x' of function 'f' is a pointer or reference: it needs an address space"},
      {"template <typename T> void f(const T& x) {}",
       "argument 'x' of function 'f' is a pointer or reference"},
      {"int f() { static int count = 0; return ++count; }",
       "static variable 'count' of a function needs to be constant"},
      {"int f() {\n  double x;\n}", "f.metal:2: error: 'double' is not supported in Metal: use float"},
      {"float f() { return 1.0L; }", "literal 1.0L is a long double"},
      {"void f() { goto end; }", "'goto' is not supported in Metal"},
      {"void f() { new int; }", "'new' is not supported in Metal"},
      {"vertex float4 v() { return 0; }", "vertex function 'v' is not supported: only compute kernels are"},
      {"[[fragment]] float4 v() { return 0; }", "[[fragment]] is not supported"},
      {"kernel void k(texture2d<float> t [[texture(0)]]) {}",
       "'texture2d' is not supported: textures and samplers are not"},
      {"kernel void k(device int* x) {\n constexpr sampler s(filter::linear); }",
       "f.metal:2: error: 'sampler' is not supported"},
      {"kernel void k(In in [[stage_in]]) {}", "[[stage_in]] is not supported"},
      {"struct A { device float* x [[id(0)]]; };",
       "[[id]] is not supported: members of argument buffers are not"},
      {"kernel void k(visible_function_table<int(int)> t [[buffer(0)]]) {}",
       "'visible_function_table' is not supported"},
      {"kernel void k(raytracing::primitive_acceleration_structure a [[buffer(0)]]) {}",
       "'primitive_acceleration_structure' is not supported: ray tracing is not"},
      {"[[visible]] int f(int x) { return x; }", "[[visible]] is not supported"},
      {"void f(int x [[buffer(0)]]) {}",
       "[[buffer]] has no meaning here: it belongs to an argument of a kernel"},
      {"inline float f(device float* p) { return p[0]; }\ninline float f(threadgroup float* p) { return "
       "p[1]; }",
       "defined before with the same parameters, or with ones that differ in their address spaces alone"},
      {"struct S { uint x [[thread_position_in_grid]]; };",
       "[[thread_position_in_grid]] has no meaning here"},
      {"[[kernel]] constant int x = 1;", "'kernel' needs a function after it"},
      {"constant int x [[function_constant]];", "[[function_constant]] of 'x' needs an index"},
      {"constant int x [[function_constant(0)]] = 1;", "function constant 'x' cannot have an initializer"},
      {"constant int x [[function_constant(0)]][2];", "a function constant needs a declaration of its own"},
      {"constant int x = 1; kernel void k(device int* y [[buffer(0), function_constant(x)]]) {}",
       "'x' is not a function constant"},
      {"constant int x [[function_constant(0)]]; kernel void k(device int* y [[buffer(0), "
       "function_constant(x)]]) {}",
       "is switched on by 'x', which is not a bool"},
      {"constant int x = 1; bool f() { return is_function_constant_defined(x); }",
       "is_function_constant_defined() needs the name of a function constant"},
      {"template [[host_name(\"x\")]] kernel void f<int>(device int*);",
       "no kernel template 'f' is defined for this instantiation"},
      {"template <typename T> kernel void f(device T* x) {}\ntemplate kernel void f<int>(device int*);",
       "f.metal:2: error: instantiation of kernel 'f' needs [[host_name(\"...\")]]"},
      {"template <typename> kernel void f(device int* x) { threadgroup int s[2]; }\n"
       "template [[host_name(\"x\")]] kernel void f<int>(device int*);",
       "each of its template parameters needs a name"},
      {"int f( { }", "f.metal:1: error: '(' is never closed"},
      {"int f(]", "']' without a matching '['"},
      {"int f() {", "f.metal:1: error: '{' is never closed"},
      {"\n#pragma METAL fp magic(on)\n", "f.metal:2: error: #pragma METAL fp magic(on) is not supported"},
      {"]", "']' without a matching '['"},
  };
  for (const Mistake& m : mistakes) {
    CAPTURE(std::string(m.source));
    const Translation t = translate(m.source, "f.metal");
    CHECK(!t.ok());
    CHECK(t.cpp.empty());
    CHECK_MESSAGE(has(t.log(), m.message), t.log());
  }
}

TEST_CASE("names that only look special are left alone") {
  good(
      "struct tensor { int x; }; int f(tensor mesh, int sampler) { int patch = sampler < 3; return mesh.x + "
      "patch; }");
  good("int f(int position) { return position; }");
  good("kernel void k(device float* buffer, uint id [[thread_position_in_grid]]) { buffer[id] = 1.0; }");
  good("struct Ops { static float a(thread float& x) { return x; } float* none; };");
}

TEST_CASE("brackets are matched through templates, shifts and comparisons") {
  TokenStream s = lex("f<a<b>>(1) g<(a > b), 2>(x) a < b && c > d", "f");
  const Syntax syntax = parse(s);
  CHECK(syntax.angle(1, s.tokens.size()) == 6);
  size_t g = 0;
  while (!s.tokens[g].is("g")) ++g;
  CHECK(s.tokens[syntax.angle(g + 1, s.tokens.size()) + 1].is("("));
  size_t comparison = s.tokens.size() - 6;
  CHECK(s.tokens[comparison].is("<"));
  CHECK(syntax.angle(comparison, s.tokens.size()) == kNone);
}

TEST_CASE("reflection prints as JSON") {
  const Translation t = good("kernel void k(const device float* \n x [[buffer(0)]]) {}");
  const std::string json = reflection_json(t.kernels);
  CHECK(has(json, "\"name\": \"k\""));
  CHECK(
      has(json,
          "{\"name\": \"x\", \"kind\": \"buffer\", \"index\": \"0\", \"type\": \"float\", \"address_space\": "
          "\"device\", \"access\": \"read\", \"is_reference\": false}"));
}

TEST_CASE("pointers that are cast and read at once say what alignment they need, when checked") {
  const auto emitted = [](const std::string& expression) {
    softmetal::msl::TranslateOptions options;
    options.width = 32;
    options.checked = true;
    return softmetal::msl::translate(
               "kernel void k(device float* x [[buffer(0)]], device float4* y [[buffer(1)]]) { " +
                   expression + "; }",
               "k.metal", options)
        .cpp;
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(has(emitted("y[0] = *(device const float4*)(x + 1)"), "AlignedCast<"));
  CHECK(has(emitted("y[0] = *reinterpret_cast<device float4*>(x + 1)"), "aligned_cast<"));
  CHECK(has(emitted("y[0] = ((device float4*)x)[1]"), "AlignedCast<"));
  CHECK(has(emitted("*(device float4*)x = y[0]"), "AlignedCast<"));
  // Not read at once, or no cast of a pointer at all.
  CHECK_FALSE(has(emitted("device float4* p = (device float4*)x"), "AlignedCast<"));
  CHECK_FALSE(has(emitted("auto p = reinterpret_cast<device float4*>(x)"), "aligned_cast<"));
  CHECK_FALSE(has(emitted("x[0] = x[1] * (x[2])"), "AlignedCast<"));
  CHECK_FALSE(has(emitted("x[0] = sizeof(device float4*) * 2.0f"), "AlignedCast<"));
}
