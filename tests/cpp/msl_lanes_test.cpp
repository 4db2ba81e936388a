// Kernels of 32 lanes, compiled and run thread by thread; and what checked ones tell the runtime.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <set>

#include "msl/harness.h"
#include "softmetal/simt/engine.h"
#include "softmetal/simt/lines.h"

using namespace msl_test;

namespace {

msl::Options lanes(bool checked = false) {
  msl::Options o = options();
  o.width = "32";
  o.checked = checked;
  return o;
}

// What a checked library reported.
struct Access {
  const void* address;
  uint64_t bytes;
  uint32_t kind;
  const void* pc;
};
std::vector<Access> accesses;
std::set<const void*> ticks;

// The engine's hooks, and a record of what comes from checked code.
const SoftmetalHooks& recording_hooks() {
  static const SoftmetalHooks hooks = [] {
    SoftmetalHooks h = softmetal::simt::hooks();
    h.access = [](const void* address, uint64_t bytes, uint32_t kind, const void* pc) {
      if (accesses.size() < accesses.capacity()) accesses.push_back({address, bytes, kind, pc});
    };
    h.tick = [](const void* pc) { ticks.insert(pc); };
    return h;
  }();
  return hooks;
}

// Runs all threadgroups of a dispatch, as the executors do.
struct LaneDispatch : Dispatch {
  LaneDispatch(const Library& library, const std::string& name) : Dispatch(library.kernel(name)) {
    *library.library->hooks = &recording_hooks();
    accesses.clear();
    accesses.reserve(1 << 16);
    ticks.clear();
  }
  void run(Size grid, Size group, uint64_t = 1) override {
    SoftmetalLaunch launch{};
    const uint64_t units = fill(launch, grid, group);
    REQUIRE(bool(kernel.thread));
    if (kernel.prepare) kernel.prepare(&launch);
    memory.assign((size_t{1} << 16) / 64, {});
    variables = memory[512].bytes;
    const softmetal::simt::Run run{&kernel, &launch, memory[0].bytes, variables};
    for (uint64_t unit = 0; unit < units; ++unit) CHECK(softmetal::simt::run_threadgroup(run, unit));
  }

  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> memory;
  char* variables = nullptr;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string log_of(const std::string& source, const msl::Options& from) {
  const msl::TemporaryDirectory directory;
  msl::Options o = from;
  o.output = directory.file("library.so");
  const msl::Result r = msl::compile(o, {{"user.metal", source}});
  CHECK(!r.ok);
  return r.log;
}

constexpr const char* kHead = "#include <metal_stdlib>\nusing namespace metal;\n";

const char* kVariables = R"(
struct alignas(32) Wide { float x[8]; };
struct Pair { uint key; float value; };
template <typename T, int N, short Unused>
kernel void variables(device T* out [[buffer(0)]], device uint* places [[buffer(1)]],
                      threadgroup float* dynamic [[threadgroup(0)]],
                      uint tid [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup T grid[N][4], single;
  threadgroup Wide wide;
  float threadgroup after[3];
  alignas(64) threadgroup uchar bytes[5];
  threadgroup struct { int a; float b; } unnamed;
  threadgroup atomic_uint count;
  threadgroup Pair pairs[2][8];
  threadgroup T* alias = &grid[0][0];
  threadgroup T (&row)[4] = grid[1];
  if (tid == 0) {
    single = T(5);
    atomic_store_explicit(&count, 0u, memory_order_relaxed);
    wide.x[7] = 7;
    after[2] = 11;
    bytes[4] = 13;
    unnamed.b = 17;
    pairs[1][7] = Pair{3, 19};
    dynamic[0] = 23;
  }
  alias[tid] = T(tid);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[tid] = alias[n - 1 - tid] + single + T(wide.x[7] + after[2] + bytes[4] + unnamed.b + pairs[1][7].value + dynamic[0]) +
             T(atomic_load_explicit(&count, memory_order_relaxed)) + row[1];
}
template [[host_name("variables_float")]] kernel void variables<float, 8, 0>(device float*, device uint*, threadgroup float*, uint, uint);
template [[host_name("variables_int")]] kernel void variables<int, 16, 1>(device int*, device uint*, threadgroup float*, uint, uint);
)";

}  // namespace

TEST_CASE("threadgroup variables of every form lie beside each other") {
  for (bool checked : {false, true}) {
    CAPTURE(checked);
    const Library library(kHead + std::string(kVariables), lanes(checked));
    const SoftmetalKernel& k = library.kernel("variables_float");
    std::map<std::string, const SoftmetalVariable*> found;
    for (const SoftmetalVariable* v = k.variables; v; v = v->next) found[v->name] = v;
    REQUIRE(found.size() == 8);
    CHECK(found["grid"]->bytes == 8 * 4 * 4);
    CHECK(found["grid"]->element_size == 4);
    CHECK(found["grid"]->data_type == 3);  // MTL::DataTypeFloat
    CHECK(found["single"]->bytes == 4);
    CHECK(found["wide"]->offset % 32 == 0);
    CHECK(found["bytes"]->offset % 64 == 0);
    CHECK(found["count"]->data_type == 33);  // MTL::DataTypeUInt
    CHECK(found["pairs"]->bytes == 16 * 8);
    CHECK(found["pairs"]->element_size == 8);
    CHECK(found["pairs"]->data_type == 1);  // MTL::DataTypeStruct
    std::vector<const SoftmetalVariable*> sorted;
    uint32_t sum = 0;
    for (const auto& [name, v] : found) {
      CHECK(v->offset % 16 == 0);
      sorted.push_back(v);
      sum += (v->bytes + 15) / 16 * 16;
    }
    std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
    uint32_t end = 0;
    for (const SoftmetalVariable* v : sorted) {
      CHECK(v->offset >= end + (checked ? SOFTMETAL_RED_ZONE : 0));
      end = v->offset + v->bytes;
    }
    // What the API reports is the same whether checked or not.
    CHECK(k.static_threadgroup_bytes >= sum);
    CHECK(k.static_threadgroup_bytes <= sum + 64);

    std::vector<float> out(32), expected(32);
    std::vector<uint32_t> places(8);
    LaneDispatch dispatch(library, "variables_float");
    dispatch.buffer(0, out.data(), 32)
        .buffer(1, places.data(), 8)
        .threadgroup(0, 16)
        .run({32, 1, 1}, {32, 1, 1});
    for (uint32_t i = 0; i < 32; ++i)
      expected[i] = static_cast<float>(31 - i) + 5 + 7 + 11 + 13 + 17 + 19 + 23 + 32 + 5;
    CHECK(out == expected);
    std::vector<int> ints(64);
    LaneDispatch other(library, "variables_int");
    other.buffer(0, ints.data(), 64)
        .buffer(1, places.data(), 8)
        .threadgroup(0, 16)
        .run({64, 1, 1}, {64, 1, 1});
    CHECK(ints[0] == 63 + 5 + 7 + 11 + 13 + 17 + 19 + 23 + 64 + 5);
  }
}

TEST_CASE("every builtin, in partial threadgroups too") {
  const Library library(std::string(kHead) + R"(
kernel void builtins(device uint* out [[buffer(0)]], uint3 at [[thread_position_in_grid]], uint3 grid [[threads_per_grid]],
    ushort3 group [[threadgroup_position_in_grid]], uint2 groups [[threadgroups_per_grid]], uint3 thread_ [[thread_position_in_threadgroup]],
    uint3 size [[threads_per_threadgroup]], uint3 whole [[dispatch_threads_per_threadgroup]], ushort index [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]], ushort simd [[simdgroup_index_in_threadgroup]], uint width [[threads_per_simdgroup]],
    uint simds [[simdgroups_per_threadgroup]], uint all_simds [[dispatch_simdgroups_per_threadgroup]], uint execution [[thread_execution_width]],
    uint in_quad [[thread_index_in_quadgroup]], uint quad [[quadgroup_index_in_threadgroup]], uint quads [[quadgroups_per_threadgroup]],
    uint all_quads [[dispatch_quadgroups_per_threadgroup]], uint3 origin [[grid_origin]], uint3 grid_n [[grid_size]]) {
  device uint* o = out + 24 * (at.y * grid.x + at.x);
  o[0] = group.x; o[1] = group.y; o[2] = thread_.x; o[3] = thread_.y; o[4] = size.x; o[5] = size.y; o[6] = whole.x * 100 + whole.y;
  o[7] = index; o[8] = lane; o[9] = simd; o[10] = width; o[11] = simds; o[12] = all_simds; o[13] = execution; o[14] = in_quad;
  o[15] = quad; o[16] = quads; o[17] = all_quads; o[18] = groups.x * 100 + groups.y; o[19] = origin.x + grid_n.x * 100 + grid_n.y;
})",
                        lanes());
  const SoftmetalKernel& k = library.kernel("builtins");
  CHECK(!k.run);
  CHECK(k.execution_width == 32);
  CHECK(k.max_threads_per_threadgroup == 1024);
  CHECK(k.mode == SOFTMETAL_MODE_THREADGROUPS);
  REQUIRE(k.builtin_count == 20);
  CHECK(std::string(k.builtins[0]) == "thread_position_in_grid");
  CHECK(std::string(k.builtins[19]) == "grid_size");
  CHECK(library.result.kernels[0].builtins.size() == 20);
  const uint32_t nx = 20, ny = 7, wide = 12, high = 5;
  std::vector<uint32_t> out(24 * nx * ny);
  LaneDispatch dispatch(library, "builtins");
  dispatch.buffer(0, out.data(), out.size()).run({nx, ny, 1}, {wide, high, 1});
  for (uint32_t y = 0; y < ny; ++y)
    for (uint32_t x = 0; x < nx; ++x) {
      const uint32_t gx = x / wide, gy = y / high, tx = x % wide, ty = y % high;
      const uint32_t sx = std::min(wide, nx - gx * wide), sy = std::min(high, ny - gy * high);
      const uint32_t index = ty * sx + tx;
      const std::vector<uint32_t> expected = {gx,
                                              gy,
                                              tx,
                                              ty,
                                              sx,
                                              sy,
                                              wide * 100 + high,
                                              index,
                                              index % 32,
                                              index / 32,
                                              32,
                                              (sx * sy + 31) / 32,
                                              2,
                                              32,
                                              index % 4,
                                              index / 4,
                                              (sx * sy + 3) / 4,
                                              15,
                                              202,
                                              nx * 100 + ny};
      const auto at = out.begin() + 24 * (y * nx + x);
      CHECK(std::vector<uint32_t>(at, at + 20) == expected);
    }
}

