// Watches every access of a kernel to memory, and what its threads do at barriers and in SIMD-group
// functions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "softmetal/runtime/command.h"
#include "softmetal/runtime/library.h"
#include "softmetal/simt/arena.h"
#include "softmetal/simt/engine.h"
#include "softmetal/simt/report.h"
#include "softmetal/simt/settings.h"
#include "softmetal/simt/shadow.h"

namespace softmetal::simt {

enum class Kind : uint8_t {
  ThreadgroupRace,
  DeviceRace,
  BarrierFlags,
  DivergentBarrier,
  OutOfBounds,
  Misaligned,
  UninitializedRead,
  InactiveLane,
  IncompleteMatrix,
  ReadOnlyWrite,
  NullArgument,
  InvalidAddress,
  Hazard,
  NonFinite,
  Runaway,
  UndefinedDivision,
};

enum Space : uint8_t { kDevice = 0, kThreadgroup = 1 };
enum class Scalar : uint8_t { Other, Float, Half, BFloat };

// One argument or variable of the kernel that runs: where it lies, and where its cells do.
struct Slot {
  uintptr_t begin = 0;
  uint64_t bytes = 0;
  uintptr_t origin = 0;  // what cells[0] and lines[0] are of
  Cell* cells = nullptr;
  uint8_t* lines = nullptr;
  uint8_t shift = 2;
  Space space = kDevice;
  Scalar scalar = Scalar::Other;
  bool writable = false;
  bool tracked = false;   // accesses may conflict with others
  bool poisoned = false;  // what nobody wrote is marked

  // For reports.
  const char* name = nullptr;  // null: nothing is here
  const char* address_space = "";
  uint32_t element_size = 1;
};

// One access to an argument or variable.
struct Access {
  const Slot& slot;
  uintptr_t address;
  uint64_t bytes;
  uint32_t kind;  // SoftmetalAccessKind
  const void* pc;
};

// The order in which a dispatch's threadgroups run.
class Order {
 public:
  Order() = default;
  Order(uint64_t count, uint64_t seed);
  uint64_t operator[](uint64_t position) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(position) * step_ + start_) % count_);
  }

 private:
  uint64_t count_ = 1, start_ = 0, step_ = 1;
};

// One for the process; all calls are on the OS thread that holds the executor's mutex.
class Checker final : public Observer {
 public:
  static Checker& get();
  static const SoftmetalHooks& hooks();

  // Runs a dispatch of a kernel of `table`, a checked library.
  std::vector<Fault> run(const Dispatch& dispatch, const SoftmetalLibrary& table, const Settings& settings);

  void begin_threadgroup(uint64_t threadgroup) override;
  void passed_barrier(uint32_t scope, uint32_t simdgroup, uint32_t flags) override;
  void divergent_barrier(const Thread& waiting, const void* pc, const Thread& other, Stuck how,
                         const void* other_pc) override;
  void lane_misuse(const Thread& thread, uint32_t kind, uint32_t lanes, uint32_t active,
                   const void* pc) override;
  void end_threadgroup() override;

 private:
  friend struct Hooks;

  // A dispatch since the last barrier between dispatches, and when each of its threadgroups began.
  struct Past {
    uint32_t begin;
    uint64_t place;
    std::string kernel, label;
    std::shared_ptr<const Image> image;
    Order order;
    uint32_t groups[3], threads[3], grid[3];
    std::vector<uint32_t> begins;
  };
  // Bindings of one buffer that overlap, or a single one.
  struct Region {
    const Buffer* buffer;
    char* host;
    uint64_t bytes;
    std::vector<unsigned> indices;
    std::vector<char*> places;
    bool writable = false;
  };
  struct Launch {
    SoftmetalLaunch launch;
    void* buffers[SOFTMETAL_MAX_BUFFERS];
    uint64_t buffer_bytes[SOFTMETAL_MAX_BUFFERS];
    uint32_t threadgroup_offsets[SOFTMETAL_MAX_BUFFERS];
    uint32_t threadgroup_bytes[SOFTMETAL_MAX_BUFFERS];
    // The packed function constants follow.
  };
  struct Finding {
    Kind kind;
    const Slot* slot;
    uintptr_t pc[2];
    const Image* image[2];
    Fault fault;
  };

  // A read of what nobody has written, until it is clear that no other thread could have written it first:
  // then it is a race, whichever came first.
  struct Unwritten {
    const Slot* slot;
    uintptr_t address;
    uint64_t bytes;
    uint32_t access;
    const void* pc;
    ThreadPlace thread;
    uint64_t count;
  };

  Checker();

  void bind(const Dispatch& dispatch);
  void bind_buffers(const Dispatch& dispatch);
  void bind_threadgroup_memory(const Dispatch& dispatch);
  Launch& bind_launch(const Dispatch& dispatch);
  void unbind();
  std::vector<Fault> take_findings();

  const Past& past(uint32_t time) const;
  ThreadPlace place(uint32_t time, uint32_t thread) const;
  ThreadPlace place(const Thread& thread) const;

  // Null when an equal one is known, and was counted.
  Finding* report(Kind kind, const Slot* slot, uintptr_t pc, uintptr_t other_pc = 0,
                  const Past* other = nullptr, uint64_t count = 1);
  Finding* report_access(Kind kind, const Slot* slot, uintptr_t address, uint64_t bytes, uint32_t access,
                         const void* pc, std::string message, uint64_t count = 1);
  void conflict(const Access& access, const Cell& cell, int with, unsigned bytes);
  void note_unwritten(const Slot& slot, uintptr_t address, uint64_t bytes, uint32_t access, const void* pc);
  void report_unwritten(Space space);
  void look_at_pending();

  Arena arena_;
  ShadowPool pool_;
  std::map<const void*, Shadow> shadows_;  // by buffer, or by the address of inline bytes
  Reserve threadgroup_cells_, unused_lines_;
  std::vector<Region> regions_;
  std::vector<Slot> slots_;
  std::vector<uint16_t> granules_;  // of 16 bytes of the variables, to slots_
  uint64_t variables_bytes_ = 0;

  Settings settings_;
  const SoftmetalKernel* kernel_ = nullptr;
  std::shared_ptr<const Image> image_;
  std::vector<Image::Range> allowed_;  // memory of the library
  uint64_t command_buffer_ = 0;
  std::vector<Past> past_;
  std::vector<Finding> findings_;
  std::unordered_map<uint64_t, std::vector<size_t>> known_;  // by pcs, to findings_
  std::unordered_map<uint64_t, uint32_t> device_fences_;     // by threadgroup, the last one's time
  std::unordered_map<const Cell*, std::vector<Unwritten>> unwritten_[2];  // by space
  uint64_t threadgroup_ = 0;
  bool muted_ = false;  // a barrier went wrong, and what follows from that is no news
};

}  // namespace softmetal::simt
