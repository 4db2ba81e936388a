// Metal source to kernels at run time, and what is kept of it on disk.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <Metal/Metal.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "metalloid/software.h"
#include "softmetal/jit/cache.h"
#include "softmetal/jit/setup.h"
#include "softmetal/jit/sha256.h"
#include "softmetal/msl/process.h"
#include "softmetal/msl/toolchain.h"
#include "softmetal/runtime/softmetal.h"

namespace fs = std::filesystem;
namespace software = metalloid::software;
using softmetal::msl::TemporaryDirectory;

namespace {

NS::String* string(const std::string& text) {
  return NS::String::string(text.c_str(), NS::UTF8StringEncoding);
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

size_t entries(const fs::path& folder) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(folder)) count += entry.path().extension() == ".so";
  return count;
}

// What set_toolchain's function gives, which can hold nothing itself.
software::Toolchain given;

// A folder for everything, a compiler that counts its calls, and a cache. Each test starts from nothing.
class Place {
 public:
  Place()
      : cache(directory_.file("cache")), temporary(directory_.file("tmp")), log_(directory_.file("calls")) {
    softmetal::jit::set_finder(nullptr);
    const softmetal::jit::Setup machine = softmetal::jit::setup();
    REQUIRE_MESSAGE(!machine.compiler.empty(), machine.missing);
    const bool zig = fs::path(machine.compiler[0]).filename() == "zig";
    const std::string script = directory_.file(zig ? "zig-counted" : "counted");
    std::string text = "#!/bin/sh\necho >>'" + log_ + "'\nexec";
    for (const std::string& word : machine.compiler) text += " '" + word + "'";
    write(script, text + " \"$@\"\n");
    fs::permissions(script, fs::perms::owner_all);
    given = {{script}, "", machine.headers, cache};
    fs::create_directory(temporary);
    setenv("TMPDIR", temporary.c_str(), 1);
    apply();
  }
  ~Place() {
    unsetenv("TMPDIR");
    software::set_toolchain(nullptr);
  }

  // After a change of `given`.
  void apply() {
    software::set_toolchain([] { return given; });
  }
  size_t calls() const { return read(log_).size(); }
  std::string file(const std::string& name) const { return directory_.file(name); }
  // The one entry of the cache.
  fs::path entry() const {
    REQUIRE(entries(cache) == 1);
    for (const auto& found : fs::directory_iterator(cache))
      if (found.path().extension() == ".so") return found.path();
    return {};
  }

 private:
  TemporaryDirectory directory_;

 public:
  const std::string cache, temporary;

 private:
  const std::string log_;
};

using Options = NS::SharedPtr<MTL::CompileOptions>;
using Macros = std::vector<std::pair<NS::Object*, NS::Object*>>;

Options options(Macros macros = {}) {
  auto made = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  std::vector<const NS::Object*> keys, values;
  for (const auto& [key, value] : macros) {
    keys.push_back(key);
    values.push_back(value);
  }
  made->setPreprocessorMacros(NS::Dictionary::dictionary(values.data(), keys.data(), keys.size()));
  return made;
}

Options any_width() { return options({{string("METALLOID_SIMD_WIDTH_ANY"), string("1")}}); }

// A device with a queue; 0 is the one for speed, 1 the one that checks.
struct Machine {
  explicit Machine(NS::UInteger index = 0) {
    const auto devices = NS::TransferPtr(MTL::CopyAllDevices());
    REQUIRE(index < devices->count());
    device = NS::RetainPtr(devices->object<MTL::Device>(index));
    queue = NS::TransferPtr(device->newCommandQueue());
  }

