// What Apple's GPUs take at most, by Apple's Metal Feature Set Tables, and which of them a process imitates.
#pragma once

#include <string>
#include <string_view>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/kernel_abi.h"

namespace softmetal {

// The tables give the same numbers for Apple7 to Apple10, so they hold whether one is imitated or not.
constexpr NS::UInteger kMaxThreadgroupMemory = 32 * 1024;  // fits the 16 bits of Dispatch
constexpr NS::UInteger kThreadgroupMemoryAlignment = 16;   // of the length of an argument
constexpr NS::UInteger kMaxThreadgroupSide = 1024;         // and threads in all
constexpr NS::UInteger kMaxBytes = 4096;                   // setBytes
constexpr NS::UInteger kMaxFunctionConstants = 65536;
constexpr NS::UInteger kMaxIndirectCommands = 16384;
// Where constant data may start in a buffer. A GPU of the family Mac2 and of none of Apple's needs 32.
constexpr uint32_t kConstantAlignment = 4;
// Entries of the table of buffers, and of that of threadgroup memory.
static_assert(SOFTMETAL_MAX_BUFFERS == 31);

// Of this machine, in bytes.
NS::UInteger physical_memory();

// What differs between families.
struct GpuFamily {
  const char* name;
  MTL::GPUFamily newest;  // it has those before it, too
  uint32_t features;      // bits of SoftmetalFeature
  // The tables leave this to the machine. Here: half the memory of the smallest Mac that has such a GPU,
  // which is less than that Mac reports.
  NS::UInteger max_buffer_length;
};

struct LimitSettings {
  const GpuFamily* family = nullptr;  // null: none is imitated
  NS::UInteger max_buffer_length = 0;
  std::string problem;  // what is wrong with the texts; then the rest is as if nothing were set
};

// The values of METALLOID_GPU_FAMILY ("apple8") and METALLOID_MAX_BUFFER_LENGTH (a number of bytes, or of
// KiB, MiB or GiB with K, M or G behind it); null or empty: not set.
LimitSettings limit_settings(const char* family, const char* max_buffer_length);
// What the environment said when this was first called.
const LimitSettings& limit_settings();

// What METALLOID_MAX_THREADS_PER_THREADGROUP allows a kernel: a number for all, or rules "NAME=NUMBER" with
// commas between them, of which the first that fits the name holds; * in it stands for any text. Whole
// SIMD-groups, and at least one. 0: as many as the kernel likes. `problem` gets what is wrong with the text.
NS::UInteger thread_limit(const char* rules, std::string_view kernel, NS::UInteger width,
                          std::string* problem);
// The same for the environment's text as it is now.
NS::UInteger thread_limit(std::string_view kernel, NS::UInteger width, std::string* problem);

// Whether METALLOID_NO_PIPELINE, a list such as "gated_*,*_bf16*", names the kernel: the device is to be one
// that cannot run it.
bool lacks_kernel(std::string_view kernel);

// What is wrong with the settings in the environment; empty: nothing.
std::string limits_problem();

// Whether a GPU of the imitated family, or the device as it is where that is null, answers that it has
// another.
bool supports_family(const GpuFamily* imitated, MTL::GPUFamily family);

}  // namespace softmetal
