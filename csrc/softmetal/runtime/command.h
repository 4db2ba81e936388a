// What an encoder records and the scheduler runs.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "softmetal/runtime/kernel_abi.h"
#include "softmetal/runtime/object.h"

namespace softmetal {

class Buffer;
class EncoderInfo;
class Event;
class Pipeline;

struct Command {
  enum class Kind : uint8_t { Dispatch, Signal, Wait, Sample };

  explicit Command(Kind which) : kind(which) {}

  Command* next = nullptr;
  const Kind kind;
};

// What a buffer argument of a dispatch is bound to.
struct BoundBuffer {
  const Buffer* buffer;  // null for setBytes
  uint64_t offset;
  uint64_t bytes;  // to the end of the buffer, or of the part that a debug marker names
};

// Three cache lines, as writing them is most of what recording one costs.
struct Dispatch : Command {
  Dispatch() : Command(Kind::Dispatch) {}

  bool barrier = true;  // everything before it has to end first
  bool tiny = false;    // not worth another thread, as its units are not worth several
  uint16_t threadgroup_threads = 1;
  uint16_t threadgroup_memory = 0;
  const Pipeline* pipeline = nullptr;
  SoftmetalLaunch launch;    // its lists end with the last argument of the kernel
  uint64_t units = 0;        // of an indirect one known only when it begins
  uint64_t bound_bytes = 0;  // in the buffers that the kernel sees

  // Units are claimed here by every thread that runs the dispatch, so what kernels read is in other cache
  // lines.
  alignas(64) std::atomic<uint64_t> claimed{0};
  uint64_t chunk = 0;
  const char* indirect = nullptr;  // where threadgroups_per_grid are when the dispatch begins
  // For executors that check.
  const BoundBuffer* bindings = nullptr;  // by index, as launch.buffers
  uint64_t command_buffer = 0;            // CommandBuffer::id
  uint64_t place = 0;                     // among the dispatches of the command buffer
  const char* label = "";                 // of the encoder, and its debug groups
  EncoderInfo* info = nullptr;            // of the encoder, if the command buffer's error is to have it

  bool exhausted() const { return claimed.load(std::memory_order_relaxed) >= units; }
};
static_assert(sizeof(Dispatch) == 192);

// Threads that a grid may have in all: the counters must not wrap.
constexpr uint64_t kMaxGridThreads = uint64_t{1} << 62;

struct EventCommand : Command {
  EventCommand(Kind which, Event& on, uint64_t to) : Command(which), event(on), value(to) {}
  Event& event;
  const uint64_t value;
};

// Leaves the time at which everything before it has ended.
struct SampleCommand : Command {
  explicit SampleCommand(std::atomic<uint64_t>& sample) : Command(Kind::Sample), into(sample) {}
  std::atomic<uint64_t>& into;
};

// Memory that is only ever given back all at once.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    for (const Block& block : blocks_) std::free(block.memory);
  }

  void* allocate(size_t size, size_t alignment) {
    const size_t at = (used_ + alignment - 1) & ~(alignment - 1);
    if (at + size > capacity_) return allocate_block(size);
    used_ = at + size;
    return memory_ + at;
  }
  template <class T, class... Arguments>
  T* make(Arguments&&... arguments) {
    return new (allocate(sizeof(T), alignof(T))) T(std::forward<Arguments>(arguments)...);
  }

  // Keeps some memory for the next use.
  void reset();

  static constexpr size_t kBlock = 32 * 1024;  // aligned to 64 bytes, as is all it gives

 private:
  struct Block {
    char* memory;
    size_t capacity;
  };
  static constexpr size_t kBlocksKept = 32;

  void* allocate_block(size_t size);
  void enter(size_t block);

  std::vector<Block> blocks_;
  size_t current_ = 0;
  char* memory_ = nullptr;
  size_t used_ = 0, capacity_ = 0;
};

// The contents of one command buffer. A queue uses it again for the next.
struct Recording {
  ~Recording() { clear(); }

  void append(Command* command) {
    *(last ? &last->next : &first) = command;
    last = command;
  }
  void hold(Object* object) {
    object->retain();
    held.push_back(object);
  }
  void clear();

  Arena arena;
  Command* first = nullptr;
  Command* last = nullptr;
  std::vector<Object*> held;  // retained until the command buffer has run
};

}  // namespace softmetal
