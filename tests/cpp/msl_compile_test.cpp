// Metal sources all the way to running code.
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>

#include "msl/harness.h"

using namespace msl_test;

namespace {

std::string constructs() {
  std::ifstream stream(source_root() + "/tests/cpp/msl/constructs.metal");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// Compiled once for all test cases that look at it.
const Library& library() {
  static const Library it(constructs());
  return it;
}

struct Params {
  uint32_t n;
  float factor;
  float offset[3];
};

const SoftmetalArgument& argument(const SoftmetalKernel& k, const std::string& name) {
  for (uint32_t i = 0; i < k.argument_count; ++i)
    if (name == k.arguments[i].name) return k.arguments[i];
  FAIL("no argument " << name);
  return k.arguments[0];
}

// The log of a source that must not compile.
std::string failure(const std::string& source, msl::Options o = options()) {
  msl::TemporaryDirectory directory;
  o.output = directory.file("library.so");
  const msl::Result r = msl::compile(o, {{"user.metal", source}});
  CHECK(!r.ok);
  CHECK(!std::filesystem::exists(o.output));
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path()))
    files += !entry.path().empty();
  CHECK(files == 0);
  return r.log;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the library describes itself") {
  CHECK(library().library->abi_version == SOFTMETAL_ABI_VERSION);
  CHECK(library().library->isa == msl::host_isa());
  CHECK(std::string(library().library->compiler).size() > 3);
  CHECK(library().size() == 10);
  CHECK(library().result.kernels.size() == 10);
}

TEST_CASE("a kernel over the grid, in pieces that end anywhere") {
  const uint32_t n = 1003;
  std::vector<float> x(n), y(n, -1), expected(n, -1);
  std::iota(x.begin(), x.end(), 0.f);
  const Params params{1000, 3, {7, 0.25f, 9}};
  for (uint32_t i = 0; i < params.n; ++i) expected[i] = x[i] * 3 * 4 + 0.25f;
  const SoftmetalKernel& k = library().kernel("scale");
  CHECK(k.mode == SOFTMETAL_MODE_THREADS);
  CHECK(k.max_threads_per_threadgroup == 1024);
  for (uint64_t pieces : {1, 2, 7, 1003}) {
    std::fill(y.begin(), y.end(), -1.f);
    Dispatch(k)
        .buffer(0, x.data(), n)
        .buffer(1, y.data(), n)
        .value(2, params)
        .run({n, 1, 1}, {1, 1, 1}, pieces);
    CHECK(y == expected);
  }
}

TEST_CASE("a grid of three dimensions") {
  const Size grid = {5, 3, 4};
  for (uint64_t pieces : {1, 4, 60}) {
    std::vector<uint32_t> out(60, 0);
    const uint32_t stride[2] = {5, 15};
    Dispatch(library().kernel("grid3"))
        .buffer(0, out.data(), 60)
        .value(1, stride)
        .run(grid, {1, 1, 1}, pieces);
    for (uint32_t z = 0; z < 4; ++z)
      for (uint32_t y = 0; y < 3; ++y)
        for (uint32_t x = 0; x < 5; ++x)
          CHECK(out[z * 15 + y * 5 + x] == x + 10 * y + 100 * z + 1000 * 5 + 10000 * 3);
  }
}

