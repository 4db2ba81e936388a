// Recording dispatches into one command buffer.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "metalloid/buffer.h"
#include "metalloid/device.h"
#include "metalloid/kernel.h"

namespace metalloid {

// One argument of a dispatch, for [[buffer(index)]] or [[threadgroup(index)]]. Refers to what it is made
// from, which must live until dispatch() returns.
struct Argument {
  enum class Kind : uint8_t { buffer, bytes, threadgroup_memory };

  static Argument read(uint8_t index, const Buffer& buffer) { return of(index, buffer, Access::read); }
  static Argument write(uint8_t index, const Buffer& buffer) { return of(index, buffer, Access::write); }
  template <class Params>
  static Argument params(uint8_t index, const Params& params) {
    return {Kind::bytes, Access::read, index, sizeof(Params), &params};
  }
  // Rounded up to the 16 bytes that Metal asks for, at least 16.
  static Argument memory(uint8_t index, uint64_t bytes) {
    return {Kind::threadgroup_memory, Access::read_write, index, padded_memory(bytes), nullptr};
  }

  Kind kind;
  Access access;
  uint8_t index;
  uint64_t length;
  const void* object;

 private:
  static Argument of(uint8_t index, const Buffer& buffer, Access access) {
    return {Kind::buffer, access, index, buffer.nbytes(), &buffer};
  }
};

// Belongs to one thread at a time; two that use it at once get an Error. wait() and the getters may be
// called from any thread.
class CommandEncoder {
 public:
  enum class Status : uint8_t { encoding, committed, completed, error, discarded };

  // In a concurrent encoder dispatches may overlap, but for those that a barrier() separates.
  explicit CommandEncoder(Device& device, std::string label = {}, bool concurrent = false);
  // Work that was not committed is discarded.
  ~CommandEncoder();
  CommandEncoder(const CommandEncoder&) = delete;
  CommandEncoder& operator=(const CommandEncoder&) = delete;

  Device& device() const { return device_; }
  const std::string& label() const { return label_; }
  bool concurrent() const { return concurrent_; }
  uint64_t dispatch_count() const { return dispatches_; }
  uint64_t barrier_count() const { return barriers_; }
  Status status() const;
  // Seconds on the device; nothing before completion.
  std::optional<double> gpu_time() const;

  // Throws Error unless something may still be encoded.
  void check_encoding(const char* operation) const;

  // Runs `pipeline` over `threadgroups` of `threads` each. The arguments must be all that the kernel has,
  // and valid: operations check before they come here.
  void dispatch(const Pipeline& pipeline, std::initializer_list<Argument> arguments, Extent threadgroups,
                Extent threads);
  // Runs `kernel` over `grid` in threadgroups of `threadgroup` threads. `values` are for the kernel's
  // arguments by position. Throws ValidationError before anything is encoded.
  void dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                const Extent& threadgroup);
  // What comes after sees the memory that what came before wrote.
  void barrier();

  void commit();
  // Throws DeviceError if the work failed or if `timeout` seconds pass first, KernelFault for what checks
  // found.
  void wait(std::optional<double> timeout = std::nullopt);
  void commit_and_wait() {
    commit();
    wait();
  }
  // Forgets everything encoded. Does nothing if there is nothing to forget.
  void discard();

 private:
  class Turn;

  struct Bound {
    const MTL::Buffer* buffer = nullptr;
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  static constexpr size_t kBuffers = 31;

  void begin();
  void hold(Storage* storage);
  void hold(const Kernel& kernel);
  void set_pipeline(const Pipeline& pipeline);
  void set_buffer(uint8_t index, const Buffer& buffer);
  void set_bytes(uint8_t index, const void* bytes, uint64_t length);
  void set_memory(uint8_t index, uint64_t length);
  void close(Status status);

  Device& device_;
  const std::string label_;
  const bool concurrent_;
  const uint64_t id_;
  std::atomic<bool> busy_{false};
  std::atomic<Status> status_{Status::encoding};
  uint64_t dispatches_ = 0;
  uint64_t barriers_ = 0;
  std::atomic<uint64_t> serial_{0};

  // Made by the first dispatch; an encoder without work costs the device nothing.
  NS::SharedPtr<MTL::CommandBuffer> command_buffer_;
  MTL::ComputeCommandEncoder* encoder_ = nullptr;
  const Pipeline* pipeline_ = nullptr;
  std::array<Bound, kBuffers> bound_{};
  std::array<uint64_t, kBuffers> memory_{};
  std::vector<StorageRef> held_;
  std::vector<KernelRef> kernels_;
};

std::string_view name_of(CommandEncoder::Status status);

// Threads for a threadgroup that shares `work` items, about `per_thread` for each thread: whole SIMD-groups,
// or a single thread where the device has no SIMD-groups to speak of.
uint32_t cooperative_threads(const Pipeline& pipeline, uint64_t work, uint64_t per_thread);

// SIMD-groups for a threadgroup that shares `work` items, one SIMD-group to each; every SIMD-group takes
// `memory_each` bytes of threadgroup memory beside `memory_shared`. 0 if not even one fits.
uint32_t cooperative_simdgroups(const Pipeline& pipeline, uint64_t work, uint32_t at_most,
                                uint64_t memory_each, uint64_t memory_shared);

}  // namespace metalloid