TEST_CASE("which kernels run thread by thread") {
  const std::string source = std::string(kHead) + R"(
kernel void plain(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] *= 2; }
kernel void grouped(device uint* x [[buffer(0)]], uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) { x[i] = t; }
kernel void waits(device atomic_uint* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { atomic_fetch_add_explicit(x, i, memory_order_relaxed); }
inline float sum(float x) { return simd_sum(x); }
kernel void meets(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = sum(x[i]); }
[[kernel, max_total_threads_per_threadgroup(96)]] void limited(device float* x [[buffer(0)]], threadgroup float* s [[threadgroup(0)]], uint i [[thread_position_in_grid]]) { s[i] = 1; x[i] = s[i]; }
)";
  const Library unchecked(source, lanes());
  CHECK(unchecked.library->checked == 0);
  REQUIRE(unchecked.library->hooks != nullptr);
  CHECK(*unchecked.library->hooks != nullptr);
  CHECK(unchecked.library->source_count == 0);
  for (const char* name : {"plain", "grouped"}) {
    CHECK(bool(unchecked.kernel(name).run));
    CHECK(!unchecked.kernel(name).thread);
    CHECK(unchecked.kernel(name).execution_width == 32);
  }
  CHECK(unchecked.kernel("plain").mode == SOFTMETAL_MODE_THREADS);
  for (const char* name : {"waits", "meets", "limited"}) {
    CHECK(!unchecked.kernel(name).run);
    CHECK(bool(unchecked.kernel(name).thread));
  }
  CHECK(unchecked.kernel("limited").max_threads_per_threadgroup == 96);
  CHECK(unchecked.kernel("waits").arguments[0].data_type == 33);

  const Library checked(source, lanes(true));
  CHECK(checked.library->checked == 1);
  for (const char* name : {"plain", "grouped", "waits", "meets", "limited"}) {
    CHECK(!checked.kernel(name).run);
    CHECK(bool(checked.kernel(name).thread));
    CHECK(checked.kernel(name).mode == SOFTMETAL_MODE_THREADGROUPS);
  }
  REQUIRE(checked.library->source_count == 1);
  CHECK(std::string(checked.library->sources[0].name) == "test.metal");
  CHECK(std::string(checked.library->sources[0].text) == source);

  const Library narrow(source);
  CHECK(narrow.library->hooks == nullptr);
  CHECK(!narrow.kernel("meets").thread);
  CHECK(narrow.kernel("meets").execution_width == 1);
}