TEST_CASE("places in threadgroups, smaller ones at the edges") {
  const SoftmetalKernel& k = library().kernel("places");
  CHECK(k.mode == SOFTMETAL_MODE_THREADGROUPS);
  CHECK(k.max_threads_per_threadgroup == 512);
  const Size grid = {10, 7, 1};
  for (Size group : {Size{4, 3, 1}, Size{1, 1, 1}, Size{16, 16, 1}}) {
    std::vector<uint32_t> out(70 * 4, 0);
    Dispatch(k).buffer(0, out.data(), out.size()).run(grid, group, 3);
    for (uint32_t y = 0; y < 7; ++y)
      for (uint32_t x = 0; x < 10; ++x) {
        const uint32_t gx = x / group[0], gy = y / group[1], tx = x % group[0], ty = y % group[1];
        const uint32_t wide = std::min(group[0], grid[0] - gx * group[0]);
        const uint32_t groups = (grid[0] + group[0] - 1) / group[0];
        const uint32_t* o = &out[(y * 10 + x) * 4];
        CHECK(o[0] == gx);
        CHECK(o[1] == gy);
        CHECK(o[2] == ty * wide + tx + 1000 * wide);
        CHECK(o[3] == tx + 100 * ty + 10000 * group[1] + 100000 * groups);
      }
  }
}

TEST_CASE("threadgroup memory, barriers, instantiations") {
  const uint32_t rows = 6, n = 37;
  std::vector<float> x(rows * n), sums(rows), expected(rows);
  for (uint32_t i = 0; i < rows * n; ++i) {
    x[i] = static_cast<float>(i % 11);
    expected[i / n] += 2 * x[i];
  }
  const SoftmetalKernel& k = library().kernel("row_sum_float");
  CHECK(k.mode == SOFTMETAL_MODE_THREADGROUPS);
  CHECK(k.max_threads_per_threadgroup == 1);
  CHECK(k.execution_width == 1);
  CHECK(k.static_threadgroup_bytes == 64 + 16);
  CHECK(library().kernel("row_sum_int_8").static_threadgroup_bytes == 32 + 16);
  Dispatch(k)
      .buffer(0, x.data(), x.size())
      .buffer(1, sums.data(), rows)
      .value(2, n)
      .threadgroup(0, 128)
      .run({rows, 1, 1}, {1, 1, 1}, 2);
  CHECK(sums == expected);

  std::vector<int> ints(x.begin(), x.end());
  std::fill(sums.begin(), sums.end(), 0.f);
  Dispatch(library().kernel("row_sum_int_8"))
      .buffer(0, ints.data(), ints.size())
      .buffer(1, sums.data(), rows)
      .value(2, n)
      .threadgroup(0, 128)
      .run({rows, 1, 1});
  CHECK(sums == expected);
}

TEST_CASE("template arguments that follow from the parameters") {
  std::vector<int16_t> x = {1, 2, 3};
  Dispatch(library().kernel("deduced_short")).buffer(0, x.data(), 3).run({3, 1, 1});
  CHECK(x == std::vector<int16_t>{2, 3, 4});
}

TEST_CASE("function constants are read at run time") {
  const SoftmetalKernel& k = library().kernel("specialised");
  REQUIRE(k.constant_count == 3);
  std::vector<unsigned char> block(k.constants_bytes, 0);
  uint64_t all = 0;
  const auto set = [&](const std::string& name, const auto& value) {
    for (uint32_t i = 0; i < k.constant_count; ++i) {
      if (name != k.constants[i].name) continue;
      REQUIRE(k.constants[i].size == sizeof(value));
      REQUIRE(k.constants[i].offset + sizeof(value) <= k.constants_bytes);
      std::memcpy(&block[k.constants[i].offset], &value, sizeof(value));
      all |= uint64_t{1} << i;
    }
  };
  const auto run = [&](float x) {
    Dispatch d(k);
    const float bias = 0.125f;
    d.buffer(0, &x, 1).value(1, bias);
    if (!block[k.constants[0].offset]) d.buffers[1] = nullptr;
    d.constants = block.data();
    d.constants_defined = all;
    d.run({1, 1, 1});
    return x;
  };
  CHECK(std::string(k.constants[0].name) == "has_bias");
  CHECK(k.constants[0].data_type == 53);  // MTL::DataTypeBool
  CHECK(k.constants[1].data_type == 33);  // MTL::DataTypeUInt
  CHECK(k.constants[2].index == 7);
  CHECK(k.constants[0].required == 1);
  CHECK(k.constants[2].required == 0);
  CHECK(argument(k, "bias").active_constant == 0);
  CHECK(argument(k, "x").active_constant == -1);
  set("has_bias", false);
  set("repeat_count", uint32_t{4});
  CHECK(run(1) == 1 + 4 * 0.5f);
  set("gain", 8.f);
  CHECK(run(1) == 1 + 4 * 8.f);
  set("has_bias", true);
  CHECK(run(1) == 1 + 4 * 8.f + 0.125f + 1000);
  set("gain", 2.f);
  CHECK(run(1) == 1 + 4 * 2.f + 0.125f);
}

