#include "metalloid/queue.h"

#include <signal.h>

#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "metalloid/device.h"
#include "metalloid/trace.h"

namespace metalloid {

namespace {

// Metal's default number of command buffers per queue, and how many of them may wait to be committed.
constexpr uint32_t kCommandBuffers = 64;
constexpr uint32_t kOpenCommandBuffers = 48;
constexpr std::chrono::milliseconds kSlice{50};

}  // namespace

void Watcher::add(uint64_t serial, std::function<void()> call) {
  std::lock_guard lock(mutex_);
  if (!running_) {
    // Signals belong to the threads of the program.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      std::thread(&Watcher::run, this).detach();
      running_ = true;
    } catch (const std::system_error& e) {
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw Error(text("Submission.add_done_callback: the system gave no thread: ", e.what()));
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  pending_.emplace(serial, std::move(call));
  added_.notify_one();
}

void Watcher::run() {
  Timeline& timeline = queue_.timeline();
  std::unique_lock lock(mutex_);
  for (;;) {
    added_.wait(lock, [this] { return !pending_.empty(); });
    AutoreleaseScope scope;
    const uint64_t completed = timeline.completed();
    if (completed < pending_.begin()->first) {
      lock.unlock();
      // One by one, as nobody can ask for anything before the next one any more.
      // Not through the queue: a trace tells of waits of the program.
      if (timeline.wait(completed + 1, std::chrono::steady_clock::now() + kSlice)) queue_.device().collect();
      lock.lock();
    }
    while (!pending_.empty() && timeline.seen(pending_.begin()->first)) {
      const std::function<void()> call = std::move(pending_.extract(pending_.begin()).mapped());
      lock.unlock();
      call();
      lock.lock();
    }
  }
}

void Watcher::forget_thread() {
  // Kept for ever: what they captured may not expect to be freed in this process.
  if (!pending_.empty()) new auto(std::exchange(pending_, {}));
  new (&added_) std::condition_variable;  // the old one may have had a thread in it
  running_ = false;
}

Queue::Queue(Device& device, std::string label, uint32_t index, FaultLog* log)
    : device_(device),
      label_(std::move(label)),
      index_(index),
      metal_(NS::TransferPtr(device.metal()->newCommandQueue(kCommandBuffers))),
      fence_(NS::TransferPtr(device.metal()->newFence())),
      telling_(NS::TransferPtr(MTL::CommandBufferDescriptor::alloc()->init())),
      timeline_(device.metal(), index, log),
      watcher_(*this) {
  if (!metal_ || !fence_) throw DeviceError("Device: Metal gave no command queue");
  telling_->setRetainedReferences(false);
  telling_->setErrorOptions(MTL::CommandBufferErrorOptionEncoderExecutionStatus);
  device.residency().attach(metal_.get());
  if (!label_.empty()) metal_->setLabel(ns_string(label_).get());
}

NS::SharedPtr<MTL::CommandBuffer> Queue::begin_command_buffer(bool named) {
  device_.faults().check_alive("Device.commands");
  if (open_.fetch_add(1, std::memory_order_relaxed) >= kOpenCommandBuffers) {
    open_.fetch_sub(1, std::memory_order_relaxed);
    throw Error(text("Device.commands: ", kOpenCommandBuffers,
                     " encoders of the queue have work that is not committed, needs fewer; commit or drop "
                     "some"));
  }
  bool taken = false;
  try {
    taken = timeline_.take_slot(kCommandBuffers);
    if (!taken) {
      BlockScope block;
      while (!taken) {
        const uint64_t next = timeline_.completed() + 1;
        if (next <= timeline_.last_committed()) wait(next);
        taken = timeline_.take_slot(kCommandBuffers);
      }
    }
    AutoreleaseScope scope;
    // Bookkeeping about encoders costs those who want it: who gave names, or debugs.
    const bool telling = named || device_.checked() || trace::on();
    auto buffer = NS::RetainPtr(telling ? metal_->commandBuffer(telling_.get())
                                        : metal_->commandBufferWithUnretainedReferences());
    if (!buffer) throw DeviceError("Device.commands: Metal gave no command buffer");
    return buffer;
  } catch (...) {
    if (taken) timeline_.return_slot();
    open_.fetch_sub(1, std::memory_order_relaxed);
    throw;
  }
}

void Queue::drop_command_buffer() {
  timeline_.return_slot();
  open_.fetch_sub(1, std::memory_order_relaxed);
}

uint64_t Queue::commit(const NS::SharedPtr<MTL::CommandBuffer>& buffer, std::span<const Used> used,
                       Kept kept) {
  uint64_t serial = timeline_.commit(buffer, used, std::move(kept));
  open_.fetch_sub(1, std::memory_order_relaxed);
  device_.committed();
  return serial;
}

bool Queue::wait(uint64_t serial, const Deadline& deadline) {
  std::optional<trace::Waiting> traced;
  if (trace::on() && !timeline_.seen(serial)) [[unlikely]]
    traced.emplace(trace::Mark::Kind::wait, this, serial);
  if (!timeline_.wait(serial, deadline)) return false;
  device_.collect();
  return true;
}

}  // namespace metalloid