  NS::SharedPtr<MTL::Library> compile(const std::string& source, const Options& with = any_width()) {
    NS::Error* failed = nullptr;
    auto library = NS::TransferPtr(device->newLibrary(string(source), with.get(), &failed));
    error = failed ? failed->localizedDescription()->utf8String() : "";
    code = failed ? failed->code() : 0;
    CHECK((library.get() != nullptr) == error.empty());
    return library;
  }
  std::string failure(const std::string& source, const Options& with = any_width()) {
    CHECK(!compile(source, with));
    return error;
  }
  // Runs `kernel(device float* out [[buffer(0)]])` in one threadgroup.
  std::vector<float> run(MTL::Library* library, const char* kernel, size_t threads = 1,
                         const MTL::FunctionConstantValues* constants = nullptr) {
    NS::Error* failed = nullptr;
    auto function = NS::TransferPtr(constants ? library->newFunction(string(kernel), constants, &failed)
                                              : library->newFunction(string(kernel)));
    REQUIRE(function);
    auto state = NS::TransferPtr(device->newComputePipelineState(function.get(), &failed));
    REQUIRE(state);
    auto buffer = NS::TransferPtr(device->newBuffer(threads * 4, MTL::ResourceStorageModeShared));
    auto commands = NS::RetainPtr(queue->commandBuffer());
    auto encoder = NS::RetainPtr(commands->computeCommandEncoder());
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(buffer.get(), 0, 0);
    encoder->dispatchThreads(MTL::Size(threads, 1, 1), MTL::Size(threads, 1, 1));
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    REQUIRE_MESSAGE(commands->status() == MTL::CommandBufferStatusCompleted,
                    commands->error()->localizedDescription()->utf8String());
    const auto* values = static_cast<const float*>(buffer->contents());
    return {values, values + threads};
  }
  float value(const std::string& source, const Options& with = any_width()) {
    auto library = compile(source, with);
    REQUIRE_MESSAGE(library, error);
    return run(library.get(), "k")[0];
  }

  NS::SharedPtr<NS::AutoreleasePool> pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
  NS::SharedPtr<MTL::Device> device;
  NS::SharedPtr<MTL::CommandQueue> queue;
  std::string error;
  NS::Integer code = 0;
};

std::string constant_kernel(const std::string& value) {
  return "#include <metal_stdlib>\nusing namespace metal;\nkernel void k(device float* out [[buffer(0)]]) {\n"
         "  out[0] = " +
         value + ";\n}\n";
}

const char* const kBroken =
    "#include <metal_stdlib>\nkernel void k(device float* out [[buffer(0)]]) {\n  out[0] = nope;\n}\n";

// Runs `body` in a fork of this process; `succeeded` when it returns true.
[[maybe_unused]] pid_t start(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    bool ok = false;
    try {
      ok = body();
    } catch (...) {
    }
    _exit(ok ? 0 : 1);
  }
  return child;
}
bool succeeded(pid_t child) {
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Compiles kernels that give `values`, in a process that starts from nothing. See the test case "in a child".
pid_t start_compiling(const std::vector<int>& values) {
  std::string list;
  for (const int value : values) list += std::to_string(value) + " ";
  const pid_t child = fork();
  if (child == 0) {
    setenv("METALLOID_TEST_VALUES", list.c_str(), 1);
    setenv("METALLOID_CACHE_DIR", given.cache.c_str(), 1);
    setenv("METALLOID_SHADER_CXX", given.compiler[0].c_str(), 1);
    execl("/proc/self/exe", "test", "--test-case=in a child", "--no-skip", "--minimal", nullptr);
    _exit(2);
  }
  return child;
}

// Compiles and runs, in the process it is called in, without doctest's macros, which are the parent's.
bool compiles_to(const std::string& source, float expected) {
  Machine machine;
  NS::Error* error = nullptr;
  auto library = NS::TransferPtr(machine.device->newLibrary(string(source), any_width().get(), &error));
  return library && machine.run(library.get(), "k")[0] == expected;
}

size_t open_files() {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) count += !entry.path().empty();
  return count;
}

}  // namespace

