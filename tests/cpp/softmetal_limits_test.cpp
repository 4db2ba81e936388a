#include <doctest/doctest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "softmetal/runtime/limits.h"
#include "softmetal_kernels.h"

using softmetal::limit_settings;
using softmetal::LimitSettings;
using softmetal::thread_limit;
using test::Bench;
using test::string;
using test::text;

namespace {

constexpr NS::UInteger kMiB = 1 << 20, kGiB = 1 << 30;

NS::UInteger physical_memory() {
  return static_cast<NS::UInteger>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<NS::UInteger>(sysconf(_SC_PAGESIZE));
}

// The limit for a kernel on a device of SIMD width 32, and no complaint.
NS::UInteger limit(const char* rules, const char* kernel) {
  std::string problem;
  const NS::UInteger threads = thread_limit(rules, kernel, 32, &problem);
  CHECK(problem == "");
  return threads;
}

// Sets METALLOID_MAX_THREADS_PER_THREADGROUP for as long as it lives.
struct Rules {
  explicit Rules(const char* rules) { setenv("METALLOID_MAX_THREADS_PER_THREADGROUP", rules, 1); }
  ~Rules() { unsetenv("METALLOID_MAX_THREADS_PER_THREADGROUP"); }
};

NS::SharedPtr<MTL::ComputePipelineState> pipeline(Bench& bench, const char* name, NS::UInteger most,
                                                  NS::Error** error) {
  auto function = NS::TransferPtr(bench.library->newFunction(string(name)));
  auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
  descriptor->setComputeFunction(function.get());
  descriptor->setMaxTotalThreadsPerThreadgroup(most);
  return NS::TransferPtr(
      bench.device->newComputePipelineState(descriptor.get(), MTL::PipelineOptionNone, nullptr, error));
}

void noop(const SoftmetalLaunch*, char*, uint64_t, uint64_t) {}

const SoftmetalArgument constant_byte[] = {
    {"byte", "uchar", 0, MTL::DataTypeUChar, 1, 1, 0, test::kConstant, test::kRead, 0, -1, 0},
    {"bytes", "uchar", 1, MTL::DataTypeUChar, 1, 1, 0, test::kDevice, test::kRead, 0, -1, 0},
};
const SoftmetalFunctionConstant far_constant[] = {{"far", 65536, MTL::DataTypeInt, 0, 4, 1}};

NS::SharedPtr<MTL::Library> library_of(Bench& bench, const SoftmetalKernel& kernel, NS::Error** error) {
  static SoftmetalKernel kept;
  static const SoftmetalUnit unit = {&kept, 1};
  static const SoftmetalUnit* const units[] = {&unit};
  static SoftmetalLibrary table;
  kept = kernel;
  table = test::make_library(units, 1);
  return NS::TransferPtr(softmetal::new_library(bench.device.get(), &table, error));
}

}  // namespace

TEST_CASE("a GPU family is named, or the complaint lists the names") {
  const NS::UInteger memory = physical_memory();
  for (const char* none : {static_cast<const char*>(nullptr), ""}) {
    const LimitSettings settings = limit_settings(none, none);
    CHECK(settings.family == nullptr);
    CHECK(settings.max_buffer_length == memory);
    CHECK(settings.problem == "");
  }
  for (const char* name : {"apple7", "apple8", "apple9"}) {
    const LimitSettings settings = limit_settings(name, nullptr);
    REQUIRE(settings.family);
    CHECK(std::string(settings.family->name) == name);
    CHECK(settings.max_buffer_length == std::min(memory, 4 * kGiB));
  }
  CHECK(limit_settings("apple10", nullptr).max_buffer_length == std::min(memory, 8 * kGiB));
  for (const char* unknown : {"apple6", "apple11", "Apple7", "m1", "apple"}) {
    const LimitSettings settings = limit_settings(unknown, "64M");
    CHECK(settings.family == nullptr);
    CHECK(settings.max_buffer_length == memory);
    CHECK(settings.problem == "METALLOID_GPU_FAMILY is \"" + std::string(unknown) +
                                  "\", needs one of: apple7, apple8, apple9, apple10 (or not to be set)");
  }
}

