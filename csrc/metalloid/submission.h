// What became of a command buffer that was committed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "metalloid/forked.h"
#include "metalloid/metal.h"
#include "metalloid/timeline.h"

namespace metalloid {

class Device;
class Queue;

// Outlives the encoder. Everything here is safe to call from any thread.
class Submission {
 public:
  enum class Status : uint8_t { committed, completed, error };

  // `serial` 0: there was nothing to run.
  Submission(Queue& queue, std::string label, NS::SharedPtr<MTL::CommandBuffer> buffer, uint64_t serial)
      : queue_(queue), label_(std::move(label)), buffer_(std::move(buffer)), serial_(serial) {}

  ~Submission() { abandon_if_forked(buffer_); }

  // Makes this stand for `earlier`, of the same queue, as well. To be called before anybody else has it.
  void include(std::shared_ptr<const Submission> earlier) { earlier_ = std::move(earlier); }

  Queue& queue() const { return queue_; }
  Device& device() const;
  const std::string& label() const { return label_; }
  uint64_t serial() const { return serial_; }

  bool done() const;
  Status status() const;
  // Seconds on the device; nothing before completion.
  std::optional<double> gpu_time() const;

  // Waits until the work is done, however it ends. Throws DeviceError, which names `operation`, if `timeout`
  // seconds pass first.
  void wait_until_done(std::optional<double> timeout = std::nullopt,
                       const char* operation = "Submission.wait") const;
  // Throws DeviceError if the work, which must be done, failed, KernelFault for what checks found.
  void check(const char* operation = "Submission.wait") const;
  void wait(std::optional<double> timeout = std::nullopt, const char* operation = "Submission.wait") const {
    wait_until_done(timeout, operation);
    check(operation);
  }

  // Has `call` called once, when the work is done, from a thread of the queue's; it must not throw. What has
  // not been called when the process ends or forks never is, in this process or in the child.
  void when_done(std::function<void()> call) const;

 private:
  Queue& queue_;
  const std::string label_;
  NS::SharedPtr<MTL::CommandBuffer> buffer_;
  const uint64_t serial_;
  std::shared_ptr<const Submission> earlier_;
};

std::string_view name_of(Submission::Status status);

}  // namespace metalloid