TEST_CASE("structs, enumerations and swizzle-like members") {
  struct Box {
    float xy[2], wz, padding;
  } box{{2, 3}, 0, 0};
  const uint32_t multiply = 1;
  Dispatch(library().kernel("boxes")).buffer(0, &box, 1).value(1, multiply).run({1, 1, 1});
  // turned: (-3, 2), other (3, 2); then xy.yx += (3, 2) * 1 * 3.
  CHECK(box.wz == -6);
  CHECK(box.xy[0] == -3 + 6);
  CHECK(box.xy[1] == 2 + 9);
}

TEST_CASE("reflection of the compiled library") {
  const SoftmetalKernel& k = library().kernel("scale");
  CHECK(k.argument_count == 3);
  CHECK(std::string(k.source_file) == "test.metal");
  CHECK(k.source_line > 50);
  const SoftmetalArgument& x = argument(k, "x");
  CHECK(x.index == 0);
  CHECK(x.kind == SOFTMETAL_ARGUMENT_BUFFER);
  CHECK(x.access == SOFTMETAL_ACCESS_READ);
  CHECK(x.address_space == SOFTMETAL_SPACE_DEVICE);
  CHECK(x.data_type == 3);  // MTL::DataTypeFloat
  CHECK(x.element_size == 4);
  CHECK(x.is_reference == 0);
  CHECK(argument(k, "y").access == SOFTMETAL_ACCESS_READ_WRITE);
  const SoftmetalArgument& params = argument(k, "params");
  CHECK(params.address_space == SOFTMETAL_SPACE_CONSTANT);
  CHECK(params.data_type == 1);  // MTL::DataTypeStruct
  CHECK(params.element_size == sizeof(Params));
  CHECK(params.element_align == 4);
  CHECK(params.is_reference == 1);
  CHECK(std::string(params.type_name) == "Params");
  const SoftmetalKernel& bf = library().kernel("row_sum_bfloat");
  CHECK(argument(bf, "x").data_type == 121);  // MTL::DataTypeBFloat
  CHECK(std::string(argument(bf, "x").type_name) == "bfloat");
  CHECK(argument(bf, "scratch").kind == SOFTMETAL_ARGUMENT_THREADGROUP);
  CHECK(argument(library().kernel("row_sum_half"), "x").data_type == 16);
  CHECK(argument(library().kernel("places"), "out").data_type == 36);
  CHECK(argument(library().kernel("places"), "out").element_align == 16);
  CHECK(argument(library().kernel("boxes"), "operation").data_type == 33);
}

TEST_CASE("what the C++ compiler finds is told of the user's line, once and plainly") {
  const std::string log = failure(
      "#include <metal_stdlib>\nusing namespace metal;\n\nkernel void k(device float* x,\n"
      "  uint i [[thread_position_in_grid]]) {\n  x[i] = undeclared + x[i].xyz;\n}\n");
  CHECK_MESSAGE(has(log, "user.metal:6: error: "), log);
  CHECK_MESSAGE(has(log, "undeclared"), log);
  for (const char* noise : {"/tmp", "unit0", "In file included", "|", "anonymous"})
    CHECK_MESSAGE(!has(log, noise), log);
}

