// What the host encodes, commits and waits for, and when the device ran it, for as long as a trace is on.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metalloid/kernel.h"
#include "metalloid/metal.h"
#include "metalloid/timeline.h"

namespace metalloid {

class Queue;

namespace trace {

// Times are nanoseconds of the steady clock. What never happened has kNever.
using Time = int64_t;
inline constexpr Time kNever = -1;

struct Span {
  Time begin = kNever, end = kNever;
};

// Strings are places in Report::strings, threads and queues places in the lists there.
struct Dispatch {
  uint32_t name, kernel, label, group;
  uint32_t thread;
  uint32_t command_buffer;  // in Report::command_buffers
  Extent grid, threads;
  bool by_threads;         // `grid` is
  bool barrier;            // one stands before it
  uint64_t reads, writes;  // bytes
  Span encoded, ran;
};

struct CommandBuffer {
  enum class Status : uint8_t { completed, error, unfinished };

  uint32_t label, reason;
  uint32_t thread, queue;
  uint64_t serial;
  Status status;
  Span committed, ran;
};

// What else a thread of the host did.
struct Mark {
  enum class Kind : uint8_t { barrier, signal, wait_for, host_signal, host_wait, wait };

  Kind kind;
  uint32_t thread;
  uint32_t queue;  // kNone: of none
  uint64_t value;  // of the event; for `wait` the serial
  Span span;
};

struct Thread {
  uint64_t ident;  // pthread_self()
  std::string name;
};

struct Report {
  static constexpr uint32_t kNone = ~uint32_t{0};

  Span span;
  std::vector<std::string> strings;
  std::vector<Thread> threads;
  std::vector<const Queue*> queues;
  std::vector<CommandBuffer> command_buffers;
  std::vector<Dispatch> dispatches;
  std::vector<Mark> marks;
  uint64_t dropped = 0;    // for want of room
  uint64_t unsampled = 0;  // dispatches whose times the device has no room for
};

inline constexpr uint64_t kMostEvents = 1'000'000;

// At most one trace is on at a time, else start() throws Error. It has what is encoded into command buffers
// that are opened and committed while it is on: `most` events, and the number of those that were too many.
void start(uint64_t most = kMostEvents);
// Waits for what is in flight, as long as something ends every `patience`.
void finish(std::chrono::milliseconds patience);
// Ends the trace. What has not ended on the device is unfinished. Throws Error if there is none, as in the
// child of a fork.
Report stop();

inline std::atomic<bool> active{false};
inline bool on() { return active.load(std::memory_order_relaxed); }

// The calling thread's name, asked for once in a trace; empty: the system's. Called with no lock held.
void set_thread_namer(std::string (*namer)());

class Session;

// A moment, or the length of a wait, on the calling thread.
void mark(Mark::Kind kind, uint64_t value);
class Waiting {
 public:
  Waiting(Mark::Kind kind, const Queue* queue, uint64_t value);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  const Mark::Kind kind_;
  const Queue* const queue_;
  const uint64_t value_;
  const Time begin_;  // kNever: no trace was on
};

// What is known of a dispatch when it has been encoded.
struct Encoded {
  std::string_view name, kernel, label;
  Extent grid, threads;
  bool by_threads;
  uint64_t reads = 0, writes = 0;
};

// Of one command buffer, from its opening on. Belongs to who encodes.
class Recording : public std::enable_shared_from_this<Recording> {
 public:
  // Null where no trace is on.
  static std::shared_ptr<Recording> begin(Queue& queue, const std::string& label);
  Recording(std::shared_ptr<Session> session, Queue& queue, uint32_t label);
  ~Recording();

  // An encoder for one dispatch, with samples taken where it starts and ends; autoreleased.
  MTL::ComputeCommandEncoder* encoder(MTL::CommandBuffer* buffer, MTL::DispatchType type);
  // The dispatch in that encoder.
  void dispatch(const Encoded& encoded, std::span<const std::string> groups, std::string_view group);
  void barrier();
  void event(Mark::Kind kind, uint64_t value);
  // Whether something that is not for the trace's sake came between two encoders, once.
  bool take_split() { return std::exchange(split_, false); }

  // To be called just before the commit and just after it. What commits() returns has to live until the
  // command buffer is complete.
  std::shared_ptr<const void> commits();
  void committed(const NS::SharedPtr<MTL::CommandBuffer>& buffer, uint64_t serial);

 private:
  friend class Session;
  class Samples;
  friend void finish(std::chrono::milliseconds patience);
  struct Sampled {
    std::shared_ptr<Samples> samples;
    uint32_t first;  // of two
  };

  void note(Mark::Kind kind, uint64_t value);
  bool complete() const;
  // Asks the device for the times. Waits for a moment at most, if complete.
  void resolve();

  const std::shared_ptr<Session> session_;
  Queue& queue_;
  NS::SharedPtr<MTL::CommandBuffer> buffer_;
  CommandBuffer info_{};
  bool split_ = false;
  bool barrier_ = false;
  Time encoding_ = kNever;
  Sampled next_{};
  std::vector<Dispatch> dispatches_;
  std::vector<Sampled> sampled_;  // of each
  std::vector<std::shared_ptr<Samples>> used_;
  std::vector<Mark> marks_;
  uint64_t events_ = 0;
};

}  // namespace trace
}  // namespace metalloid
