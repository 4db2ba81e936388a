#include <doctest/doctest.h>

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "softmetal_kernels.h"

using test::Bench;
using test::string;
using test::text;

TEST_CASE("the device reports its limits") {
  Bench bench;
  MTL::Device* device = bench.device.get();
  CHECK(text(device->name()) == "softmetal cpu");
  CHECK(device->maxThreadsPerThreadgroup().width == 1024);
  CHECK(device->maxThreadgroupMemoryLength() == 32768);
  CHECK(device->hasUnifiedMemory());
  CHECK(device->maxBufferLength() > (1u << 28));
  CHECK(device->recommendedMaxWorkingSetSize() <= device->maxBufferLength());
  CHECK(device->supportsFamily(MTL::GPUFamilyApple7));
  CHECK(device->supportsFamily(MTL::GPUFamilyMetal3));
  CHECK_FALSE(device->supportsFamily(MTL::GPUFamilyMetal4));
  auto all = NS::TransferPtr(MTL::CopyAllDevices());
  REQUIRE(all->count() == 2);
  CHECK(all->object<MTL::Device>(0) == device);
  CHECK(text(all->object<MTL::Device>(1)->name()) == "softmetal simt");
  CHECK(all->object<MTL::Device>(1)->registryID() != device->registryID());
}

