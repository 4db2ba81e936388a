// A queue of a device: command buffers that run in the order of their commits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "metalloid/metal.h"
#include "metalloid/storage.h"
#include "metalloid/timeline.h"

namespace metalloid {

class Device;
class Queue;

// Tells who asked when command buffers have ended, from a thread that starts with the first who asks.
class Watcher {
 public:
  explicit Watcher(Queue& queue) : queue_(queue) {}

  // See Submission::when_done().
  void add(uint64_t serial, std::function<void()> call);

  // For forks. The child has no thread, and forgets what the parent's is to call.
  std::mutex& mutex() { return mutex_; }
  void forget_thread();

 private:
  void run();

  Queue& queue_;
  std::mutex mutex_;
  std::condition_variable added_;
  std::multimap<uint64_t, std::function<void()>> pending_;
  bool running_ = false;
};

// Made by Device::queue() and never destroyed. Everything here is safe to call from any thread.
class Queue {
 public:
  Queue(Device& device, std::string label, uint32_t index, FaultLog* log);
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  Device& device() const { return device_; }
  // What opened it; the device's own has none.
  const std::string& label() const { return label_; }
  // Its place among the device's, and in Storage::last_use.
  uint32_t index() const { return index_; }
  MTL::CommandQueue* metal() const { return metal_.get(); }
  Timeline& timeline() { return timeline_; }
  Watcher& watcher() { return watcher_; }
  // Every encoder waits for it first and updates it last, and every command buffer has an encoder. Nothing
  // else orders the memory accesses of two command buffers, as no resource is tracked.
  const MTL::Fence* fence() const { return fence_.get(); }

  // A command buffer that retains nothing; each needs one commit() or drop_command_buffer(). Too many at a
  // time are an Error. Metal blocks when it has no more to give, because of those in flight: then this waits
  // for the first of them, as Timeline::wait() does.
  // With `named`, its error says which of its encoders and debug groups failed.
  NS::SharedPtr<MTL::CommandBuffer> begin_command_buffer(bool named);
  void drop_command_buffer();
  // See Timeline::commit().
  uint64_t commit(const NS::SharedPtr<MTL::CommandBuffer>& buffer, std::span<const Used> used, Kept kept);
  // Waits until everything up to `serial` is complete; false if the deadline passed first.
  bool wait(uint64_t serial, const Deadline& deadline = std::nullopt);

 private:
  Device& device_;
  const std::string label_;
  const uint32_t index_;
  const NS::SharedPtr<MTL::CommandQueue> metal_;
  const NS::SharedPtr<MTL::Fence> fence_;
  const NS::SharedPtr<MTL::CommandBufferDescriptor>
      telling_;  // of command buffers whose errors name the encoder
  Timeline timeline_;
  Watcher watcher_;
  std::atomic<uint32_t> open_{0};
};

}  // namespace metalloid
