// What softmetal offers beyond Metal's API, for its own tests and for libraries compiled in the same process.
#pragma once

#include <chrono>
#include <cstdint>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/kernel_abi.h"

namespace softmetal {

// Objects that exist at this moment, constants and the devices themselves aside.
int64_t live_objects();

// Objects that were autoreleased so far on threads of the caller's without a pool, where macOS would leak
// them, and calls there that may autorelease something on macOS; and the class or the call of the last.
int64_t unpooled_objects();
const char* last_unpooled_class();

// The next command buffer that is committed ends in this error, and runs nothing. CommandBufferErrorNone
// takes that back.
void fail_next_command_buffer(MTL::CommandBufferError code);

// How long after the last of its commands a command buffer tells how it ended, 0 to begin with. On macOS the
// value of a shared event can be seen before.
void delay_status(std::chrono::milliseconds delay);

// Whether misuse is looked for that costs time to find, or may be none: what indirect command buffers use
// must be resident, and lengths of threadgroup memory count for kernels without the argument, too. As
// MTL_DEBUG_LAYER says until set; unlike that, it does not abort.
void set_validation(bool on);

// Captures have a destination, and leave an empty folder there.
void pretend_captures(bool on);

// A library from tables in memory, which must outlive it. Null and an error when its ABI is not the
// runtime's.
MTL::Library* new_library(MTL::Device* device, const SoftmetalLibrary* table, NS::Error** error);

// OS threads that run kernels: the CPUs available to the process, or METALLOID_NUM_THREADS.
unsigned thread_count();

}  // namespace softmetal
