// What softmetal offers beyond Metal's API, for its own tests and for libraries compiled in the same process.
#pragma once

#include <cstdint>

#include "softmetal/runtime/kernel_abi.h"

namespace NS {
class Error;
}

namespace MTL {
class Device;
class Library;
}  // namespace MTL

namespace softmetal {

// Objects that exist at this moment, constants and the devices themselves aside.
int64_t live_objects();

// A library from tables in memory, which must outlive it. Null and an error when its ABI is not the
// runtime's.
MTL::Library* new_library(MTL::Device* device, const SoftmetalLibrary* table, NS::Error** error);

// OS threads that run kernels: the CPUs available to the process, or METALLOID_NUM_THREADS.
unsigned thread_count();

}  // namespace softmetal