TEST_CASE("mistakes that only the types show") {
  const std::string swizzle =
      failure("struct P { float a; };\nkernel void k(device P* x) {\n  x[0].xy = 1;\n}");
  CHECK_MESSAGE(has(swizzle, "user.metal:3: error: "), swizzle);
  CHECK_MESSAGE((has(swizzle, "no member named 'xy'") || has(swizzle, "no member named 'swizzle'")), swizzle);
  const std::string wrong =
      failure("typedef float3 place; kernel void k(device int* x,\n place p [[thread_position_in_grid]]) {}");
  CHECK_MESSAGE(
      has(wrong,
          "user.metal:2: error: argument 'p' of kernel 'k' with [[thread_position_in_grid]] needs uint"),
      wrong);
  const std::string twice = failure(
      "enum { kA = 1, kB = 1 };\nkernel void k(device int* x [[buffer(kA)]], device int* y [[buffer(kB)]]) "
      "{}");
  CHECK_MESSAGE(
      has(twice, "user.metal:2: error: buffer indices of kernel 'k' need to be different and at most 30"),
      twice);
  const std::string missing =
      failure("int nowhere(int x);\nkernel void k(device int* x) { x[0] = nowhere(x[0]); }");
  CHECK_MESSAGE(has(missing, "nowhere"), missing);
}

TEST_CASE("indices may be named") {
  const Library named(
      "enum Index { kIn = 4, kOut = 2 };\nkernel void k(device int* x [[buffer(kIn)]], device int* y "
      "[[buffer(kOut)]],"
      " uint i [[thread_position_in_grid]]) { y[i] = x[i]; }");
  std::vector<int> x = {1, 2}, y = {0, 0};
  Dispatch(named.kernel("k")).buffer(4, x.data(), 2).buffer(2, y.data(), 2).run({2, 1, 1});
  CHECK(y == x);
}

TEST_CASE("names in the user's file do not meet those of the wrapper") {
  const Library odd(
      "kernel void run(device int* launch, uint memory [[thread_position_in_grid]]) { launch[memory] = 1; }\n"
      "kernel void call(device int* t, uint x [[thread_position_in_threadgroup]]) { t[x] = 2; }\n"
      "int begin() { return 3; }\nkernel void arguments(device int* x) { x[0] = begin(); }");
  int value = 0;
  Dispatch(odd.kernel("run")).buffer(0, &value, 1).run({1, 1, 1});
  CHECK(value == 1);
  Dispatch(odd.kernel("call")).buffer(0, &value, 1).run({1, 1, 1});
  CHECK(value == 2);
  Dispatch(odd.kernel("arguments")).buffer(0, &value, 1).run({1, 1, 1});
  CHECK(value == 3);
}

TEST_CASE("several files share a library but no names") {
  msl::TemporaryDirectory directory;
  msl::Options o = options();
  o.output = directory.file("l.so");
  const std::string helper = "int helper() { return ";
  msl::Result r =
      msl::compile(o, {{"a.metal", helper + "1; } kernel void a(device int* x) { x[0] = helper(); }"},
                       {"b.metal", helper + "2; } kernel void b(device int* x) { x[0] = helper(); }"},
                       {"c.metal", "int unused() { return 0; }"}});
  INFO(r.log);
  REQUIRE(r.ok);
  CHECK(r.kernels.size() == 2);
  r = msl::compile(o, {{"a.metal", "\nkernel void a() {}"}, {"b.metal", "\n\nkernel void a() {}"}});
  CHECK(!r.ok);
  CHECK_MESSAGE(has(r.log, "b.metal:3: error: two kernels have the host name 'a'; the other is at a.metal:2"),
                r.log);
}

TEST_CASE("include directories, definitions and missing headers") {
  msl::TemporaryDirectory directory;
  msl::Options o = options();
  o.include_directories.push_back(directory.path());
  o.defines.push_back("VALUE=41 + 1");
  std::ofstream(directory.file("value.h")) << "constant int kValue = VALUE;\n";
  const Library l("#include \"value.h\"\nkernel void k(device int* x) { x[0] = kValue; }", o);
  int value = 0;
  Dispatch(l.kernel("k")).buffer(0, &value, 1).run({1, 1, 1});
  CHECK(value == 42);
  const std::string log = failure("\n#include <no_such_header>\n");
  CHECK_MESSAGE(has(log, "user.metal:2"), log);
  CHECK_MESSAGE(has(log, "no_such_header"), log);
}