TEST_CASE("SHA-256") {
  using softmetal::jit::Sha256;
  const auto digest = [](const std::string& text, size_t piece) {
    Sha256 hash;
    for (size_t at = 0; at < text.size(); at += piece)
      hash.update(text.data() + at, std::min(piece, text.size() - at));
    return softmetal::jit::hex(hash.digest());
  };
  CHECK(digest("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest("abc", 2) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string many(1000000, 'a');
  for (const size_t piece : {size_t{7}, size_t{63}, size_t{64}, size_t{1000}, many.size()})
    CHECK(digest(many, piece) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("a source becomes kernels") {
  Place place;
  Machine machine;
  auto library = machine.compile(R"(
    #include <metal_stdlib>
    using namespace metal;
    constant float scale [[function_constant(0)]];
    constant bool twice [[function_constant(1)]];
    constant float factor = is_function_constant_defined(twice) && twice ? 2 : 1;
    kernel void a(device float* out [[buffer(0)]], uint i [[thread_position_in_grid]]) { out[i] = i * 3; }
    kernel void b(device float* out [[buffer(0)]]) { out[0] = scale * factor; }
    template <typename T> [[kernel]] void c(device T* out [[buffer(0)]]) { out[0] = T(sqrt(float(16))); }
    template [[host_name("c_float")]] [[kernel]] void c<float>(device float*);
  )");
  REQUIRE_MESSAGE(library, machine.error);
  CHECK(library->functionNames()->count() == 3);
  CHECK(machine.run(library.get(), "a", 5) == std::vector<float>{0, 3, 6, 9, 12});
  CHECK(machine.run(library.get(), "c_float") == std::vector<float>{4});
  auto constants = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
  const float scale = 2.5f;
  constants->setConstantValue(&scale, MTL::DataTypeFloat, NS::UInteger{0});
  CHECK(machine.run(library.get(), "b", 1, constants.get()) == std::vector<float>{2.5f});
  const bool twice = true;
  constants->setConstantValue(&twice, MTL::DataTypeBool, string("twice"));
  CHECK(machine.run(library.get(), "b", 1, constants.get()) == std::vector<float>{5});
}

TEST_CASE("on both devices, threads that meet") {
  Place place;
  const std::string source = R"(
    #include <metal_stdlib>
    using namespace metal;
    kernel void k(device float* out [[buffer(0)]], uint i [[thread_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]], uint n [[threads_per_threadgroup]]) {
      threadgroup float values[64];
      values[i] = i;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      out[i] = values[n - 1 - i] + 100 * simd_sum(lane == 0 ? 1.0f : 0.0f);
    }
  )";
  for (const NS::UInteger which : {0, 1}) {
    CAPTURE(which);
    Machine machine(which);
    for (int round = 0; round < 2; ++round) {
      auto library = machine.compile(source, options());
      REQUIRE_MESSAGE(library, machine.error);
      const std::vector<float> out = machine.run(library.get(), "k", 64);
      for (size_t i = 0; i < 64; ++i) CHECK(out[i] == 100 + static_cast<float>(63 - i));
    }
  }
  CHECK(entries(place.cache) == 2);
}

TEST_CASE("options") {
  Place place;
  Machine machine;

  SUBCASE("macros") {
    const Options with = options({{string("METALLOID_SIMD_WIDTH_ANY"), NS::Number::number(1)},
                                  {string("VALUE"), NS::Number::number(7)},
                                  {string("HALF"), NS::Number::number(0.5)},
                                  {string("EMPTY"), string("")},
                                  {string("ADD(a, b)"), string("((a) + (b))")},
                                  {string("QUOTED"), string("\"x y\"[2]")}});
    CHECK(machine.value(constant_kernel("ADD(VALUE, HALF) EMPTY + (QUOTED == 'y' ? 100 : 0)"), with) ==
          107.5f);
    for (const char* name : {"", "1A", "A B", "A=", "-x", "A\nB", "A(x", "A)"})
      CHECK(has(machine.failure(constant_kernel("1"), options({{string(name), string("1")}})), "macro \""));
    CHECK(has(machine.failure(constant_kernel("1"), options({{NS::Number::number(1), string("1")}})),
              "macro \"1\""));
    CHECK(has(machine.failure(constant_kernel("1"), options({{string("A"), options().get()}})),
              "needs an NS::String or NS::Number"));
    CHECK(has(machine.failure(constant_kernel("1"), options({{string("A"), string("1\n2")}})), "one line"));
  }
  SUBCASE("language version") {
    CHECK(machine.value(constant_kernel("__METAL_VERSION__")) == 320);
    const Options with = any_width();
    with->setLanguageVersion(MTL::LanguageVersion2_4);
    CHECK(machine.value(constant_kernel("__METAL_VERSION__"), with) == 240);
    with->setLanguageVersion(MTL::LanguageVersion4_0);
    CHECK(machine.value(constant_kernel("__METAL_VERSION__"), with) == 400);
    for (const int bad : {0, 1, 65539, 0x50000, 0x30003}) {
      with->setLanguageVersion(static_cast<MTL::LanguageVersion>(bad));
      CHECK(has(machine.failure(constant_kernel("1"), with), "languageVersion"));
    }
  }
  SUBCASE("mathematics") {
    const Options with = any_width();
    CHECK(with->fastMathEnabled());
    CHECK(with->mathMode() == MTL::MathModeFast);
    with->setFastMathEnabled(false);
    CHECK(with->mathMode() == MTL::MathModeSafe);
    CHECK(with->mathFloatingPointFunctions() == MTL::MathFloatingPointFunctionsPrecise);
    // Only reassociation would give 1.
    CHECK(machine.value(constant_kernel("[](float a, float b) { return (a + b) - a; }(out[0] + 1e8f, 1.0f)"),
                        with) == 0);
    CHECK(machine.value(constant_kernel("isnan(out[0] / out[0]) ? 1 : 0")) == 1);
  }
  SUBCASE("others") {
    const Options with = any_width();
    with->setOptimizationLevel(MTL::LibraryOptimizationLevelSize);
    CHECK(with->optimizationLevel() == MTL::LibraryOptimizationLevelSize);
    auto copy = NS::TransferPtr(with->copy());
    CHECK(copy.get() != with.get());
    CHECK(copy->preprocessorMacros()->count() == 1);
    with->setLibraryType(MTL::LibraryTypeDynamic);
    CHECK(copy->libraryType() == MTL::LibraryTypeExecutable);
    CHECK(has(machine.failure(constant_kernel("1"), with), "libraryType"));
    CHECK(machine.code == MTL::LibraryErrorUnsupported);
    // No options are the default ones: 32 lanes.
    NS::Error* error = nullptr;
    CHECK(NS::TransferPtr(machine.device->newLibrary(string(constant_kernel("1")), nullptr, &error)));
  }
}

TEST_CASE("errors") {
  Place place;
  Machine machine;

  SUBCASE("of the source have its file and line") {
    const std::string log = machine.failure(kBroken);
    CHECK(machine.code == MTL::LibraryErrorCompileFailure);
    CHECK_MESSAGE(has(log, "program_source:3: error: "), log);
    CHECK(has(log, "nope"));
    CHECK(!has(log, place.temporary));
    const std::string moved = machine.failure("#line 41 \"mine.metal\"\nint f() { return nope; }\n");
    CHECK_MESSAGE(has(moved, "mine.metal:41: error: "), moved);
    CHECK(has(machine.failure("#error not today\n"), "not today"));
    CHECK(has(machine.failure("#include \"absent.h\"\n"), "absent.h"));
    CHECK(entries(place.cache) == 0);
  }
  SUBCASE("leave no files behind") {
    machine.failure(kBroken);
    machine.value(constant_kernel("1"));
    CHECK(fs::is_empty(place.temporary));
  }
  SUBCASE("no source") {
    NS::Error* error = nullptr;
    CHECK(!machine.device->newLibrary(static_cast<NS::String*>(nullptr), any_width().get(), &error));
    CHECK(has(error->localizedDescription()->utf8String(), "source is null"));
    CHECK(!machine.device->newLibrary(static_cast<NS::String*>(nullptr), nullptr,
                                      static_cast<NS::Error**>(nullptr)));
  }
  SUBCASE("no compiler") {
    given.compiler.clear();
    given.missing = "install something";
    place.apply();
    CHECK(has(machine.failure(constant_kernel("1")), "install something"));
    given.compiler = {"/nonexistent/c++"};
    place.apply();
    CHECK(has(machine.failure(constant_kernel("1")), "/nonexistent/c++"));
    given.compiler = {"/bin/false"};
    place.apply();
    CHECK(has(machine.failure(constant_kernel("1")), "/bin/false"));
  }
  SUBCASE("no temporary directory") {
    setenv("TMPDIR", "/nonexistent", 1);
    CHECK(has(machine.failure(constant_kernel("1")), "temporary directory"));
  }
  SUBCASE("headers that are not there") {
    given.headers = place.temporary;
    place.apply();
    CHECK(!machine.failure(constant_kernel("1")).empty());
  }
}

TEST_CASE("a machine without a compiler says what to install") {
  const char* const named = getenv("METALLOID_SHADER_CXX");
  const std::string compiler = named ? named : "", path = getenv("PATH");
  unsetenv("METALLOID_SHADER_CXX");
  setenv("PATH", "/nonexistent", 1);
  software::set_toolchain(nullptr);
  Machine machine;
  const std::string error = machine.failure(constant_kernel("1"));
  CHECK_MESSAGE(has(error, "pip install 'metalloid[jit]'"), error);
  setenv("PATH", path.c_str(), 1);
  if (named) setenv("METALLOID_SHADER_CXX", compiler.c_str(), 1);
  software::set_toolchain(nullptr);
}

TEST_CASE("what was compiled is kept") {
  Place place;
  Machine machine;
  const std::string source = constant_kernel("11");
  CHECK(machine.value(source) == 11);
  const size_t cold = place.calls();
  CHECK(cold > 0);
  struct stat status;
  REQUIRE(stat(place.cache.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
  REQUIRE(stat(place.entry().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);

  SUBCASE("and loaded again, in any process") {
    CHECK(machine.value(source) == 11);
    place.apply();  // as if nothing were known yet
    CHECK(machine.value(source) == 11);
    CHECK(succeeded(start_compiling({11})));
    CHECK(place.calls() == cold);
    CHECK(entries(place.cache) == 1);
  }
  SUBCASE("but not for other options, sources or headers") {
    Options with = any_width();
    with->setFastMathEnabled(false);
    machine.value(source, with);
    CHECK(entries(place.cache) == 2);
    machine.value(source + " ");
    CHECK(entries(place.cache) == 3);
    with = options({{string("METALLOID_SIMD_WIDTH_ANY"), string("1")}, {string("X"), string("1")}});
    machine.value(source, with);
    CHECK(entries(place.cache) == 4);
    // A compiler that is another file by now, and headers that differ.
    write(given.compiler[0], read(given.compiler[0]) + "\n");
    place.apply();
    machine.value(source);
    CHECK(entries(place.cache) == 5);
    fs::create_directories(place.file("csrc/softmetal"));
    for (const char* part : {"msl", "runtime"})
      fs::copy(given.headers + "/softmetal/" + part, place.file("csrc/softmetal/") + part,
               fs::copy_options::recursive);
    given.headers = place.file("csrc");
    place.apply();
    machine.value(source);
    CHECK(entries(place.cache) == 6);
    write(place.file("csrc/softmetal/msl/stdlib/softmetal_new.h"), "// nothing\n");
    place.apply();
    machine.value(source);
    CHECK(entries(place.cache) == 7);
  }
  SUBCASE("and works on when it is removed") {
    auto library = machine.compile(source);
    fs::remove_all(place.cache);
    CHECK(machine.run(library.get(), "k") == std::vector<float>{11});
    CHECK(machine.value(source) == 11);
    CHECK(entries(place.cache) == 1);
  }
  SUBCASE("unless files are read that might change") {
    const std::string header = place.file("value.h"),
                      with_file = "#include \"" + header + "\"\n" + constant_kernel("VALUE");
    for (const int value : {1, 2}) {
      write(header, "#define VALUE " + std::to_string(value) + "\n");
      CHECK(machine.value(with_file) == static_cast<float>(value));
    }
    CHECK(entries(place.cache) == 1);
  }
}

TEST_CASE("a fault names its line although the file that knows it is gone") {
  Place place;
  SUBCASE("as nothing is kept") { given.cache.clear(); }
  SUBCASE("as the cache is cleared") {}
  place.apply();
  Machine machine(1);
  const std::string source =
      "#include <metal_stdlib>\nkernel void k(device float* out [[buffer(0)]]) {\n  out[7] = 1;\n}\n";
  for (int round = 0; round < 2; ++round) {
    auto library = machine.compile(source, options());
    REQUIRE_MESSAGE(library, machine.error);
    if (round == 1) fs::remove_all(place.cache);  // what was loaded from it by then
    auto function = NS::TransferPtr(library->newFunction(string("k")));
    auto state = NS::TransferPtr(
        machine.device->newComputePipelineState(function.get(), static_cast<NS::Error**>(nullptr)));
    auto buffer = NS::TransferPtr(machine.device->newBuffer(4, MTL::ResourceStorageModeShared));
    auto commands = NS::RetainPtr(machine.queue->commandBuffer());
    auto encoder = NS::RetainPtr(commands->computeCommandEncoder());
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(buffer.get(), 0, 0);
    encoder->dispatchThreads(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    REQUIRE(commands->error());
    const std::string report = commands->error()->localizedDescription()->utf8String();
    CHECK_MESSAGE(has(report, "program_source:3"), report);
    CHECK_MESSAGE(has(report, "out[7] = 1;"), report);
  }
}

TEST_CASE("entries that are not whole or not ours are compiled anew") {
  Place place;
  Machine machine;
  const std::string source = constant_kernel("12");
  CHECK(machine.value(source) == 12);
  const fs::path entry = place.entry();
  const std::string whole = read(entry);
  const size_t cold = place.calls();
  bool replaced = true;

  SUBCASE("empty") { write(entry, ""); }
  SUBCASE("truncated") { write(entry, whole.substr(0, whole.size() / 2)); }
  SUBCASE("without its end") { write(entry, whole.substr(0, whole.size() - 1)); }
  SUBCASE("longer") { write(entry, whole + "x"); }
  SUBCASE("one bit differs") {
    for (const size_t at : {size_t{0}, whole.size() / 3, whole.size() - 1}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 4);
      write(entry, damaged);
      CHECK(machine.value(source) == 12);
      CHECK(read(entry) == whole);
    }
  }
  SUBCASE("something else") { write(entry, std::string(100000, 'x')); }
  SUBCASE("writable by others") { fs::permissions(entry, fs::perms::owner_all | fs::perms::others_write); }
  SUBCASE("a link") {
    fs::rename(entry, place.file("elsewhere.so"));
    fs::create_symlink(place.file("elsewhere.so"), entry);
  }
  SUBCASE("a pipe") {
    fs::remove(entry);
    REQUIRE(mkfifo(entry.c_str(), 0600) == 0);
  }
  SUBCASE("a folder") {
    fs::remove(entry);
    fs::create_directory(entry);
    replaced = false;
  }
  SUBCASE("somebody else's") {
    if (geteuid() != 0) return;
    REQUIRE(chown(entry.c_str(), 65534, 65534) == 0);
  }
  CHECK(machine.value(source) == 12);
  CHECK(place.calls() > cold);
  if (!replaced) return;
  struct stat status;
  REQUIRE(lstat(entry.c_str(), &status) == 0);
  CHECK(S_ISREG(status.st_mode));
  CHECK(status.st_uid == geteuid());
  CHECK((status.st_mode & 0777) == 0600);
  CHECK(read(entry) == whole);
  for (const auto& found : fs::directory_iterator(place.cache))
    CHECK(found.path().filename().string()[0] != '.');
}

TEST_CASE("folders that cannot be trusted or used are done without") {
  Place place;
  Machine machine;
  const auto refused = [&](const std::string& folder, const std::string& why) {
    const softmetal::jit::Cache cache(folder);
    CHECK(!cache.usable());
    CHECK_MESSAGE(has(cache.problem(), why), cache.problem());
    given.cache = folder;
    place.apply();
    CHECK(machine.value(constant_kernel("13")) == 13);
    CHECK(fs::is_empty(place.temporary));
  };

  SUBCASE("none") { refused("", "no folder"); }
  SUBCASE("a file") {
    write(place.cache, "x");
    refused(place.cache, "cannot be opened");
  }
  SUBCASE("below a file") { refused("/dev/null/cache", "cannot be made"); }
  SUBCASE("writable by others") {
    fs::create_directory(place.cache);
    fs::permissions(place.cache, fs::perms::all);
    refused(place.cache, "0700");
    CHECK(fs::is_empty(place.cache));
  }
  SUBCASE("not writable for us") {
    if (geteuid() == 0) return;
    fs::create_directory(place.cache);
    fs::permissions(place.cache, fs::perms::owner_read | fs::perms::owner_exec);
    given.cache = place.cache;
    place.apply();
    CHECK(machine.value(constant_kernel("13")) == 13);
    CHECK(fs::is_empty(place.cache));
  }
  SUBCASE("somebody else's") {
    if (geteuid() != 0) return;
    fs::create_directory(place.cache);
    fs::permissions(place.cache, fs::perms::owner_all);
    REQUIRE(chown(place.cache.c_str(), 65534, 65534) == 0);
    refused(place.cache, "another user");
    CHECK(fs::is_empty(place.cache));
  }
  SUBCASE("somebody else's link to a folder of ours") {
    if (geteuid() != 0) return;
    fs::create_directory(place.file("target"));
    fs::permissions(place.file("target"), fs::perms::owner_all);
    fs::create_directory_symlink(place.file("target"), place.cache);
    REQUIRE(lchown(place.cache.c_str(), 65534, 65534) == 0);
    refused(place.cache, "another user");
    CHECK(fs::is_empty(place.file("target")));
  }
  SUBCASE("our own link leads where it says") {
    fs::create_directory(place.file("target"));
    fs::permissions(place.file("target"), fs::perms::owner_all);
    fs::create_directory_symlink(place.file("target"), place.cache);
    CHECK(machine.value(constant_kernel("13")) == 13);
    CHECK(entries(place.file("target")) == 1);
    const size_t cold = place.calls();
    CHECK(machine.value(constant_kernel("13")) == 13);
    CHECK(place.calls() == cold);
  }
  SUBCASE("parents are made") {
    given.cache = place.file("a/b/c");
    place.apply();
    CHECK(machine.value(constant_kernel("13")) == 13);
    CHECK(entries(given.cache) == 1);
  }
}

TEST_CASE("several threads at once, with the same source and different ones") {
  Place place;
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 6; ++t)
    threads.emplace_back([&, t] {
      for (const int value : {20, 21 + t / 2})
        right += compiles_to(constant_kernel(std::to_string(value)), static_cast<float>(value));
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 12);
  CHECK(entries(place.cache) == 4);
  CHECK(fs::is_empty(place.temporary));
}

TEST_CASE("in a child" * doctest::skip()) {
  std::istringstream values(getenv("METALLOID_TEST_VALUES"));
  for (int value; values >> value;)
    CHECK(compiles_to(constant_kernel(std::to_string(value)), static_cast<float>(value)));
}

TEST_CASE("several processes at once, some of which are killed") {
  Place place;
  std::vector<pid_t> children, victims;
  for (int c = 0; c < 4; ++c) children.push_back(start_compiling({30, 31 + c / 2}));
  for (int c = 0; c < 3; ++c) victims.push_back(start_compiling({30}));
  for (const pid_t victim : victims) {
    usleep(200000);
    kill(victim, SIGKILL);
  }
  for (const pid_t victim : victims) waitpid(victim, nullptr, 0);
  for (const pid_t child : children) CHECK(succeeded(child));
  CHECK(entries(place.cache) == 3);
  const size_t calls = place.calls();
  CHECK(succeeded(start_compiling({30, 31, 32})));
  CHECK(place.calls() == calls);
}

TEST_CASE("what killed writers leave is swept up, what others still write is not") {
  Place place;
  fs::create_directory(place.cache);
  fs::permissions(place.cache, fs::perms::owner_all);
  const fs::path old = fs::path(place.cache) / ".partial-1-0-x",
                 fresh = fs::path(place.cache) / ".partial-2-0-x";
  write(old, "half of it");
  write(fresh, "half of it");
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(2));
  Machine machine;
  CHECK(machine.value(constant_kernel("40")) == 40);
  CHECK(!fs::exists(old));
  CHECK(fs::exists(fresh));
}

TEST_CASE("a compiler that is killed leaves nothing") {
  Place place;
  // Ends itself when asked to link.
  const std::string script = place.file(has(given.compiler[0], "zig-") ? "zig-killed" : "killed");
  write(script,
        "#!/bin/sh\ncase \"$*\" in *-shared*) kill -9 $$;; esac\nexec '" + given.compiler[0] + "' \"$@\"\n");
  fs::permissions(script, fs::perms::owner_all);
  given.compiler = {script};
  place.apply();
  Machine machine;
  CHECK_MESSAGE(has(machine.failure(constant_kernel("41")), "status 137"), machine.error);
  CHECK(fs::is_empty(place.cache));
  CHECK(fs::is_empty(place.temporary));
}

#if !defined(__SANITIZE_THREAD__)  // which does not support it
TEST_CASE("a process forked while others compile can compile too, and holds nobody up") {
  Place place;
  std::atomic<int> right{0};
  std::thread other([&] { right += compiles_to(constant_kernel("50"), 50); });
  usleep(100000);
  // Keeps whatever it inherited open for long.
  const pid_t idle = start([] {
    sleep(60);
    return true;
  });
  const auto begin = std::chrono::steady_clock::now();
  CHECK(succeeded(start([] { return compiles_to(constant_kernel("51"), 51); })));
  other.join();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(50));
  kill(idle, SIGKILL);
  waitpid(idle, nullptr, 0);
  CHECK(right == 1);
}

#endif

TEST_CASE("with a completion handler") {
  Place place;
  Machine machine;
  std::mutex mutex;
  std::condition_variable changed;
  NS::SharedPtr<MTL::Library> library;
  std::string error;
  int done = 0;
  const MTL::NewLibraryCompletionHandlerFunction handler = [&](MTL::Library* made, NS::Error* failed) {
    const std::lock_guard lock(mutex);
    if (made) library = NS::RetainPtr(made);
    if (failed) error = failed->localizedDescription()->utf8String();
    ++done;
    changed.notify_all();
  };
  machine.device->newLibrary(string(constant_kernel("60")), any_width().get(), handler);
  machine.device->newLibrary(string(kBroken), any_width().get(), handler);
  std::unique_lock lock(mutex);
  REQUIRE(changed.wait_for(lock, std::chrono::seconds(120), [&] { return done == 2; }));
  REQUIRE(library);
  CHECK(machine.run(library.get(), "k") == std::vector<float>{60});
  CHECK(has(error, "program_source:3: error: "));
}

TEST_CASE("nothing is left open or alive") {
  Place place;
  Machine machine;
  machine.value(constant_kernel("70"));
  machine.failure(kBroken);
  const auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
  const size_t files = open_files();
  const int64_t objects = softmetal::live_objects();
  for (int round = 0; round < 3; ++round) {
    const auto inner = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    machine.value(constant_kernel("70"));
    machine.failure(kBroken);
  }
  CHECK(open_files() == files);
  CHECK(softmetal::live_objects() == objects);
}