TEST_CASE("function constants are given before the threads run") {
  for (bool checked : {false, true}) {
    const Library library(std::string(kHead) + R"(
constant bool on [[function_constant(0)]];
constant ushort3 size [[function_constant(1)]];
constant float scale [[function_constant(2)]];
constant float factor = metal::is_function_constant_defined(scale) ? scale : 3.0;
kernel void specialised(device float* x [[buffer(0)]], device float* y [[buffer(1), function_constant(on)]], uint i [[thread_index_in_threadgroup]]) {
  threadgroup_barrier(mem_flags::mem_none);
  x[i] = factor * float(size.y) + (on ? y[i] : 0.0);
})",
                          lanes(checked));
    const SoftmetalKernel& k = library.kernel("specialised");
    REQUIRE(k.constant_count == 3);
    REQUIRE(bool(k.prepare));
    std::vector<float> x(40), y(40, 100.f);
    alignas(16) char block[64] = {};
    const uint16_t size[3] = {1, 7, 3};
    block[k.constants[0].offset] = 1;
    std::memcpy(block + k.constants[1].offset, size, sizeof(size));
    const float scale = 0.5f;
    std::memcpy(block + k.constants[2].offset, &scale, 4);
    for (bool defined : {false, true}) {
      LaneDispatch dispatch(library, "specialised");
      dispatch.constants = block;
      dispatch.constants_defined = defined ? 7 : 3;
      dispatch.buffer(0, x.data(), 40).buffer(1, y.data(), 40).run({40, 1, 1}, {40, 1, 1});
      CHECK(x[39] == (defined ? 103.5f : 121.f));
    }
  }
}

