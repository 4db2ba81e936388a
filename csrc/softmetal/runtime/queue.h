#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/command.h"
#include "softmetal/runtime/device.h"
#include "softmetal/runtime/library.h"
#include "softmetal/runtime/residency.h"

namespace softmetal {

class ComputeEncoder;
class Queue;

using Clock = std::chrono::steady_clock;

// Up to here a thread runs the work itself rather than wake another.
constexpr uint64_t kInlineNanoseconds = 20'000;

// What is told of an encoder when its command buffer fails.
class EncoderInfo final : public Object {
 public:
  const char* class_name() const override { return "MTL::CommandBufferEncoderInfo"; }

  std::string label;
  Ref<Array> signposts = Ref<Array>::adopt(new Array);
  const Dispatch* first = nullptr;
  MTL::CommandEncoderErrorState state = MTL::CommandEncoderErrorStateUnknown;
};
SOFTMETAL_BRIDGE(MTL::CommandBufferEncoderInfo, EncoderInfo)

class CommandBuffer final : public Object {
 public:
  CommandBuffer(Queue& owner, std::unique_ptr<Recording> record, bool retains);
  ~CommandBuffer() override;
  const char* class_name() const override { return "MTL::CommandBuffer"; }
  std::string describe() const override;

  // The first misuse becomes the error, and nothing is run; under the debug layer it aborts here.
  void fail(const std::string& message);
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  // False, and misuse, once committed.
  bool accepts(const char* call);
  void hold(Object* object) {
    if (retains_references) recording->hold(object);
  }

  const Ref<Queue> queue;
  const uint64_t id;  // never used twice in a process
  const bool retains_references;
  std::unique_ptr<Recording> recording;
  ComputeEncoder* open_encoder = nullptr;
  std::vector<MTL::HandlerFunction> scheduled_handlers, completed_handlers;
  std::string label;
  std::vector<std::string> groups;
  MTL::CommandBufferErrorOption error_options = MTL::CommandBufferErrorOptionNone;

  std::vector<Ref<EncoderInfo>> encoders;  // if the error options ask for them

  // What the dispatches would take on one thread; no longer counted once that is too much to run inline.
  uint64_t estimated_ns = 0;
  uint64_t dispatches = 0;  // counted for executors that check

  // Written by the scheduler.
  std::atomic<MTL::CommandBufferStatus> status{MTL::CommandBufferStatusNotEnqueued};
  std::atomic<bool> finished{false};  // completed, and its handlers have run
  bool started = false;
  CommandBuffer* next = nullptr;
  Clock::time_point committed_at, started_at, ended_at;
  Ref<Error> error;  // guarded by the scheduler's mutex
  std::atomic<bool> failed_{false};
  std::atomic<bool> abandoned{false};  // its dispatches are not run any more
};
SOFTMETAL_BRIDGE(MTL::CommandBuffer, CommandBuffer)

// The command buffers of a queue run one after another. The fields below are the scheduler's.
class Queue final : public Object {
 public:
  Queue(Device& owner, NS::UInteger limit) : device(owner), max_command_buffers(limit) {}
  const char* class_name() const override { return "MTL::CommandQueue"; }

  CommandBuffer* command_buffer(bool retains_references);

  void add_residency(ResidencySet* set);
  void remove_residency(ResidencySet* set);
  bool is_resident(const Allocation* allocation) const;

  Device& device;
  const NS::UInteger max_command_buffers;
  std::string label;

  enum class State : uint8_t {
    Idle,       // nothing to do, or the next command buffer is enqueued but not committed
    Ready,      // somebody has to take the next command
    Advancing,  // one thread, outside the mutex, is doing so
    Running,    // threads share the units of `active`
    Parked,     // waits for an event
  };
  State state = State::Idle;
  CommandBuffer* head = nullptr;  // enqueued command buffers in order, each retained
  CommandBuffer* tail = nullptr;
  Command* command = nullptr;  // the next one of head
  Dispatch* active = nullptr;  // when Running
  unsigned joined = 0;         // threads that may be using `active` or its predecessors since a barrier
  std::atomic<NS::UInteger> unfinished{0};  // command buffers handed out and not finished
  std::vector<std::unique_ptr<Recording>> spare;

 private:
  mutable std::mutex residency_mutex_;
  std::vector<Ref<ResidencySet>> residency_;
};
SOFTMETAL_BRIDGE(MTL::CommandQueue, Queue)

class QueueDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::CommandQueueDescriptor"; }
  Object* clone() override;
  NS::UInteger max_command_buffers = 64;
};
SOFTMETAL_BRIDGE(MTL::CommandQueueDescriptor, QueueDescriptor)

class CommandBufferDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::CommandBufferDescriptor"; }
  Object* clone() override;
  bool retained_references = true;
  MTL::CommandBufferErrorOption error_options = MTL::CommandBufferErrorOptionNone;
};
SOFTMETAL_BRIDGE(MTL::CommandBufferDescriptor, CommandBufferDescriptor)

// Serves as MTL::Event and MTL::SharedEvent.
class Event final : public Object {
 public:
  explicit Event(Device& owner) : device(owner) {}
  const char* class_name() const override { return "MTL::SharedEvent"; }

  struct Watcher {
    Queue* queue;  // parked, and kept alive by the command buffer it stopped in
    uint64_t value;
  };
  struct Listener {
    uint64_t value;
    MTL::SharedEventNotificationFunction function;
  };

  Device& device;
  std::string label;
  std::atomic<uint64_t> value{0};
  // Guarded by the scheduler's mutex.
  std::vector<Watcher> watchers;
  std::vector<Listener> listeners;
};
SOFTMETAL_BRIDGE(MTL::Event, Event)
inline MTL::SharedEvent* shared_face(Event* event) { return reinterpret_cast<MTL::SharedEvent*>(event); }

class EventListener final : public Object {
 public:
  static EventListener* immortal();
  const char* class_name() const override { return "MTL::SharedEventListener"; }
};
SOFTMETAL_BRIDGE(MTL::SharedEventListener, EventListener)

}  // namespace softmetal
