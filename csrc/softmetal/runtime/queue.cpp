#include "softmetal/runtime/queue.h"

#include "softmetal/runtime/counters.h"
#include "softmetal/runtime/encoder.h"
#include "softmetal/runtime/scheduler.h"

namespace softmetal {

static std::atomic<uint64_t> next_command_buffer{1};

CommandBuffer::CommandBuffer(Queue& owner, std::unique_ptr<Recording> record, bool retains)
    : queue(&owner),
      id(next_command_buffer.fetch_add(1, std::memory_order_relaxed)),
      retains_references(retains),
      recording(std::move(record)) {}

CommandBuffer::~CommandBuffer() {
  // Only one that was never committed still has its recording and its slot.
  if (recording) Scheduler::get().return_slot(*queue, std::move(recording));
}

std::string CommandBuffer::describe() const {
  return text("<MTL::CommandBuffer: %p> label = %s", static_cast<const void*>(this),
              label.empty() ? "<none>" : label.c_str());
}

void CommandBuffer::fail(const std::string& message) {
  if (debug_layer()) abort_with(message);
  Scheduler::get().fail(*this, message);
}

bool CommandBuffer::accepts(const char* call) {
  const char* problem = nullptr;
  if (status.load(std::memory_order_relaxed) >= MTL::CommandBufferStatusCommitted)
    problem = "called after commit, needs an uncommitted command buffer";
  else if (open_encoder)
    problem = "called while an encoder is open, needs endEncoding first";
  if (!problem) return true;
  fail(text("CommandBuffer::%s: %s%s", call, problem,
            label.empty() ? "" : (" (command buffer \"" + label + "\")").c_str()));
  return false;
}

CommandBuffer* Queue::command_buffer(bool retains_references) {
  std::unique_ptr<Recording> recording;
  if (!Scheduler::get().take_slot(*this, &recording)) {
    report_misuse(
        text("CommandQueue::commandBuffer: all %zu command buffers of the queue are in use and none is "
             "committed, needs one to be committed or released",
             static_cast<size_t>(max_command_buffers)));
    return nullptr;
  }
  if (!recording) recording = std::make_unique<Recording>();
  return new CommandBuffer(*this, std::move(recording), retains_references);
}

Object* QueueDescriptor::clone() {
  auto* made = new QueueDescriptor;
  made->max_command_buffers = max_command_buffers;
  return made;
}

Object* CommandBufferDescriptor::clone() {
  auto* made = new CommandBufferDescriptor;
  made->retained_references = retained_references;
  made->error_options = error_options;
  return made;
}

EventListener* EventListener::immortal() {
  static EventListener* const listener = [] {
    auto* made = new EventListener;
    made->make_immortal();
    return made;
  }();
  return listener;
}

static MTL::CommandQueue* new_queue(MTL::Device* device, NS::UInteger limit) {
  if (limit == 0) {
    report_misuse("Device::newCommandQueue: maxCommandBufferCount is 0, needs at least 1");
    return nullptr;
  }
  return face(new Queue(*impl(device), limit));
}

// A time of the command buffer, which is written before the status is reached.
static double time_after(const CommandBuffer& buffer, MTL::CommandBufferStatus status,
                         Clock::time_point CommandBuffer::* time) {
  if (buffer.status.load(std::memory_order_acquire) < status) return 0;
  return std::chrono::duration<double>((buffer.*time).time_since_epoch()).count();
}

// Adds an event command to a command buffer.
static void encode_event(CommandBuffer& buffer, const char* call, Command::Kind kind, Event* event,
                         uint64_t value) {
  needs_pool(call);
  if (!buffer.accepts(call)) return;
  if (!event) return buffer.fail(text("CommandBuffer::%s: event is null, needs an event", call));
  buffer.recording->hold(event);
  buffer.recording->append(buffer.recording->arena.make<EventCommand>(kind, *event, value));
}

}  // namespace softmetal

namespace MTL {

using softmetal::autoreleased;
using softmetal::face;
using softmetal::impl;
using softmetal::Scheduler;

CommandQueue* Device::newCommandQueue() { return softmetal::new_queue(this, 64); }
CommandQueue* Device::newCommandQueue(NS::UInteger maxCommandBufferCount) {
  return softmetal::new_queue(this, maxCommandBufferCount);
}
CommandQueue* Device::newCommandQueue(const MTL::CommandQueueDescriptor* descriptor) {
  return softmetal::new_queue(this, impl(descriptor)->max_command_buffers);
}

CommandQueueDescriptor* CommandQueueDescriptor::alloc() { return face(new softmetal::QueueDescriptor); }
CommandQueueDescriptor* CommandQueueDescriptor::init() { return this; }
NS::UInteger CommandQueueDescriptor::maxCommandBufferCount() const { return impl(this)->max_command_buffers; }
void CommandQueueDescriptor::setMaxCommandBufferCount(NS::UInteger maxCommandBufferCount) {
  impl(this)->max_command_buffers = maxCommandBufferCount;
}

CommandBuffer* CommandQueue::commandBuffer() { return face(autoreleased(impl(this)->command_buffer(true))); }
CommandBuffer* CommandQueue::commandBuffer(const MTL::CommandBufferDescriptor* descriptor) {
  auto* made = impl(this)->command_buffer(impl(descriptor)->retained_references);
  if (made) made->error_options = impl(descriptor)->error_options;
  return face(autoreleased(made));
}
CommandBuffer* CommandQueue::commandBufferWithUnretainedReferences() {
  return face(autoreleased(impl(this)->command_buffer(false)));
}
Device* CommandQueue::device() const { return face(&impl(this)->device); }
NS::String* CommandQueue::label() const { return softmetal::label_string(impl(this)->label); }
void CommandQueue::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }

CommandBufferDescriptor* CommandBufferDescriptor::alloc() {
  return face(new softmetal::CommandBufferDescriptor);
}
CommandBufferDescriptor* CommandBufferDescriptor::init() { return this; }
CommandBufferErrorOption CommandBufferDescriptor::errorOptions() const { return impl(this)->error_options; }
bool CommandBufferDescriptor::retainedReferences() const { return impl(this)->retained_references; }
void CommandBufferDescriptor::setErrorOptions(MTL::CommandBufferErrorOption errorOptions) {
  impl(this)->error_options = errorOptions;
}
void CommandBufferDescriptor::setRetainedReferences(bool retainedReferences) {
  impl(this)->retained_references = retainedReferences;
}

CFTimeInterval CommandBuffer::GPUEndTime() const {
  return softmetal::time_after(*impl(this), CommandBufferStatusCompleted,
                               &softmetal::CommandBuffer::ended_at);
}
CFTimeInterval CommandBuffer::GPUStartTime() const {
  return softmetal::time_after(*impl(this), CommandBufferStatusScheduled,
                               &softmetal::CommandBuffer::started_at);
}
CFTimeInterval CommandBuffer::kernelEndTime() const { return GPUStartTime(); }
CFTimeInterval CommandBuffer::kernelStartTime() const {
  return softmetal::time_after(*impl(this), CommandBufferStatusScheduled,
                               &softmetal::CommandBuffer::committed_at);
}

void CommandBuffer::addCompletedHandler(const MTL::HandlerFunction& function) {
  if (impl(this)->status.load() < CommandBufferStatusCommitted)
    impl(this)->completed_handlers.push_back(function);
  else
    impl(this)->accepts("addCompletedHandler");
}
void CommandBuffer::addScheduledHandler(const MTL::HandlerFunction& function) {
  if (impl(this)->status.load() < CommandBufferStatusCommitted)
    impl(this)->scheduled_handlers.push_back(function);
  else
    impl(this)->accepts("addScheduledHandler");
}

CommandQueue* CommandBuffer::commandQueue() const { return face(impl(this)->queue.get()); }
Device* CommandBuffer::device() const { return face(&impl(this)->queue->device); }

ComputeCommandEncoder* CommandBuffer::computeCommandEncoder(
    const MTL::ComputePassDescriptor* computePassDescriptor) {
  auto* buffer = impl(this);
  const auto* pass = impl(computePassDescriptor);
  if (!pass) {
    buffer->fail("CommandBuffer::computeCommandEncoder: computePassDescriptor is null, needs one");
    return computeCommandEncoder();
  }
  ComputeCommandEncoder* encoder = computeCommandEncoder(pass->type);
  if (buffer->open_encoder == impl(encoder)) pass->sample(*buffer, *impl(encoder));
  return encoder;
}
ComputeCommandEncoder* CommandBuffer::computeCommandEncoder() {
  return computeCommandEncoder(DispatchTypeSerial);
}
ComputeCommandEncoder* CommandBuffer::computeCommandEncoder(MTL::DispatchType dispatchType) {
  auto* buffer = impl(this);
  const bool accepted = buffer->accepts("computeCommandEncoder");
  auto* encoder = autoreleased(new softmetal::ComputeEncoder(*buffer, dispatchType));
  // A second encoder can be called, as Metal's callers expect, but encodes into a command buffer that failed.
  if (accepted) {
    buffer->open_encoder = encoder;
    if (buffer->error_options & CommandBufferErrorOptionEncoderExecutionStatus) {
      buffer->encoders.push_back(softmetal::Ref<softmetal::EncoderInfo>::adopt(new softmetal::EncoderInfo));
      encoder->info = buffer->encoders.back().get();
    }
  }
  return face(encoder);
}

const NS::ErrorUserInfoKey CommandBufferEncoderInfoErrorKey =
    softmetal::constant_string("MTLCommandBufferEncoderInfoErrorKey");

NS::Array* CommandBufferEncoderInfo::debugSignposts() const { return face(impl(this)->signposts.get()); }
CommandEncoderErrorState CommandBufferEncoderInfo::errorState() const { return impl(this)->state; }
NS::String* CommandBufferEncoderInfo::label() const { return softmetal::label_string(impl(this)->label); }

