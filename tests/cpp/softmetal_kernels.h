// Kernels written by hand against the binary contract, for testing the runtime without the shader compiler.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <iterator>
#include <string>
#include <thread>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/kernel_abi.h"
#include "softmetal/runtime/softmetal.h"

namespace test {

// y = a * x + y over the threads of the grid.
inline void axpy(const SoftmetalLaunch* launch, char*, uint64_t begin, uint64_t end) {
  const auto* x = static_cast<const float*>(launch->buffers[0]);
  auto* y = static_cast<float*>(launch->buffers[1]);
  const float a = *static_cast<const float*>(launch->buffers[2]);
  for (uint64_t i = begin; i < end; ++i) y[i] += a * x[i];
}

// Each threadgroup writes its number, after passing it through its threadgroup memory.
inline void groups(const SoftmetalLaunch* launch, char* memory, uint64_t begin, uint64_t end) {
  auto* out = static_cast<uint32_t*>(launch->buffers[3]);
  auto* scratch = reinterpret_cast<uint32_t*>(memory + launch->threadgroup_offsets[1]);
  const uint32_t length = launch->threadgroup_bytes[1] / 4;
  for (uint64_t g = begin; g < end; ++g) {
    for (uint32_t i = 0; i < length; ++i) scratch[i] = static_cast<uint32_t>(g) + i;
    out[g] = scratch[length - 1] - (length - 1);
  }
}

inline void nothing(const SoftmetalLaunch*, char*, uint64_t, uint64_t) {}

// Counts the units it is given, slowly.
inline void slow(const SoftmetalLaunch* launch, char*, uint64_t begin, uint64_t end) {
  auto* count = static_cast<uint32_t*>(launch->buffers[0]);
  for (uint64_t i = begin; i < end; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
  }
}

// Appends a digit, so that any other order gives another number.
inline void append(const SoftmetalLaunch* launch, char*, uint64_t begin, uint64_t end) {
  auto* number = static_cast<uint64_t*>(launch->buffers[0]);
  const auto digit = *static_cast<const uint64_t*>(launch->buffers[1]);
  for (uint64_t i = begin; i < end; ++i) *number = *number * 10 + digit;
}

struct Constants {
  int32_t bias;
  float scale;
  bool has_extra;
};
inline void constants(const SoftmetalLaunch* launch, char*, uint64_t, uint64_t) {
  auto* out = static_cast<float*>(launch->buffers[0]);
  const auto& values = *static_cast<const Constants*>(launch->constants);
  out[0] = static_cast<float>(values.bias) + (launch->constants_defined & 2 ? values.scale : 0.5f);
  if (launch->constants_defined & 4 && values.has_extra)
    out[0] += *static_cast<const float*>(launch->buffers[1]);
}

constexpr uint32_t kFloat = MTL::DataTypeFloat, kUInt = MTL::DataTypeUInt, kULong = MTL::DataTypeULong;
constexpr uint8_t kDevice = SOFTMETAL_SPACE_DEVICE, kConstant = SOFTMETAL_SPACE_CONSTANT;
constexpr uint8_t kRead = SOFTMETAL_ACCESS_READ, kReadWrite = SOFTMETAL_ACCESS_READ_WRITE,
                  kWrite = SOFTMETAL_ACCESS_WRITE;

inline const SoftmetalArgument axpy_arguments[] = {
    {"x", "float", 0, kFloat, 4, 4, 0, kDevice, kRead, 0, -1, 0},
    {"y", "float", 1, kFloat, 4, 4, 0, kDevice, kReadWrite, 0, -1, 0},
    {"a", "float", 2, kFloat, 4, 4, 0, kConstant, kRead, 1, -1, 0},
};
inline const SoftmetalArgument groups_arguments[] = {
    {"out", "uint", 3, kUInt, 4, 4, 0, kDevice, kWrite, 0, -1, 0},
    {"scratch", "uint", 1, kUInt, 4, 4, SOFTMETAL_ARGUMENT_THREADGROUP, SOFTMETAL_SPACE_THREADGROUP,
     kReadWrite, 0, -1, 0},
};
inline const SoftmetalArgument slow_arguments[] = {
    {"count", "atomic_uint", 0, kUInt, 4, 4, 0, kDevice, kReadWrite, 0, -1, SOFTMETAL_ARGUMENT_ATOMIC},
};
inline const SoftmetalArgument append_arguments[] = {
    {"number", "ulong", 0, kULong, 8, 8, 0, kDevice, kReadWrite, 0, -1, 0},
    {"digit", "ulong", 1, kULong, 8, 8, 0, kConstant, kRead, 1, -1, 0},
};
inline const SoftmetalArgument constants_arguments[] = {
    {"out", "float", 0, kFloat, 4, 4, 0, kDevice, kWrite, 0, -1, 0},
    {"extra", "float", 1, kFloat, 4, 4, 0, kConstant, kRead, 1, 2, 0},
};
inline const SoftmetalFunctionConstant constants_constants[] = {
    {"bias", 0, MTL::DataTypeInt, offsetof(Constants, bias), 4, 1},
    {"scale", 3, MTL::DataTypeFloat, offsetof(Constants, scale), 4, 0},
    {"has_extra", 7, MTL::DataTypeBool, offsetof(Constants, has_extra), 1, 0},
};

template <size_t N>
constexpr SoftmetalKernel kernel(const char* name, SoftmetalRun run, SoftmetalMode mode, uint32_t max_threads,
                                 const SoftmetalArgument (&arguments)[N]) {
  SoftmetalKernel made{};
  made.name = name;
  made.run = run;
  made.mode = mode;
  made.execution_width = 1;
  made.max_threads_per_threadgroup = max_threads;
  made.arguments = arguments;
  made.argument_count = N;
  made.source_file = "test.metal";
  return made;
}
constexpr SoftmetalKernel with_memory(SoftmetalKernel made, uint32_t bytes) {
  made.static_threadgroup_bytes = bytes;
  return made;
}
template <size_t N>
constexpr SoftmetalKernel with_constants(SoftmetalKernel made,
                                         const SoftmetalFunctionConstant (&constants)[N], uint32_t bytes) {
  made.constants = constants;
  made.constant_count = N;
  made.constants_bytes = bytes;
  return made;
}
constexpr SoftmetalKernel without_arguments(SoftmetalKernel made) {
  made.arguments = nullptr;
  made.argument_count = 0;
  return made;
}
// Instead of `run`: one function call for each GPU thread.
constexpr SoftmetalKernel by_threads(SoftmetalKernel made, SoftmetalThreadRun thread) {
  made.thread = thread;
  made.execution_width = SOFTMETAL_LANES;
  return made;
}

// Set by the runtime when a library of kernels that wait is loaded.
inline const SoftmetalHooks* hooks = nullptr;

// Each thread writes the number that its neighbour in the threadgroup left in threadgroup memory: as a
// variable, or as argument 1.
inline thread_local int32_t rotate_bias = 0;
inline void prepare_rotate(const SoftmetalLaunch* launch) {
  rotate_bias = *static_cast<const int32_t*>(launch->constants);
}
inline void rotate(const SoftmetalThread* thread) {
  const uint32_t i = thread->thread_index_in_threadgroup, n = thread->threads_per_threadgroup[0];
  auto* argument = reinterpret_cast<uint32_t*>(thread->arguments + thread->launch->threadgroup_offsets[1]);
  auto* variable = reinterpret_cast<uint32_t*>(thread->variables);
  const uint32_t at = thread->threadgroup_position_in_grid[0] * thread->launch->threads_per_threadgroup[0];
  argument[i] = at + i;
  variable[i] = 1'000'000;
  hooks->barrier(SOFTMETAL_SCOPE_THREADGROUP, 2, __builtin_return_address(0));
  static_cast<uint32_t*>(thread->launch->buffers[0])[at + i] =
      argument[(i + 1) % n] + variable[(i + 1) % n] + static_cast<uint32_t>(rotate_bias);
}
inline const SoftmetalArgument rotate_arguments[] = {
    {"out", "uint", 0, kUInt, 4, 4, 0, kDevice, kWrite, 0, -1, 0},
    {"scratch", "uint", 1, kUInt, 4, 4, SOFTMETAL_ARGUMENT_THREADGROUP, SOFTMETAL_SPACE_THREADGROUP,
     kReadWrite, 0, -1, 0},
};
inline const SoftmetalFunctionConstant rotate_constants[] = {{"bias", 0, MTL::DataTypeInt, 0, 4, 1}};
inline SoftmetalKernel rotate_kernel() {
  SoftmetalKernel made = with_constants(
      with_memory(
          by_threads(kernel("rotate", nullptr, SOFTMETAL_MODE_THREADGROUPS, 1024, rotate_arguments), rotate),
          4096),
      rotate_constants, 4);
  made.prepare = prepare_rotate;
  return made;
}

inline const SoftmetalKernel kernels[] = {
    kernel("axpy", axpy, SOFTMETAL_MODE_THREADS, 1024, axpy_arguments),
    with_memory(kernel("groups", groups, SOFTMETAL_MODE_THREADGROUPS, 1, groups_arguments), 16384),
    without_arguments(kernel("nothing", nothing, SOFTMETAL_MODE_THREADGROUPS, 64, axpy_arguments)),
    kernel("slow", slow, SOFTMETAL_MODE_THREADGROUPS, 1, slow_arguments),
    kernel("append", append, SOFTMETAL_MODE_THREADGROUPS, 1, append_arguments),
    with_constants(kernel("constants", constants, SOFTMETAL_MODE_THREADGROUPS, 1, constants_arguments),
                   constants_constants, sizeof(Constants)),
    rotate_kernel(),
};
inline const SoftmetalUnit unit = {kernels, std::size(kernels)};
inline const SoftmetalUnit* const units[] = {&unit};

inline SoftmetalLibrary make_library(const SoftmetalUnit* const* list, uint32_t count) {
  SoftmetalLibrary made{};
  made.abi_version = SOFTMETAL_ABI_VERSION;
  made.isa = "test";
  made.compiler = "by hand";
  made.units = list;
  made.unit_count = count;
  made.hooks = &hooks;
  return made;
}
inline const SoftmetalLibrary table = make_library(units, 1);

inline NS::String* string(const char* text) { return NS::String::string(text, NS::UTF8StringEncoding); }
inline std::string text(const NS::String* string) { return string ? string->utf8String() : "<null>"; }
inline std::string text(const NS::Error* error) {
  return error ? error->localizedDescription()->utf8String() : "<no error>";
}

// A device, a queue and the kernels above.
struct Bench {
  NS::SharedPtr<NS::AutoreleasePool> pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
  NS::SharedPtr<MTL::Device> device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
  NS::SharedPtr<MTL::CommandQueue> queue = NS::TransferPtr(device->newCommandQueue());
  NS::SharedPtr<MTL::Library> library =
      NS::TransferPtr(softmetal::new_library(device.get(), &table, nullptr));

  NS::SharedPtr<MTL::ComputePipelineState> pipeline(const char* name) {
    auto function = NS::TransferPtr(library->newFunction(string(name)));
    return NS::TransferPtr(
        device->newComputePipelineState(function.get(), static_cast<NS::Error**>(nullptr)));
  }
  NS::SharedPtr<MTL::Buffer> buffer(size_t bytes) {
    return NS::TransferPtr(device->newBuffer(bytes, MTL::ResourceStorageModeShared));
  }
  template <class T>
  static T* contents(const NS::SharedPtr<MTL::Buffer>& buffer) {
    return static_cast<T*>(buffer->contents());
  }
  // Encodes "append `digit`".
  void append(MTL::ComputeCommandEncoder* encoder, MTL::ComputePipelineState* state, MTL::Buffer* number,
              uint64_t digit) {
    encoder->setComputePipelineState(state);
    encoder->setBuffer(number, 0, 0);
    encoder->setBytes(&digit, sizeof(digit), 1);
    encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
  }
};

}  // namespace test
