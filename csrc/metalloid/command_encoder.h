// Recording dispatches into one command buffer.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metalloid/encoder.h"
#include "metalloid/event.h"
#include "metalloid/hazards.h"
#include "metalloid/queue.h"
#include "metalloid/submission.h"
#include "metalloid/trace.h"

namespace metalloid {

class Program;

struct CommandOptions {
  std::string label = {};
  // Dispatches may overlap, but for those that a barrier separates; else each runs after the one before.
  bool concurrent = true;
  // Barriers go in by themselves where a dispatch touches what an earlier one wrote, or writes what it
  // touched; else only barrier() orders the dispatches of a concurrent encoder.
  bool hazards = true;
  // Where it is committed to; null: the device's own.
  Queue* queue = nullptr;
};

// Belongs to one thread at a time; two that use it at once get an Error. wait() and the getters may be
// called from any thread.
class CommandEncoder final : public Encoder {
 public:
  enum class Status : uint8_t { encoding, committed, completed, error, discarded };

  explicit CommandEncoder(Device& device, CommandOptions options = {});
  // Work that was not committed is discarded.
  ~CommandEncoder() override;

  const std::string& label() const { return options_.label; }
  Queue& queue() const { return queue_; }
  bool concurrent() const { return options_.concurrent; }
  bool hazards() const { return options_.hazards; }
  uint64_t dispatch_count() const { return dispatches_; }
  uint64_t barrier_count() const { return barriers_; }
  // Arguments that touched what an earlier dispatch was not yet done with, and so got a barrier.
  uint64_t conflict_count() const { return tracker_.conflict_count(); }
  Status status() const;
  // Seconds on the device; nothing before completion.
  std::optional<double> gpu_time() const;

  void check_encoding(const char* operation) const override {
    refuse_forked(operation);
    if (status_.load(std::memory_order_acquire) != Status::encoding) [[unlikely]]
      refuse_encoding(operation);
  }
  bool encoding() const override { return status_.load(std::memory_order_acquire) == Status::encoding; }
  Buffer output(const Shape& shape, DType dtype, const char* operation) override {
    return device_.empty(shape, dtype, operation);
  }
  void dispatch(const Operation& operation, const Pipeline& pipeline,
                std::initializer_list<Argument> arguments, Extent threadgroups, Extent threads) override;
  void dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                const Extent& threadgroup, const Declared& declared = {}) override;
  void barrier() override;
  // Encodes the steps of a program from `first` up to `last`. They run after everything before them and
  // before everything after them, as if each touched all memory.
  void replay(const std::shared_ptr<const Program>& program, uint32_t first, uint32_t last);
  void push_group(std::string_view name) override;
  void pop_group() override;

  // On the device: the event gets `value` once everything encoded so far is done, or what is encoded after
  // waits until it has `value` or more; so does what is committed to the queue later. Throw ValidationError.
  void signal(Event& event, uint64_t value);
  void wait_for(Event& event, uint64_t value);

  std::shared_ptr<Submission> commit();
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

  [[noreturn]] void refuse_encoding(const char* operation) const;
  // Opens the command buffer and an encoder of it, where that has not been done. Between two encoders of a
  // command buffer everything is ordered.
  void begin() {
    if (!encoder_) [[unlikely]]
      open();
  }
  void open();
  void open_command_buffer();
  void end_encoder();
  // Gives the command buffer an encoder where none has had to wait for the queue's fence since the last event
  // that it waits for: whether events alone keep to the order of untracked work, Metal does not say.
  void take_place() {
    if (!placed_) [[unlikely]]
      encode_nothing();
  }
  void encode_nothing();
  void check_event(const char* operation, const Event& event, uint64_t value) const;
  void hold(Storage* storage) {
    if (storage->last_encoder.load(std::memory_order_relaxed) != id_) hold_first(storage);
  }
  void hold_first(Storage* storage);
  void hold(const Kernel& kernel);
  // Puts a barrier before a dispatch that needs one.
  void order(std::span<const MemoryUse> uses);
  void set_pipeline(const Pipeline& pipeline);
  void set_buffer(uint8_t index, Storage& storage, uint64_t offset, uint64_t length) {
    MTL::Buffer* metal = storage.metal();
    // An empty view may start where its allocation ends.
    if (length == 0) offset = 0;
    const Bound& bound = bound_[index];
    if (bound.buffer != metal || bound.offset != offset || bound.length != length) {
      change_buffer(index, metal, offset, length);
    }
  }
  void change_buffer(uint8_t index, MTL::Buffer* metal, uint64_t offset, uint64_t length);
  void set_buffer(uint8_t index, const Buffer& buffer) {
    set_buffer(index, *buffer.storage(), buffer.offset(), buffer.nbytes());
  }
  void set_bytes(uint8_t index, const void* bytes, uint64_t length);
  void replay_step(const Program& program, uint32_t place, bool barrier);
  void put_barrier();
  // For a trace, a dispatch that has just been encoded. Ends its encoder.
  void traced(const trace::Encoded& dispatch, std::string_view group = {});
  void forget_bindings();
  void set_memory(uint8_t index, uint64_t length);
  // Takes back the lengths that earlier kernels had for arguments that this one has not (`used` are the bits
  // of those that it has): Metal may count them.
  void clear_memory(uint32_t used) {
    if (memory_set_ & ~used) [[unlikely]]
      unset_memory(memory_set_ & ~used);
  }
  void unset_memory(uint32_t indices);
  void close(Status status);
  void drop();

  const CommandOptions options_;
  Queue& queue_;
  const bool tracks_;
  const uint64_t id_;
  std::atomic<bool> busy_{false};
  std::atomic<Status> status_{Status::encoding};
  uint64_t dispatches_ = 0;
  uint64_t barriers_ = 0;

  // Made by the first dispatch; an encoder without work costs the device nothing.
  NS::SharedPtr<MTL::CommandBuffer> command_buffer_;
  MTL::ComputeCommandEncoder* encoder_ = nullptr;
  const Pipeline* pipeline_ = nullptr;
  std::array<Bound, kBuffers> bound_{};
  std::array<uint64_t, kBuffers> memory_{};
  uint32_t memory_set_ = 0;  // bit i: the encoder has a length for index i
  bool placed_ = false;      // see take_place()
  std::vector<StorageRef> held_;
  Kept kept_;
  std::vector<Used> used_;  // what programs in kept_ hold, and at last held_
  HazardTracker tracker_;
  std::vector<MemoryUse> uses_;  // of one dispatch
  std::vector<std::string> groups_;
  std::shared_ptr<Submission> submission_;  // once committed
  // While a trace is on. Every dispatch has an encoder of its own then.
  std::shared_ptr<trace::Recording> trace_;
};

std::string_view name_of(CommandEncoder::Status status);

}  // namespace metalloid