TEST_CASE("the longest buffer is a number of bytes, in whole pages") {
  const auto length = [](const char* text) { return limit_settings(nullptr, text).max_buffer_length; };
  CHECK(length("65536") == 65536);
  CHECK(length("64K") == 65536);
  CHECK(length(" 3M ") == 3 * kMiB);
  CHECK(length("100000") == 65536);
  CHECK(length("1G") == std::min(kGiB, physical_memory()));
  CHECK(length("1000000G") == physical_memory());
  // It is stated for the machine, so it goes before what the family's smallest one has.
  CHECK(limit_settings("apple7", "5G").max_buffer_length == std::min(5 * kGiB, physical_memory()));
  for (const char* wrong :
       {"0", "65535", "-1", "1.5G", "big", "G", "64k", "99999999999G", "64 M", "0x10000"}) {
    CAPTURE(wrong);
    const LimitSettings settings = limit_settings("apple7", wrong);
    CHECK(settings.problem.find("METALLOID_MAX_BUFFER_LENGTH is \"" + std::string(wrong) +
                                "\", needs a number of bytes, at least 65536") == 0);
    CHECK(settings.max_buffer_length == physical_memory());
    CHECK(settings.family == nullptr);
  }
}

TEST_CASE("a device answers for families as a GPU of the imitated one does") {
  const auto has = [](const char* imitated, MTL::GPUFamily family) {
    return softmetal::supports_family(limit_settings(imitated, nullptr).family, family);
  };
  using namespace MTL;
  for (const char* name : {"apple7", "apple8", "apple9", "apple10"}) {
    CAPTURE(name);
    const int number = std::atoi(name + 5);
    for (int n = 1; n <= 10; ++n) CHECK(has(name, GPUFamily(GPUFamilyApple1 + n - 1)) == (n <= number));
    for (GPUFamily family : {GPUFamilyMac2, GPUFamilyCommon1, GPUFamilyCommon3, GPUFamilyMetal3})
      CHECK(has(name, family));
    CHECK_FALSE(has(name, GPUFamilyMetal4));
    CHECK_FALSE(has(name, GPUFamilyMacCatalyst2));
  }
  CHECK(has(nullptr, GPUFamilyApple9));
  CHECK_FALSE(has(nullptr, GPUFamilyApple10));
  CHECK_FALSE(has(nullptr, GPUFamilyMac2));
}

TEST_CASE("threads are limited kernel by kernel") {
  CHECK(limit(nullptr, "add_f32") == 0);
  CHECK(limit("", "add_f32") == 0);
  CHECK(limit("96", "add_f32") == 96);
  CHECK(limit("100", "add_f32") == 96);  // whole SIMD-groups
  CHECK(limit("1", "add_f32") == 32);    // at least one
  CHECK(limit("rms_norm_f32=384,*=768", "rms_norm_f32") == 384);
  CHECK(limit("rms_norm_f32=384,*=768", "rms_norm_f16") == 768);
  CHECK(limit("*=768,rms_norm_f32=384", "rms_norm_f32") == 768);  // the first that fits
  CHECK(limit(" rms_norm_* = 384 , *_f16=64", "rms_norm_f16") == 384);
  CHECK(limit("rms_norm_*=384,*_f16=64", "add_f16") == 64);
  CHECK(limit("rms_norm_*=384,*_f16=64", "add_f32") == 0);
  CHECK(limit("*norm*f*2=64", "rms_norm_mul_f16_f32") == 64);
  CHECK(limit("*norm*f*2=64", "rms_norm_mul_f32_f16") == 0);
  CHECK(limit("add=64", "add_f32") == 0);
  for (const char* wrong :
       {"abc", "0", "-1", "add_f32", "add_f32=", "=64", "add_f32=64,", "add_f32=64,128", "128,add_f32=64",
        "1 2", "add_f32=6x", "add_f32=64,,*=32", "12345678901234567890123"}) {
    CAPTURE(wrong);
    std::string problem;
    // A good rule that comes first does not hide a bad one.
    CHECK(thread_limit(wrong, "add_f32", 32, &problem) == 0);
    CHECK(problem == "METALLOID_MAX_THREADS_PER_THREADGROUP is \"" + std::string(wrong) +
                         "\", needs a number of threads, at least 1, or rules such as "
                         "\"rms_norm_f32=384,*=768\"");
  }
}