TEST_CASE("arithmetic can be kept exact") {
  const std::string source = "kernel void k(device float* x) { x[3] = (x[0] + x[1]) - x[0]; }";
  msl::Options o = options();
  o.fast_math = false;
  const Library exact(source, o);
  float x[4] = {1e8f, 1, 0, 0};
  Dispatch(exact.kernel("k")).buffer(0, x, 4).run({1, 1, 1});
  CHECK(x[3] == (1e8f + 1.f) - 1e8f);
}

TEST_CASE("arithmetic can be kept exact in one function, where the compiler is able to") {
  const std::string source =
      "\nkernel void k(device float* x) {\n#pragma METAL fp math_mode(safe)\n  x[3] = (x[0] + x[1]) - x[0]; "
      "}";
  if (msl::detect_toolchain(compiler()).flavour == msl::Flavour::Gcc) {
    const std::string log = failure(source);
    CHECK_MESSAGE(has(log, "user.metal:3: error: "), log);
    CHECK_MESSAGE(has(log, "#pragma METAL fp math_mode(safe) needs clang as the shader compiler"), log);
    return;
  }
  const Library exact(source);
  float x[4] = {1e8f, 1, 0, 0};
  Dispatch(exact.kernel("k")).buffer(0, x, 4).run({1, 1, 1});
  CHECK(x[3] == (1e8f + 1.f) - 1e8f);
}

TEST_CASE("options that cannot be met say so") {
  msl::Options o = options();
  o.width = "64";
  CHECK(has(failure("", o), "SIMD width '64' is unknown, needs 32, or any"));
  o = options();
  o.isa = "z80";
  CHECK(has(failure("", o), "instruction set 'z80' is unknown"));
  o = options();
  o.compiler = {"/nowhere/clang++"};
  CHECK(has(failure("", o), "'/nowhere/clang++' does not work"));
  o.compiler = {"sh", "-c", "echo hello", "sh"};
  CHECK(has(failure("", o), "neither clang nor gcc"));
  o.compiler = {};
  CHECK(has(failure("", o), "no shader compiler is given"));
}

TEST_CASE("command lines are split at spaces outside quotes") {
  using Words = std::vector<std::string>;
  CHECK(msl::split_command("a  b\tc") == Words{"a", "b", "c"});
  CHECK(msl::split_command("\"/a b/python\" -m 'zig lang' c\\ d \"\"") ==
        Words{"/a b/python", "-m", "zig lang", "c d", ""});
  CHECK(msl::split_command("   ").empty());
}

TEST_CASE("a process that hangs is ended") {
  const msl::ProcessResult r = msl::run_process({"sh", "-c", "echo started; sleep 100 & sleep 100"}, {}, 1);
  CHECK(r.timed_out);
  CHECK(r.output == "started\n");
  CHECK(msl::run_process({"sh", "-c", "echo $ADDED; exit 3"}, {"ADDED=yes"}, 10).output == "yes\n");
  CHECK(msl::run_process({"sh", "-c", "exit 3"}, {}, 10).status == 3);
  CHECK(has(msl::run_process({"/nowhere/x"}, {}, 10).output, "cannot run /nowhere/x"));
}

TEST_CASE("temporary directories are private and go away") {
  std::string path;
  {
    msl::TemporaryDirectory directory;
    path = directory.path();
    CHECK((std::filesystem::status(path).permissions() & std::filesystem::perms::others_all) ==
          std::filesystem::perms::none);
    std::ofstream(directory.file("x")) << "x";
  }
  CHECK(!std::filesystem::exists(path));
}