// A compiler that copies or joins the calls by which threads meet gives other sums here.
TEST_CASE("a meeting in the source stays one place in the code") {
  for (bool checked : {false, true}) {
    const Library library(std::string(kHead) + R"(
inline uint twin_a(uint v) { return simd_sum(v); }
inline uint twin_b(uint v) { return simd_sum(v); }
kernel void places(device uint* out [[buffer(0)]], constant uint& n [[buffer(1)]], uint i [[thread_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
  uint v = 1;
  if (lane < 8) v = 2;
  uint all = simd_sum(v);
  if (lane < 8) all += 1000;
  uint split;
  if (lane & 1) split = simd_sum(v); else split = simd_sum(v);
  uint twins;
  if (lane < 4) twins = twin_a(1); else twins = twin_b(1);
  uint loop = 0;
  for (uint r = 0; r < n; ++r) {
    if (lane == r) loop += 1;
    loop += simd_sum(lane < 8 ? 1u : 0u);
    if (lane == r) loop += 1;
  }
  uint last = 0;
  for (uint r = 0; r <= lane % 4; ++r) last = simd_sum(1u);
  out[5 * i] = all; out[5 * i + 1] = split; out[5 * i + 2] = twins; out[5 * i + 3] = loop; out[5 * i + 4] = last;
})",
                          lanes(checked));
    const uint32_t n = 5;
    std::vector<uint32_t> out(5 * 32);
    LaneDispatch dispatch(library, "places");
    dispatch.buffer(0, out.data(), out.size()).value(1, n).run({32, 1, 1}, {32, 1, 1});
    for (uint32_t lane = 0; lane < 32; ++lane) {
      CAPTURE(lane);
      const uint32_t* o = &out[5 * lane];
      CHECK(o[0] == 40 + (lane < 8 ? 1000 : 0));
      CHECK(o[1] == 16 + 4);
      CHECK(o[2] == (lane < 4 ? 4 : 28));
      CHECK(o[3] == 5 * 8 + (lane < 5 ? 2 : 0));
      CHECK(o[4] == 8 * (4 - lane % 4));
    }
  }
}

TEST_CASE("checked code reports its accesses, with lines") {
  const std::string source = std::string(kHead) + R"(struct Block { float v[16]; };
constant uint kTable[4] = {1, 2, 4, 8};
kernel void all(device float* x [[buffer(0)]], const device Block* from [[buffer(1)]], device Block* to [[buffer(2)]],
                device atomic_uint* counter [[buffer(3)]], constant uint& n [[buffer(4)]], uint i [[thread_index_in_threadgroup]]) {
  threadgroup uchar marks[8];
  x[i] = 1.5;
  marks[i] = 3;
  to[i] = from[i];
  atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);
  uint expected = 77;
  atomic_compare_exchange_weak_explicit(counter + 1, &expected, 1u, memory_order_relaxed, memory_order_relaxed);
  float sum = 0;
  for (uint r = 0; r < n; ++r) sum += sin(sum) + float(kTable[r & 3]);
  x[i] += sum;
})";
  const Library library(source, lanes(true));
  std::vector<float> x(2);
  std::vector<std::array<float, 16>> from(2), to(2);
  from[1].fill(7);
  uint32_t counters[2] = {};
  const uint32_t n = 5000;
  LaneDispatch dispatch(library, "all");
  dispatch.buffer(0, x.data(), 2)
      .buffer(1, from.data(), 2)
      .buffer(2, to.data(), 2)
      .buffer(3, counters, 2)
      .value(4, n)
      .run({2, 1, 1}, {2, 1, 1});
  CHECK(to == from);
  CHECK(counters[0] == 2);
  CHECK(counters[1] == 0);
  CHECK(!ticks.empty());

  Dl_info image{};
  REQUIRE(dladdr(reinterpret_cast<const void*>(dispatch.kernel.thread), &image) != 0);
  const softmetal::simt::Lines lines(image.dli_fname);
  // Bytes that were touched with all these bits, within `size` at `start`, and the line that touched them.
  const auto touched = [&](const void* start, size_t size, uint32_t kind, uint32_t line) {
    std::set<const char*> bytes;
    for (const Access& a : accesses) {
      const auto* at = static_cast<const char*>(a.address);
      if (at < start || at >= static_cast<const char*>(start) + size ||
          (a.kind & ~uint32_t{SOFTMETAL_UNALIGNED}) != kind)
        continue;
      const auto pc = reinterpret_cast<uintptr_t>(a.pc) - 1 - reinterpret_cast<uintptr_t>(image.dli_fbase);
      for (const softmetal::simt::Frame& frame : lines.find(pc)) {
        if (frame.file != "test.metal") continue;
        if (frame.line == line)
          for (uint64_t b = 0; b < a.bytes; ++b) bytes.insert(at + b);
        break;
      }
    }
    return bytes.size();
  };
  constexpr uint32_t reads = SOFTMETAL_READS, writes = SOFTMETAL_WRITES, atomic = SOFTMETAL_ATOMIC;
  CHECK(touched(x.data(), 8, writes, 8) == 8);
  CHECK(touched(x.data(), 8, reads, 16) + touched(x.data(), 8, reads | writes, 16) == 8);
  CHECK(touched(dispatch.variables, 4096, writes, 9) == 2);
  CHECK(touched(from.data(), 128, reads, 10) == 128);
  CHECK(touched(to.data(), 128, writes, 10) == 128);
  CHECK(touched(counters, 4, reads | writes | atomic, 11) == 4);
  CHECK(touched(counters + 1, 4, reads | atomic, 13) == 4);
  CHECK(touched(counters + 1, 4, reads | writes | atomic, 13) == 0);
}

