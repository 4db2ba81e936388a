// The binary contract between a compiled shader library (a shared object that
// the shader compiler produced) and the runtime that loads it. Emitted kernel
// sources include this file too, so it needs nothing but the fixed-width types.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SOFTMETAL_ABI_VERSION 4u
#define SOFTMETAL_MAX_BUFFERS 31u
#define SOFTMETAL_LIBRARY_SYMBOL "softmetal_library"

// Lanes of a SIMD-group where there is more than one.
#define SOFTMETAL_LANES 32u
// A GPU thread that may have to wait for others runs on a stack of its own, of this size and aligned to it,
// with its SoftmetalThread above the first frame, so that code finds it from its stack pointer.
#define SOFTMETAL_STACK_BYTES (256u * 1024u)
#define SOFTMETAL_THREAD_BYTES 256u
// In checked libraries, the unused bytes around each threadgroup variable.
#define SOFTMETAL_RED_ZONE 256u

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

// One GPU thread, as compiled code sees it. The runtime has more of it, behind.
struct SoftmetalThread {
  const struct SoftmetalLaunch* launch;
  char* arguments;  // the [[threadgroup(n)]] arguments, at launch->threadgroup_offsets
  char* variables;  // the `threadgroup T x[N]` variables, at SoftmetalVariable::offset
  uint32_t thread_position_in_threadgroup[3];
  uint32_t threadgroup_position_in_grid[3];
  uint32_t threads_per_threadgroup[3];  // of this one; those at the far edges of a grid may be smaller
  uint32_t thread_index_in_threadgroup;
  uint32_t thread_index_in_simdgroup;
  uint32_t simdgroup_index_in_threadgroup;
  uint32_t simdgroups_per_threadgroup;
  uint32_t depth;  // statements around the one that runs, of those in which lanes may part and meet again
};

// The address of the SoftmetalThread whose stack holds an address. Each of 256 neighbouring stacks has it at
// another distance from its top: at the same one they would compete for a few sets of the caches.
static inline uintptr_t softmetal_thread_address(uintptr_t on_stack) {
  const uintptr_t number = on_stack / SOFTMETAL_STACK_BYTES % 256;
  return (on_stack | (SOFTMETAL_STACK_BYTES - 1)) + 1 - (number + 1) * SOFTMETAL_THREAD_BYTES;
}

// Runs one GPU thread from its begin to its end.
typedef void (*SoftmetalThreadRun)(const struct SoftmetalThread* thread);

// Where the lanes of a SIMD-group exchange values. Each gave the address of a record of its own; one of them
// works out the results of all.
struct SoftmetalMeeting {
  void* records[SOFTMETAL_LANES];  // null where a lane takes no part
  uint32_t active;                 // bit i: lane i takes part
  uint32_t existing;               // bit i: the SIMD-group has a lane i
  uint32_t undefined;              // set by the fold: lanes whose result depends on one that takes no part
};
typedef void (*SoftmetalFold)(struct SoftmetalMeeting* meeting);
enum SoftmetalMeetingKind {
  SOFTMETAL_MEETING_SIMD = 0,
  SOFTMETAL_MEETING_QUAD = 1,
  SOFTMETAL_MEETING_MATRIX = 2,  // needs all lanes
  SOFTMETAL_MEETING_JOIN = 3,    // exchanges nothing: the end of a statement in which lanes may have parted
};
// The kind of a meeting, and the scope of a barrier of a SIMD-group, have the thread's depth above these
// bits.
#define SOFTMETAL_DEPTH_SHIFT 8

enum SoftmetalScope {
  SOFTMETAL_SCOPE_SIMDGROUP = 1,
  SOFTMETAL_SCOPE_THREADGROUP = 2,
  SOFTMETAL_SCOPE_DEVICE = 3
};

// Bits of SoftmetalHooks::access.
enum SoftmetalAccessKind {
  SOFTMETAL_READS = 1,
  SOFTMETAL_WRITES = 2,
  SOFTMETAL_ATOMIC = 4,
  SOFTMETAL_UNALIGNED = 8,  // the source says that it knows
};

// What compiled code calls in the runtime. `pc` is the return address of the call in the kernel. Flags are
// those of metal::mem_flags.
struct SoftmetalHooks {
  // Blocks until all lanes of the SIMD-group that come to this place are here, and `fold` has run.
  void (*meet)(void* record, SoftmetalFold fold, uint32_t kind, const void* pc);
  void (*barrier)(uint32_t scope, uint32_t flags, const void* pc);
  // atomic_thread_fence.
  void (*fence)(uint32_t flags, uint32_t order, uint32_t scope, const void* pc);
  // The thread may be waiting for another one of its threadgroup: lets those run.
  void (*pause)(const void* pc);
  // Checked libraries only. Before memory is touched.
  void (*access)(const void* address, uint64_t bytes, uint32_t kind, const void* pc);
  // Checked libraries only. Now and then in every loop.
  void (*tick)(const void* pc);
};

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

enum SoftmetalArgumentFlag {
  SOFTMETAL_ARGUMENT_UNUSED = 1,  // the kernel does not name it
  SOFTMETAL_ARGUMENT_ATOMIC = 2,  // the pointee is an atomic of data_type
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
  uint32_t flags;           // bits of SoftmetalArgumentFlag
};

struct SoftmetalFunctionConstant {
  const char* name;
  uint32_t index;
  uint32_t data_type;  // MTL::DataType
  uint32_t offset;     // into SoftmetalLaunch::constants
  uint32_t size;
  uint32_t required;  // 0 when the source asks is_function_constant_defined() first
};

// What a kernel may use that some of Apple's GPUs lack.
enum SoftmetalFeature {
  SOFTMETAL_FEATURE_ATOMIC_ULONG = 1,
};

// A `threadgroup T x[N]` variable of a kernel's body.
struct SoftmetalVariable {
  const char* name;
  uint32_t offset;
  uint32_t bytes;
  uint32_t element_size;  // of the innermost element
  uint32_t data_type;     // MTL::DataType of it
  const struct SoftmetalVariable* next;
};

struct SoftmetalKernel {
  const char* name;  // host name
  SoftmetalRun run;  // or null, and then `thread` is not
  uint32_t mode;     // SoftmetalMode
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
  // Runs the threads one by one, each on its own stack, where they have to wait for each other or are
  // checked.
  SoftmetalThreadRun thread;
  // Gives the function constants to the calling OS thread, before it runs any `thread`; or null.
  void (*prepare)(const struct SoftmetalLaunch* launch);
  const struct SoftmetalVariable* variables;  // a list; not for `run`
  const char* const* builtins;                // names of the attributes of its other arguments
  uint32_t builtin_count;
  uint32_t features;  // bits of SoftmetalFeature
};

// One translated .metal file.
struct SoftmetalUnit {
  const struct SoftmetalKernel* kernels;
  uint32_t kernel_count;
};

// The text of a file that kernels come from.
struct SoftmetalSource {
  const char* name;
  const char* text;
};

struct SoftmetalLibrary {
  uint32_t abi_version;
  const char* isa;       // "x86-64-v4", "x86-64-v3", "aarch64", ...
  const char* compiler;  // first line of the compiler's version
  const struct SoftmetalUnit* const* units;
  uint32_t unit_count;
  uint32_t checked;                       // accesses are reported through the hooks
  const struct SoftmetalHooks** hooks;    // to be set when the library is loaded; null where it has none
  const struct SoftmetalSource* sources;  // of checked libraries
  uint32_t source_count;
};

typedef const struct SoftmetalLibrary* (*SoftmetalLibraryEntry)(void);

}  // extern "C"