TEST_CASE("buffers are page aligned and zero") {
  Bench bench;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t length : {size_t{1}, size_t{4096}, size_t{100'000}, size_t{1'000'000}, size_t{5} << 20}) {
    const NS::UInteger before = bench.device->currentAllocatedSize();
    auto buffer = bench.buffer(length);
    CHECK(buffer->length() == length);
    CHECK(buffer->gpuAddress() % page == 0);
    CHECK(buffer->gpuAddress() == reinterpret_cast<uintptr_t>(buffer->contents()));
    const char* bytes = Bench::contents<char>(buffer);
    CHECK(std::all_of(bytes, bytes + length, [](char c) { return c == 0; }));
    CHECK(buffer->allocatedSize() >= length);
    CHECK(bench.device->currentAllocatedSize() == before + buffer->allocatedSize());
    std::memset(buffer->contents(), 255, buffer->allocatedSize());  // the rest of the last page belongs to us
    buffer.reset();
    CHECK(bench.device->currentAllocatedSize() == before);
  }
}

TEST_CASE("buffers are made from bytes, from the caller's pages, or private") {
  Bench bench;
  const float values[] = {1, 2, 3};
  auto copy =
      NS::TransferPtr(bench.device->newBuffer(values, sizeof(values), MTL::ResourceStorageModeShared));
  CHECK(Bench::contents<float>(copy)[2] == 3);

  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* pages = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int freed = 0;
  auto shared = NS::TransferPtr(bench.device->newBuffer(pages, page, MTL::ResourceStorageModeShared,
                                                        [&](void* pointer, NS::UInteger length) {
                                                          CHECK(pointer == pages);
                                                          CHECK(length == page);
                                                          ++freed;
                                                        }));
  REQUIRE(shared);
  CHECK(shared->contents() == pages);
  CHECK(freed == 0);
  shared.reset();
  CHECK(freed == 1);
  char* inside = static_cast<char*>(pages) + 64;
  CHECK(bench.device->newBuffer(inside, page, MTL::ResourceStorageModeShared, nullptr) == nullptr);
  CHECK(bench.device->newBuffer(pages, page - 1, MTL::ResourceStorageModeShared, nullptr) == nullptr);
  munmap(pages, page);

  auto hidden = NS::TransferPtr(bench.device->newBuffer(64, MTL::ResourceStorageModePrivate));
  CHECK(hidden->contents() == nullptr);
  CHECK(hidden->storageMode() == MTL::StorageModePrivate);
  CHECK(hidden->hazardTrackingMode() == MTL::HazardTrackingModeTracked);
  hidden->setLabel(string("a label"));
  CHECK(text(hidden->label()) == "a label");

  CHECK(bench.device->newBuffer(NS::UInteger{0}, MTL::ResourceStorageModeShared) == nullptr);
  CHECK(bench.device->newBuffer(bench.device->maxBufferLength() + 1, MTL::ResourceStorageModeShared) ==
        nullptr);
}

TEST_CASE("a kernel of threads covers its grid exactly once, however it is split") {
  Bench bench;
  auto pipeline = bench.pipeline("axpy");
  for (size_t n : {size_t{1}, size_t{63}, size_t{4097}, size_t{3'000'001}}) {
    auto x = bench.buffer(n * 4), y = bench.buffer((n + 1) * 4);
    std::iota(Bench::contents<float>(x), Bench::contents<float>(x) + n, 0.0f);
    const float a = 2;
    for (int repeat = 1; repeat <= 3; ++repeat) {
      MTL::CommandBuffer* commands = bench.queue->commandBuffer();
      MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
      encoder->setComputePipelineState(pipeline.get());
      encoder->setBuffer(x.get(), 0, 0);
      encoder->setBuffer(y.get(), 4, 1);
      encoder->setBytes(&a, sizeof(a), 2);
      encoder->dispatchThreads(MTL::Size(n, 1, 1), MTL::Size(256, 1, 1));
      encoder->endEncoding();
      commands->commit();
      commands->waitUntilCompleted();
      REQUIRE(commands->status() == MTL::CommandBufferStatusCompleted);
      CHECK(commands->error() == nullptr);
      CHECK(commands->kernelStartTime() > 0);
      CHECK(commands->GPUStartTime() >= commands->kernelStartTime());
      CHECK(commands->GPUEndTime() >= commands->GPUStartTime());
      const float* result = Bench::contents<float>(y);
      size_t wrong = result[0] != 0;
      for (size_t i = 0; i < n; ++i)
        wrong += result[i + 1] != static_cast<float>(2 * repeat) * static_cast<float>(i);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("every threadgroup runs once with threadgroup memory of its own") {
  Bench bench;
  auto pipeline = bench.pipeline("groups");
  CHECK(pipeline->staticThreadgroupMemoryLength() == 16384);
  CHECK(pipeline->maxTotalThreadsPerThreadgroup() == 1);
  CHECK(pipeline->threadExecutionWidth() == 1);
  constexpr uint32_t kCount = 20 * 30 * 7;
  auto out = bench.buffer(kCount * 4);
  MTL::CommandBuffer* commands = bench.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  encoder->setComputePipelineState(pipeline.get());
  encoder->setBuffer(out.get(), 0, 3);
  encoder->setThreadgroupMemoryLength(16384, 1);
  encoder->dispatchThreadgroups(MTL::Size(20, 30, 7), MTL::Size(1, 1, 1));
  encoder->endEncoding();
  commands->commit();
  commands->waitUntilCompleted();
  CHECK(text(commands->error()) == "<no error>");
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < kCount; ++i) wrong += Bench::contents<uint32_t>(out)[i] != i;
  CHECK(wrong == 0);
}

TEST_CASE("an indirect dispatch reads its grid when it runs") {
  Bench bench;
  auto slow = bench.pipeline("slow"), append = bench.pipeline("append");
  auto count = bench.buffer(4), arguments = bench.buffer(64);
  // The command buffer is committed behind an event, so the grid can still be changed.
  auto event = NS::TransferPtr(bench.device->newSharedEvent());
  MTL::CommandBuffer* commands = bench.queue->commandBuffer();
  commands->encodeWait(event.get(), 1);
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  encoder->setComputePipelineState(slow.get());
  encoder->setBuffer(count.get(), 0, 0);
  encoder->dispatchThreadgroups(arguments.get(), 16, MTL::Size(1, 1, 1));
  encoder->dispatchThreadgroups(arguments.get(), 32, MTL::Size(1, 1, 1));
  encoder->endEncoding();
  commands->commit();
  const MTL::DispatchThreadgroupsIndirectArguments grid = {{3, 2, 1}}, none = {{0, 1, 1}};
  std::memcpy(Bench::contents<char>(arguments) + 16, &grid, sizeof(grid));
  std::memcpy(Bench::contents<char>(arguments) + 32, &none, sizeof(none));
  event->setSignaledValue(1);
  commands->waitUntilCompleted();
  CHECK(text(commands->error()) == "<no error>");
  CHECK(*Bench::contents<uint32_t>(count) == 6);
}

TEST_CASE("dispatches of a serial encoder, encoders and command buffers run in order") {
  Bench bench;
  auto state = bench.pipeline("append");
  auto number = bench.buffer(8);
  MTL::CommandBuffer* last = nullptr;
  uint64_t expected = 0;
  for (uint64_t i = 0; i < 3; ++i) {
    last = bench.queue->commandBuffer();
    for (uint64_t k = 0; k < 2; ++k) {
      MTL::ComputeCommandEncoder* encoder = last->computeCommandEncoder();
      for (uint64_t digit = 1; digit <= 3; ++digit) {
        bench.append(encoder, state.get(), number.get(), digit + i + k);
        expected = expected * 10 + digit + i + k;
      }
      encoder->endEncoding();
    }
    last->commit();
  }
  last->waitUntilCompleted();
  CHECK(*Bench::contents<uint64_t>(number) == expected);
}

TEST_CASE("a barrier orders a concurrent encoder") {
  Bench bench;
  auto state = bench.pipeline("append"), axpy = bench.pipeline("axpy");
  auto number = bench.buffer(8);
  constexpr size_t n = 400'000;
  auto x = bench.buffer(n * 4), y = bench.buffer(n * 4), z = bench.buffer(n * 4);
  std::fill_n(Bench::contents<float>(x), n, 1.0f);
  auto* pass = MTL::ComputePassDescriptor::computePassDescriptor();
  pass->setDispatchType(MTL::DispatchTypeConcurrent);
  MTL::CommandBuffer* commands = bench.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(pass);
  CHECK(encoder->dispatchType() == MTL::DispatchTypeConcurrent);
  const float one = 1;
  const auto add = [&](MTL::Buffer* from, MTL::Buffer* to) {
    encoder->setComputePipelineState(axpy.get());
    encoder->setBuffer(from, 0, 0);
    encoder->setBuffer(to, 0, 1);
    encoder->setBytes(&one, sizeof(one), 2);
    encoder->dispatchThreads(MTL::Size(n, 1, 1), MTL::Size(32, 1, 1));
  };
  for (int i = 0; i < 10; ++i) {
    // Two that may overlap, then one that needs both.
    add(x.get(), y.get());
    bench.append(encoder, state.get(), number.get(), 1);
    if (i % 2) {
      encoder->memoryBarrier(MTL::BarrierScopeBuffers);
    } else {
      const MTL::Resource* resources[] = {y.get(), number.get()};
      encoder->memoryBarrier(resources, 2);
    }
    add(y.get(), z.get());
    encoder->memoryBarrier(MTL::BarrierScopeBuffers);
  }
  encoder->endEncoding();
  commands->commit();
  commands->waitUntilCompleted();
  CHECK(text(commands->error()) == "<no error>");
  CHECK(*Bench::contents<uint64_t>(number) == 1111111111);
  const float* result = Bench::contents<float>(z);
  CHECK(std::all_of(result, result + n, [](float v) { return v == 55; }));
}

TEST_CASE("rebinding between dispatches changes only what was rebound") {
  Bench bench;
  auto state = bench.pipeline("append");
  auto numbers = bench.buffer(24);
  MTL::CommandBuffer* commands = bench.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  bench.append(encoder, state.get(), numbers.get(), 4);
  encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
  encoder->setBufferOffset(8, 0);
  encoder->dispatchThreadgroups(MTL::Size(2, 1, 1), MTL::Size(1, 1, 1));
  const uint64_t digit = 7;
  encoder->setBytes(&digit, sizeof(digit), 1);
  const MTL::Buffer* bound[] = {numbers.get()};
  const NS::UInteger offsets[] = {16};
  encoder->setBuffers(bound, offsets, NS::Range(0, 1));
  encoder->dispatchThreadgroups(MTL::Size(3, 1, 1), MTL::Size(1, 1, 1));
  encoder->endEncoding();
  commands->commit();
  commands->waitUntilCompleted();
  CHECK(text(commands->error()) == "<no error>");
  CHECK(Bench::contents<uint64_t>(numbers)[0] == 44);
  CHECK(Bench::contents<uint64_t>(numbers)[1] == 44);
  CHECK(Bench::contents<uint64_t>(numbers)[2] == 777);
}

TEST_CASE("function constants specialise a kernel") {
  Bench bench;
  NS::Error* error = nullptr;
  const auto run = [&](MTL::FunctionConstantValues* values, bool extra) {
    auto function = NS::TransferPtr(bench.library->newFunction(string("constants"), values, &error));
    REQUIRE(function);
    auto pipeline = NS::TransferPtr(bench.device->newComputePipelineState(function.get(), &error));
    REQUIRE(pipeline);
    auto out = bench.buffer(4);
    const float ten = 10;
    MTL::CommandBuffer* commands = bench.queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->setComputePipelineState(pipeline.get());
    encoder->setBuffer(out.get(), 0, 0);
    if (extra) encoder->setBytes(&ten, sizeof(ten), 1);
    encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    CHECK(text(commands->error()) == "<no error>");
    return *Bench::contents<float>(out);
  };
  auto values = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
  const int bias = 3;
  const float scale = 0.25f;
  const bool yes = true;
  values->setConstantValue(&bias, MTL::DataTypeInt, NS::UInteger{0});
  CHECK(run(values.get(), false) == 3.5f);
  values->setConstantValue(&scale, MTL::DataTypeFloat, string("scale"));
  CHECK(run(values.get(), false) == 3.25f);
  values->setConstantValues(&yes, MTL::DataTypeBool, NS::Range(7, 1));
  CHECK(run(values.get(), true) == 13.25f);

  auto function = NS::TransferPtr(bench.library->newFunction(string("constants")));
  REQUIRE(function);
  auto* constant = function->functionConstantsDictionary()->object<MTL::FunctionConstant>(string("scale"));
  REQUIRE(constant);
  CHECK(constant->index() == 3);
  CHECK(constant->type() == MTL::DataTypeFloat);
  CHECK_FALSE(constant->required());

  SUBCASE("a required constant without a value is an error that names it") {
    CHECK(bench.device->newComputePipelineState(function.get(), &error) == nullptr);
    CHECK(text(error) ==
          "newComputePipelineState: kernel \"constants\": function constant \"bias\" (index 0, int) "
          "has no value, needs one");
    values->reset();
    CHECK(bench.library->newFunction(string("constants"), values.get(), &error) == nullptr);
    CHECK(text(error).find("\"bias\" (index 0, int) has no value, needs one") != std::string::npos);
  }
  SUBCASE("so is a value of another type") {
    values->setConstantValue(&scale, MTL::DataTypeFloat, NS::UInteger{0});
    CHECK(bench.library->newFunction(string("constants"), values.get(), &error) == nullptr);
    CHECK(text(error) ==
          "newFunction: kernel \"constants\": function constant \"bias\" (index 0, int) was given a "
          "value of type float");
  }
  SUBCASE("and a function that does not exist") {
    CHECK(bench.library->newFunction(string("missing")) == nullptr);
    CHECK(bench.library->newFunction(string("missing"), values.get(), &error) == nullptr);
    CHECK(text(error) == "newFunction: the library has no function \"missing\"");
    CHECK(error->code() == MTL::LibraryErrorFunctionNotFound);
  }
  SUBCASE("a descriptor gives the function another name") {
    auto* descriptor = MTL::FunctionDescriptor::functionDescriptor();
    descriptor->setName(string("constants"));
    descriptor->setConstantValues(values.get());
    descriptor->setSpecializedName(string("constants_fast"));
    auto special = NS::TransferPtr(bench.library->newFunction(descriptor, &error));
    REQUIRE(special);
    CHECK(text(special->name()) == "constants_fast");
  }
}

static const MTL::ComputePipelineReflection* reflection_of(const Bench& bench, const char* kernel) {
  auto function = NS::TransferPtr(bench.library->newFunction(string(kernel)));
  MTL::ComputePipelineReflection* reflection = nullptr;
  NS::Error* error = nullptr;
  auto pipeline = NS::TransferPtr(bench.device->newComputePipelineState(
      function.get(), MTL::PipelineOptionBindingInfo | MTL::PipelineOptionBufferTypeInfo, &reflection,
      &error));
  REQUIRE(reflection);
  return reflection;
}

TEST_CASE("reflection tells what a kernel takes") {
  Bench bench;
  const MTL::ComputePipelineReflection* reflection = reflection_of(bench, "groups");
  REQUIRE(reflection->bindings()->count() == 2);
  auto* out = reflection->bindings()->object<MTL::BufferBinding>(0);
  CHECK(text(out->name()) == "out");
  CHECK(out->index() == 3);
  CHECK(out->type() == MTL::BindingTypeBuffer);
  CHECK(out->access() == MTL::BindingAccessWriteOnly);
  CHECK(out->isUsed());
  CHECK(out->bufferDataSize() == 4);
  CHECK(out->bufferAlignment() == 4);
  CHECK(out->bufferDataType() == MTL::DataTypeUInt);
  CHECK(out->bufferStructType() == nullptr);
  CHECK(out->bufferPointerType()->elementType() == MTL::DataTypeUInt);
  CHECK(out->bufferPointerType()->elementStructType() == nullptr);
  auto* scratch = reflection->bindings()->object<MTL::ThreadgroupBinding>(1);
  CHECK(scratch->type() == MTL::BindingTypeThreadgroupMemory);
  CHECK(scratch->threadgroupMemoryDataSize() == 4);
  auto* argument = reflection->arguments()->object<MTL::Argument>(0);
  CHECK(argument->type() == MTL::ArgumentTypeBuffer);
  CHECK(argument->isActive());
}

TEST_CASE("reflection has atomics as structs of what they hold") {
  Bench bench;
  const MTL::ComputePipelineReflection* reflection = reflection_of(bench, "slow");
  auto* count = reflection->bindings()->object<MTL::BufferBinding>(0);
  CHECK(count->bufferDataType() == MTL::DataTypeStruct);
  CHECK(count->bufferDataSize() == 4);
  CHECK(count->bufferPointerType()->dataType() == MTL::DataTypePointer);
  CHECK(count->bufferPointerType()->elementType() == MTL::DataTypeStruct);
  auto* argument = reflection->arguments()->object<MTL::Argument>(0);
  CHECK(argument->bufferDataType() == MTL::DataTypeStruct);
  for (MTL::StructType* type : {count->bufferStructType(), count->bufferPointerType()->elementStructType(),
                                argument->bufferStructType()}) {
    REQUIRE(type);
    CHECK(type->dataType() == MTL::DataTypeStruct);
    REQUIRE(type->members()->count() == 1);
    auto* member = type->members()->object<MTL::StructMember>(0);
    CHECK(text(member->name()) == "__s");
    CHECK(member->offset() == 0);
    CHECK(member->dataType() == MTL::DataTypeUInt);
    CHECK(type->memberByName(string("__s")) == member);
    CHECK(type->memberByName(string("s")) == nullptr);
  }
}

TEST_CASE("a pipeline takes the limits of its descriptor") {
  Bench bench;
  auto function = NS::TransferPtr(bench.library->newFunction(string("axpy")));
  auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
  NS::Error* error = nullptr;
  CHECK(bench.device->newComputePipelineState(descriptor.get(), MTL::PipelineOptionNone, nullptr, &error) ==
        nullptr);
  CHECK(text(error).find("computeFunction is null") != std::string::npos);
  descriptor->setComputeFunction(function.get());
  descriptor->setMaxTotalThreadsPerThreadgroup(64);
  descriptor->setLabel(string("a label"));
  auto pipeline = NS::TransferPtr(
      bench.device->newComputePipelineState(descriptor.get(), MTL::PipelineOptionNone, nullptr, &error));
  REQUIRE(pipeline);
  CHECK(pipeline->maxTotalThreadsPerThreadgroup() == 64);
  CHECK(text(pipeline->label()) == "a label");
}

TEST_CASE("a library that cannot be loaded says why") {
  Bench bench;
  NS::Error* error = nullptr;
  const auto directory = std::filesystem::temp_directory_path() / ("softmetal-" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  const std::string path = directory.string();

  CHECK(bench.device->newLibrary(string("/no/such/library"), &error) == nullptr);
  CHECK(text(error) == "newLibrary: \"/no/such/library\" does not exist");
  CHECK(bench.device->newLibrary(NS::URL::fileURLWithPath(string(path.c_str())), &error) == nullptr);
  CHECK(text(error).find("has no library that this CPU can run, needs one of: ") != std::string::npos);

  setenv("METALLOID_ISA", "sparc", 1);
  CHECK(bench.device->newLibrary(string(path.c_str()), &error) == nullptr);
  CHECK(text(error).find("METALLOID_ISA is \"sparc\", needs one that this CPU has: ") != std::string::npos);
  unsetenv("METALLOID_ISA");

  const std::string file = path + "/" + text(bench.device->architecture()->name()) + ".so";
  std::FILE* out = std::fopen(file.c_str(), "w");
  std::fputs("not an object", out);
  std::fclose(out);
  CHECK(bench.device->newLibrary(string(path.c_str()), &error) == nullptr);
  CHECK(text(error).find("cannot load \"" + file + "\"") != std::string::npos);
  std::filesystem::remove_all(directory);

  Dl_info libc;
  REQUIRE(dladdr(reinterpret_cast<void*>(&gnu_get_libc_version), &libc));
  CHECK(bench.device->newLibrary(string(libc.dli_fname), &error) == nullptr);
  CHECK(text(error).find("is not a compiled shader library: it does not export softmetal_library") !=
        std::string::npos);

  SoftmetalLibrary other = test::table;
  other.abi_version += 1;
  CHECK(softmetal::new_library(bench.device.get(), &other, &error) == nullptr);
  CHECK(text(error).find("its ABI version is 5, needs 4") != std::string::npos);
}

TEST_CASE("tables that lack what their kernels need are refused") {
  Bench bench;
  const auto refusal = [&](const SoftmetalKernel& kernel, void (*change)(SoftmetalLibrary&) = nullptr) {
    const SoftmetalUnit unit{&kernel, 1};
    const SoftmetalUnit* const list[] = {&unit};
    SoftmetalLibrary library = test::make_library(list, 1);
    if (change) change(library);
    NS::Error* error = nullptr;
    auto made = NS::TransferPtr(softmetal::new_library(bench.device.get(), &library, &error));
    CHECK((made.get() == nullptr) == (error != nullptr));
    return error ? text(error) : std::string();
  };
  const auto contains = [](const std::string& whole, const char* part) {
    INFO(whole);
    CHECK(whole.find(part) != std::string::npos);
  };
  CHECK(refusal(test::rotate_kernel()).empty());
  CHECK(test::hooks != nullptr);

  SoftmetalKernel kernel = test::rotate_kernel();
  contains(refusal(kernel, [](SoftmetalLibrary& library) { library.hooks = nullptr; }),
           "kernel \"rotate\": its threads wait for each other, needs hooks in the library");
  contains(refusal(kernel, [](SoftmetalLibrary& library) { library.checked = 1; }),
           "it was compiled with checks, device \"softmetal cpu\" needs a library without");
  kernel.thread = nullptr;
  contains(refusal(kernel),
           "kernel \"rotate\" cannot be run: it has no function for one thread, nor for "
           "threadgroups");
  kernel = test::rotate_kernel();
  kernel.mode = SOFTMETAL_MODE_THREADS;
  contains(refusal(kernel), "it has mode 1, needs 0 (threadgroups)");
  kernel = test::rotate_kernel();
  kernel.execution_width = 1;
  contains(refusal(kernel), "it has an execution width of 1, needs 32");
  kernel = test::rotate_kernel();
  kernel.max_threads_per_threadgroup = 2048;
  contains(refusal(kernel), "it allows threadgroups of 2048 threads, needs at most 1024");
}

TEST_CASE("kernels whose threads wait run on all OS threads") {
  Bench bench;
  auto values = NS::TransferPtr(MTL::FunctionConstantValues::alloc()->init());
  const int32_t bias = -7;
  values->setConstantValue(&bias, MTL::DataTypeInt, NS::UInteger{0});
  auto function = NS::TransferPtr(bench.library->newFunction(string("rotate"), values.get(), nullptr));
  REQUIRE(function);
  auto state = NS::TransferPtr(
      bench.device->newComputePipelineState(function.get(), static_cast<NS::Error**>(nullptr)));
  REQUIRE(state);
  CHECK(state->threadExecutionWidth() == 32);
  CHECK(state->maxTotalThreadsPerThreadgroup() == 1024);
  // The last threadgroup is smaller than the others.
  for (const NS::UInteger size : {NS::UInteger{48}, NS::UInteger{256}, NS::UInteger{1024}}) {
    const NS::UInteger threads = 200 * size - 13;
    auto out = bench.buffer(threads * 4);
    MTL::CommandBuffer* commands = bench.queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(out.get(), 0, 0);
    encoder->setThreadgroupMemoryLength(4096, 1);
    encoder->dispatchThreads(MTL::Size(threads, 1, 1), MTL::Size(size, 1, 1));
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    CHECK(commands->status() == MTL::CommandBufferStatusCompleted);
    size_t wrong = 0;
    for (NS::UInteger i = 0; i < threads; ++i) {
      const NS::UInteger group = i / size * size, length = std::min(size, threads - group);
      wrong += Bench::contents<uint32_t>(out)[i] != group + (i - group + 1) % length + 1'000'000 - 7;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("function names are listed") {
  Bench bench;
  NS::Array* names = bench.library->functionNames();
  REQUIRE(names->count() == 7);
  CHECK(text(names->object<NS::String>(0)) == "append");
  CHECK(text(names->object<NS::String>(6)) == "slow");
}

TEST_CASE("a thousand dispatches leave nothing behind") {
  const auto run = [] {
    Bench bench;
    auto state = bench.pipeline("append"), axpy = bench.pipeline("axpy");
    auto event = NS::TransferPtr(bench.device->newSharedEvent());
    for (uint64_t i = 1; i <= 1000; ++i) {
      auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
      auto number = bench.buffer(8);
      auto x = bench.buffer(i % 100 == 0 ? 4 << 20 : 64), y = bench.buffer(x->length());
      MTL::CommandBuffer* commands = bench.queue->commandBuffer();
      MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
      bench.append(encoder, state.get(), number.get(), i);
      const float one = 1;
      encoder->setComputePipelineState(axpy.get());
      encoder->setBuffer(x.get(), 0, 0);
      encoder->setBuffer(y.get(), 0, 1);
      encoder->setBytes(&one, sizeof(one), 2);
      encoder->dispatchThreads(MTL::Size(x->length() / 4, 1, 1), MTL::Size(1, 1, 1));
      if (i % 7 == 0) encoder->setBytes(&one, 5000, 2);  // misuse leaks nothing either
      encoder->endEncoding();
      commands->encodeSignalEvent(event.get(), i);
      if (i % 10 == 0) commands->addCompletedHandler([state](MTL::CommandBuffer*) {});
      if (i % 11 == 0) continue;  // never committed
      commands->commit();
      if (i % 3 == 0) commands->waitUntilCompleted();
      if (i % 10 == 0) commands->waitUntilCompleted();
      if (i % 5 == 0) CHECK(event->waitUntilSignaledValue(i, 10'000));
    }
    MTL::CommandBuffer* last = bench.queue->commandBuffer();
    last->commit();
    last->waitUntilCompleted();
  };
  const auto settled = [] {
    // The thread of the handlers lets go of a command buffer just after it is reported as complete.
    int64_t count = softmetal::live_objects();
    for (int i = 0; i < 100 && softmetal::live_objects() != 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      count = softmetal::live_objects();
    }
    return count;
  };
  const auto device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
  run();
  CHECK(settled() == 0);
  CHECK(device->currentAllocatedSize() == 0);
}