TEST_CASE("no byte of any type escapes a check") {
  const std::vector<std::string> types = {
      "char",     "bool",    "short",    "half",         "bfloat",        "float",  "long",   "uchar3",
      "half4",    "float2",  "float3",   "float4",       "packed_float3", "ulong4", "short4", "uchar4",
      "float4x4", "half3x3", "float2x4", "packed_half4", "Nested",        "Tight",  "Bits"};
  std::string source =
      std::string(kHead) +
      "struct Nested { float a[9]; struct { uchar b; half4 c; } d; };\n"
      "struct __attribute__((packed)) Tight { uchar a; float b; ulong c; };\n"
      "struct Bits { uint a : 3, b : 29; };\n"
      "template <typename T> kernel void copy(const device T* from [[buffer(0)]], device T* to "
      "[[buffer(1)]], uint i [[thread_position_in_grid]]) { to[i] = from[i]; }\n";
  for (const std::string& type : types)
    source += "template [[host_name(\"" + type + "\")]] kernel void copy<" + type + ">(const device " + type +
              "*, device " + type + "*, uint);\n";
  const Library library(source, lanes(true));
  for (const std::string& type : types) {
    CAPTURE(type);
    const uint32_t size = library.kernel(type).arguments[0].element_size;
    alignas(64) char from[2 * 128], to[2 * 128] = {};
    for (size_t i = 0; i < sizeof(from); ++i) from[i] = type == "bool" ? 1 : static_cast<char>(i);
    LaneDispatch dispatch(library, type);
    dispatch.buffer(0, from, sizeof(from)).buffer(1, to, sizeof(to)).run({2, 1, 1}, {2, 1, 1});
    std::set<const char*> read, written;
    for (const Access& a : accesses)
      for (uint64_t b = 0; b < a.bytes; ++b) {
        const char* byte = static_cast<const char*>(a.address) + b;
        if (byte >= from && byte < from + 2 * size && (a.kind & SOFTMETAL_READS)) read.insert(byte);
        if (byte >= to && byte < to + 2 * size && (a.kind & SOFTMETAL_WRITES)) written.insert(byte);
      }
    // What was copied was read and written; padding may be left out.
    for (uint32_t i = 0; i < 2 * size; ++i)
      if (to[i] != 0) CHECK((read.count(from + i) && written.count(to + i)));
    CHECK(written.size() >= size);
  }
}

