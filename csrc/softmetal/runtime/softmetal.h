// What softmetal offers beyond Metal's API, for its own tests and for libraries compiled in the same process.
#pragma once

#include <cstdint>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/kernel_abi.h"

namespace softmetal {

// Objects that exist at this moment, constants and the devices themselves aside.
int64_t live_objects();

// Objects that were autoreleased so far on threads of the caller's without a pool, where macOS would leak
// them, and the class of the last.
int64_t unpooled_objects();
const char* last_unpooled_class();

// The next command buffer that is committed ends in this error, and runs nothing. CommandBufferErrorNone
// takes that back.
void fail_next_command_buffer(MTL::CommandBufferError code);

// Whether misuse is looked for that costs time to find: what indirect command buffers use must be resident.
// As MTL_DEBUG_LAYER says until set; unlike that, it does not abort.
void set_validation(bool on);

// Captures have a destination, and leave an empty folder there.
void pretend_captures(bool on);

// A library from tables in memory, which must outlive it. Null and an error when its ABI is not the
// runtime's.
MTL::Library* new_library(MTL::Device* device, const SoftmetalLibrary* table, NS::Error** error);

// OS threads that run kernels: the CPUs available to the process, or METALLOID_NUM_THREADS.
unsigned thread_count();

}  // namespace softmetal
