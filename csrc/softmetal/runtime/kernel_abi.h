// The binary contract between a compiled shader library (a shared object that
// the shader compiler produced) and the runtime that loads it. Emitted kernel
// sources include this file too, so it needs nothing but the fixed-width types.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SOFTMETAL_ABI_VERSION 1u
#define SOFTMETAL_MAX_BUFFERS 31u
#define SOFTMETAL_LIBRARY_SYMBOL "softmetal_library"

extern "C" {

// What one dispatch gives to a kernel. Everything here is shared by all OS threads
// that run the dispatch and is read-only while it runs.
struct SoftmetalLaunch {
  void* const* buffers;                 // [31] address of the first bound byte, null when unbound
  const uint64_t* buffer_bytes;         // [31] bytes from that address to the end of the buffer
  const uint32_t* threadgroup_offsets;  // [31] place of each [[threadgroup(n)]] argument, 16-byte aligned
  const uint32_t* threadgroup_bytes;    // [31] its length
  const void* constants;                // packed function constants (SoftmetalFunctionConstant::offset)
  uint64_t constants_defined;           // bit i: constants[i] of the kernel's table was given a value
  uint32_t threads_per_grid[3];
  uint32_t threadgroups_per_grid[3];
  uint32_t threads_per_threadgroup[3];
};

// Runs the units [begin, end) of a dispatch on the calling OS thread; what a unit
// is depends on SoftmetalKernel::mode. `threadgroup_memory` belongs to this OS thread,
// is 64-byte aligned and holds the [[threadgroup(n)]] arguments.
typedef void (*SoftmetalRun)(const struct SoftmetalLaunch* launch, char* threadgroup_memory, uint64_t begin,
                             uint64_t end);

enum SoftmetalMode {
  // A unit is a threadgroup, x fastest. The entry runs all of its threads.
  SOFTMETAL_MODE_THREADGROUPS = 0,
  // A unit is one thread of the grid, x fastest: the kernel looks at nothing but its
  // position in the grid, so threadgroups do not exist for it.
  SOFTMETAL_MODE_THREADS = 1,
};

enum SoftmetalArgumentKind { SOFTMETAL_ARGUMENT_BUFFER = 0, SOFTMETAL_ARGUMENT_THREADGROUP = 1 };
enum SoftmetalAddressSpace {
  SOFTMETAL_SPACE_DEVICE = 0,
  SOFTMETAL_SPACE_CONSTANT = 1,
  SOFTMETAL_SPACE_THREADGROUP = 2
};
// Numerically MTL::BindingAccess.
enum SoftmetalAccess {
  SOFTMETAL_ACCESS_READ = 0,
  SOFTMETAL_ACCESS_READ_WRITE = 1,
  SOFTMETAL_ACCESS_WRITE = 2
};

struct SoftmetalArgument {
  const char* name;
  const char* type_name;    // the pointee as written, e.g. "float", "bfloat", "RmsNormParams"
  uint32_t index;           // [[buffer(n)]] or [[threadgroup(n)]]
  uint32_t data_type;       // MTL::DataType of the pointee; DataTypeStruct for structs
  uint32_t element_size;    // sizeof the pointee
  uint32_t element_align;   // alignof the pointee
  uint8_t kind;             // SoftmetalArgumentKind
  uint8_t address_space;    // SoftmetalAddressSpace
  uint8_t access;           // SoftmetalAccess
  uint8_t is_reference;     // `constant T&`: exactly element_size bytes are read
  int32_t active_constant;  // index into the kernel's constants of a bool that switches it on, or -1
};

struct SoftmetalFunctionConstant {
  const char* name;
  uint32_t index;
  uint32_t data_type;  // MTL::DataType
  uint32_t offset;     // into SoftmetalLaunch::constants
  uint32_t size;
  uint32_t required;  // 0 when the source asks is_function_constant_defined() first
};

struct SoftmetalKernel {
  const char* name;  // host name
  SoftmetalRun run;
  uint32_t mode;  // SoftmetalMode
  uint32_t execution_width;
  uint32_t max_threads_per_threadgroup;
  uint32_t static_threadgroup_bytes;  // `threadgroup T x[N]` variables of the body
  const struct SoftmetalArgument* arguments;
  uint32_t argument_count;
  const struct SoftmetalFunctionConstant* constants;
  uint32_t constant_count;
  uint32_t constants_bytes;  // size of the packed block
  const char* source_file;
  uint32_t source_line;
};

// One translated .metal file.
struct SoftmetalUnit {
  const struct SoftmetalKernel* kernels;
  uint32_t kernel_count;
};

struct SoftmetalLibrary {
  uint32_t abi_version;
  const char* isa;       // "x86-64-v4", "x86-64-v3", "aarch64", ...
  const char* compiler;  // first line of the compiler's version
  const struct SoftmetalUnit* const* units;
  uint32_t unit_count;
};

typedef const struct SoftmetalLibrary* (*SoftmetalLibraryEntry)(void);

}  // extern "C"