TEST_CASE("sources by their line markers, in memory and in files") {
  const msl::TemporaryDirectory directory;
  const std::string header = directory.file("part.h");
  std::ofstream(header) << "inline float part(float x) { return x; }\n";
  msl::Options o = lanes(true);
  o.include_directories = {directory.path()};
  const Library library(
      "#include <metal_stdlib>\n#include \"part.h\"\n#line 1 \"inner.h\"\n#define N 4\n"
      "inline float inner() { return N; }\n#line 4 \"test.metal\"\n"
      "kernel void k(device float* x [[buffer(0)]]) { x[0] = part(inner()); }\n",
      o);
  std::map<std::string, std::string> sources;
  for (uint32_t i = 0; i < library.library->source_count; ++i)
    sources[library.library->sources[i].name] = library.library->sources[i].text;
  REQUIRE(sources.size() == 3);
  CHECK(sources["inner.h"] == "#define N 4\ninline float inner() { return N; }\n");
  CHECK(
      sources["test.metal"] ==
      "#include <metal_stdlib>\n#include \"part.h\"\n\nkernel void k(device float* x [[buffer(0)]]) { x[0] = "
      "part(inner()); }\n");
  CHECK(sources[header] == "inline float part(float x) { return x; }\n");
}

TEST_CASE("the source sees what Metal's compiler would define") {
  const Library library(R"(
#if !defined(__METAL__) || defined(__SOFTMETAL__) || __SOFTMETAL_SIMT__ != 1
#error "not as on a GPU"
#endif
kernel void k() {})",
                        lanes());
  CHECK(library.size() == 1);
}

TEST_CASE("what a stack cannot hold is refused") {
  const std::string source = std::string(kHead) + R"(
kernel void big(device float* out [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  float a[70000];
  for (uint j = 0; j < 70000; ++j) a[j] = out[j * i];
  threadgroup_barrier(mem_flags::mem_device);
  for (uint j = 0; j < 70000; ++j) out[j * i] = a[j * j % 70000];
})";
  for (bool checked : {false, true}) {
    const std::string log = log_of(source, lanes(checked));
    CAPTURE(log);
    CHECK(has(log, "user.metal:4: error: "));
    CHECK(has(log, " bytes of private memory a thread, at most 163840 are there: use smaller arrays"));
    CHECK(!has(log, "sm_"));
  }
  msl::Options narrow = lanes();
  narrow.width = "any";
  narrow.checked = true;
  CHECK(has(log_of(source, narrow), "checked kernels need SIMD width 32, got 'any'"));
}

TEST_CASE("threadgroup variables where they cannot be") {
  const auto log = [](const std::string& source) { return log_of(kHead + source, lanes()); };
  CHECK(has(log("void f() { threadgroup float x[4]; }"),
            "'x': a threadgroup variable can be declared only in"));
  CHECK(has(log("kernel void k() { threadgroup float x[4] = {1}; }"), "'x' cannot be initialised"));
  CHECK(has(log("kernel void k() { float threadgroup x{1}; }"), "'x' cannot be initialised"));
  CHECK(
      has(log("struct S { threadgroup float x; };"), "a member cannot be in the threadgroup address space"));
  CHECK(has(log("threadgroup float x[4];"), "'x': a threadgroup variable can be declared only in"));
}

TEST_CASE("Metal as it is written") {
  std::vector<msl::Source> sources;
  for (const auto& entry : std::filesystem::directory_iterator(source_root() + "/tests/cpp/msl/breadth"))
    sources.push_back({entry.path(), std::nullopt});
  REQUIRE(sources.size() >= 5);
  for (bool checked : {false, true}) {
    const msl::TemporaryDirectory directory;
    msl::Options o = lanes(checked);
    o.output = directory.file("library.so");
    const msl::Result r = msl::compile(o, sources);
    INFO(r.log);
    CHECK(r.ok);
    CHECK(r.log.empty());
    CHECK(r.kernels.size() > 30);
  }
}