void CommandBuffer::encodeSignalEvent(const MTL::Event* event, uint64_t value) {
  softmetal::encode_event(*impl(this), "encodeSignalEvent", softmetal::Command::Kind::Signal, impl(event),
                          value);
}
void CommandBuffer::encodeWait(const MTL::Event* event, uint64_t value) {
  softmetal::encode_event(*impl(this), "encodeWait", softmetal::Command::Kind::Wait, impl(event), value);
}

void CommandBuffer::enqueue() {
  auto* buffer = impl(this);
  if (buffer->status.load() == CommandBufferStatusNotEnqueued)
    Scheduler::get().enqueue(*buffer);
  else
    buffer->fail("CommandBuffer::enqueue: called twice or after commit, needs a new command buffer");
}

void CommandBuffer::commit() {
  softmetal::needs_pool("CommandBuffer::commit");
  auto* buffer = impl(this);
  if (buffer->status.load() >= CommandBufferStatusCommitted)
    return buffer->fail("CommandBuffer::commit: called twice, needs a new command buffer");
  buffer->accepts("commit");
  Scheduler::get().commit(*buffer);
}

void CommandBuffer::waitUntilCompleted() {
  softmetal::needs_pool("waitUntilCompleted");
  auto* buffer = impl(this);
  if (buffer->status.load() < CommandBufferStatusCommitted)
    return buffer->fail(
        "CommandBuffer::waitUntilCompleted: called before commit, needs a committed command buffer");
  Scheduler::get().help_until([buffer] { return buffer->finished.load(std::memory_order_acquire); },
                              buffer->queue.get());
}
void CommandBuffer::waitUntilScheduled() {
  auto* buffer = impl(this);
  if (buffer->status.load() < CommandBufferStatusCommitted)
    return buffer->fail(
        "CommandBuffer::waitUntilScheduled: called before commit, needs a committed command buffer");
  Scheduler::get().help_until(
      [buffer] { return buffer->status.load(std::memory_order_acquire) >= CommandBufferStatusScheduled; },
      buffer->queue.get());
}

NS::Error* CommandBuffer::error() const {
  auto found = Scheduler::get().error_of(*impl(this));
  if (!found) return nullptr;
  found->retain();
  return face(autoreleased(found.get()));
}
CommandBufferErrorOption CommandBuffer::errorOptions() const { return impl(this)->error_options; }
CommandBufferStatus CommandBuffer::status() const {
  return impl(this)->status.load(std::memory_order_acquire);
}
bool CommandBuffer::retainedReferences() const { return impl(this)->retains_references; }

NS::String* CommandBuffer::label() const { return softmetal::label_string(impl(this)->label); }
void CommandBuffer::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }
void CommandBuffer::pushDebugGroup(const NS::String* string) {
  if (string)
    impl(this)->groups.push_back(softmetal::str(string));
  else
    impl(this)->fail("CommandBuffer::pushDebugGroup: string is null, needs a name");
}
void CommandBuffer::popDebugGroup() {
  if (impl(this)->groups.empty())
    impl(this)->fail("CommandBuffer::popDebugGroup: no group is open, needs pushDebugGroup first");
  else
    impl(this)->groups.pop_back();
}

Event* Device::newEvent() { return face(new softmetal::Event(*impl(this))); }
SharedEvent* Device::newSharedEvent() {
  softmetal::needs_pool("newSharedEvent");
  return softmetal::shared_face(new softmetal::Event(*impl(this)));
}

Device* Event::device() const { return face(&impl(this)->device); }
NS::String* Event::label() const { return softmetal::label_string(impl(this)->label); }
void Event::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }

SharedEventListener* SharedEventListener::alloc() { return face(new softmetal::EventListener); }
SharedEventListener* SharedEventListener::init() { return this; }
SharedEventListener* SharedEventListener::sharedListener() {
  return face(softmetal::EventListener::immortal());
}

void SharedEvent::notifyListener(const MTL::SharedEventListener* listener, uint64_t value,
                                 const MTL::SharedEventNotificationFunction& function) {
  if (!listener) return softmetal::report_misuse("SharedEvent::notifyListener: listener is null, needs one");
  Scheduler::get().listen(*impl(this), value, function);
}
void SharedEvent::setSignaledValue(uint64_t signaledValue) {
  softmetal::needs_pool("setSignaledValue");
  Scheduler::get().signal(*impl(this), signaledValue);
}
uint64_t SharedEvent::signaledValue() const { return impl(this)->value.load(std::memory_order_acquire); }
bool SharedEvent::waitUntilSignaledValue(uint64_t value, uint64_t milliseconds) {
  softmetal::needs_pool("waitUntilSignaledValue");
  auto* event = impl(this);
  const auto reached = [event, value] { return event->value.load(std::memory_order_acquire) >= value; };
  if (reached()) return true;
  // Beyond a hundred years is for ever.
  const bool endless = milliseconds > uint64_t{1000} * 3600 * 24 * 365 * 100;
  return Scheduler::get().help_until(reached, nullptr,
                                     endless
                                         ? Scheduler::Clock::time_point::max()
                                         : Scheduler::Clock::now() + std::chrono::milliseconds(milliseconds));
}

}  // namespace MTL