TEST_CASE("a pipeline takes the least of all limits, and refuses more threads") {
  Bench bench;
  NS::Error* error = nullptr;
  {
    Rules rules("axpy=96,*=64");
    CHECK(pipeline(bench, "axpy", 0, &error)->maxTotalThreadsPerThreadgroup() == 96);
    CHECK(pipeline(bench, "axpy", 32, &error)->maxTotalThreadsPerThreadgroup() == 32);
    CHECK(pipeline(bench, "axpy", 1024, &error)->maxTotalThreadsPerThreadgroup() == 96);
    CHECK(pipeline(bench, "append", 0, &error)->maxTotalThreadsPerThreadgroup() == 1);  // the kernel's own
  }
  CHECK(pipeline(bench, "axpy", 0, &error)->maxTotalThreadsPerThreadgroup() == 1024);
  CHECK(pipeline(bench, "axpy", 1025, &error).get() == nullptr);
  CHECK(text(error).find("maxTotalThreadsPerThreadgroup is 1025, needs at most 1024") != std::string::npos);
  {
    Rules rules("axpy");
    CHECK(pipeline(bench, "axpy", 0, &error).get() == nullptr);
    CHECK(text(error).find("newComputePipelineState: METALLOID_MAX_THREADS_PER_THREADGROUP is \"axpy\"") ==
          0);
  }

  Rules rules("96");
  auto limited = pipeline(bench, "axpy", 0, &error);
  auto x = bench.buffer(4096);
  MTL::CommandBuffer* commands = bench.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  const float one = 1;
  encoder->setComputePipelineState(limited.get());
  encoder->setBuffer(x.get(), 0, 0);
  encoder->setBuffer(x.get(), 0, 1);
  encoder->setBytes(&one, 4, 2);
  encoder->dispatchThreads(MTL::Size(256, 1, 1), MTL::Size(97, 1, 1));
  encoder->endEncoding();
  commands->commit();
  commands->waitUntilCompleted();
  CHECK(text(commands->error()).find("97x1x1 = 97 threads, needs at most 96 (the pipeline's limit)") !=
        std::string::npos);
}

TEST_CASE("constant data starts on four bytes, other data on its own alignment") {
  Bench bench;
  auto library =
      library_of(bench, test::kernel("bytes", noop, SOFTMETAL_MODE_THREADS, 64, constant_byte), nullptr);
  auto function = NS::TransferPtr(library->newFunction(string("bytes")));
  auto state = NS::TransferPtr(
      bench.device->newComputePipelineState(function.get(), static_cast<NS::Error**>(nullptr)));
  auto buffer = bench.buffer(64);
  const auto error_of = [&](NS::UInteger constant, NS::UInteger device) {
    MTL::CommandBuffer* commands = bench.queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(buffer.get(), constant, 0);
    encoder->setBuffer(buffer.get(), device, 1);
    encoder->dispatchThreads(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    return text(commands->error());
  };
  CHECK(error_of(4, 3) == "<no error>");
  for (NS::UInteger offset : {1, 2, 3, 6})
    CHECK(error_of(offset, 0).find("\"byte\" (index 0) has offset " + std::to_string(offset) +
                                   ", needs a multiple of 4 (uchar)") != std::string::npos);
}

TEST_CASE("function constants are numbered below 65536") {
  Bench bench;
  NS::Error* error = nullptr;
  const SoftmetalKernel kernel = test::with_constants(
      test::kernel("far", noop, SOFTMETAL_MODE_THREADS, 64, constant_byte), far_constant, 4);
  CHECK(library_of(bench, kernel, &error).get() == nullptr);
  CHECK(text(error).find("function constant \"far\" has index 65536, needs at most 65535") !=
        std::string::npos);
}

TEST_CASE("no form of newBuffer goes past the longest buffer") {
  Bench bench;
  const NS::UInteger most = bench.device->maxBufferLength();
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* pages = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const NS::UInteger over = most / page * page + page;
  CHECK(bench.device->newBuffer(over, MTL::ResourceStorageModeShared) == nullptr);
  CHECK(bench.device->newBuffer(pages, over, MTL::ResourceStorageModeShared) == nullptr);
  CHECK(bench.device->newBuffer(pages, over, MTL::ResourceStorageModeShared, nullptr) == nullptr);
  munmap(pages, page);
}
