#include "softmetal/runtime/scheduler.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "softmetal/runtime/arguments.h"
#include "softmetal/runtime/softmetal.h"

namespace softmetal {

namespace {

// Below this, and in one chunk, a dispatch is tiny: handing it to another thread would take longer than it
// does.
constexpr uint64_t kTinyNanoseconds = 5'000;
// Of a kernel's tiny dispatches every so many are measured, as reading the clock may take as long as one.
constexpr uint32_t kTinyMeasured = 16;
// How many tiny dispatches a thread takes at once where threads share work.
constexpr int kTinyBatch = 64;
// How long a thread looks for work before it sleeps: about what waking it would cost.
constexpr auto kSpin = std::chrono::microseconds(20);
constexpr auto kUncommittedPatience = std::chrono::seconds(2);
constexpr size_t kSpareRecordings = 8;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

unsigned count_threads() {
  if (const char* wanted = std::getenv("METALLOID_NUM_THREADS"); wanted && *wanted) {
    char* end = nullptr;
    const long count = std::strtol(wanted, &end, 10);
    if (*end == '\0' && count >= 1 && count <= 4096) return static_cast<unsigned>(count);
    std::fprintf(stderr, "softmetal: METALLOID_NUM_THREADS is \"%s\", needs a number from 1 to 4096\n",
                 wanted);
  }
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    return static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
  return std::max(1u, std::thread::hardware_concurrency());
}

// The dispatch after `command` when no barrier keeps them apart.
Dispatch* independent(Command* command) {
  if (!command || command->kind != Command::Kind::Dispatch) return nullptr;
  auto* dispatch = static_cast<Dispatch*>(command);
  return dispatch->barrier ? nullptr : dispatch;
}

// Learns what a unit costs, so that the next dispatch of this kernel is split better.
void learn(const Dispatch& dispatch, uint64_t units, Scheduler::Clock::time_point start,
           Scheduler::Clock::time_point end) {
  const auto ns = std::chrono::duration<float, std::nano>(end - start).count() / static_cast<float>(units);
  const Pipeline& pipeline = *dispatch.pipeline;
  const float known = pipeline.unit_ns.load(std::memory_order_relaxed);
  // The limit keeps one unlucky run, interrupted by the system, from counting for much.
  pipeline.unit_ns.store(known > 0 ? known + (std::min(ns, 4 * known) - known) * 0.25f : ns,
                         std::memory_order_relaxed);
  // After a surprise the next one is measured too.
  pipeline.unmeasured.store(ns <= 2 * known ? kTinyMeasured - 1 : 0, std::memory_order_relaxed);
}

// Whether it is time to measure a tiny dispatch of this kernel.
bool measures(const Pipeline& pipeline) {
  const uint32_t left = pipeline.unmeasured.load(std::memory_order_relaxed);
  if (left == 0) return true;
  pipeline.unmeasured.store(left - 1, std::memory_order_relaxed);
  return false;
}

// The time that dispatches take which a thread runs one after the other.
class Watch {
 public:
  using time_point = Scheduler::Clock::time_point;

  // Something ended at this moment, or has to begin.
  void set(time_point now) {
    mark_ = now;
    current_ = true;
  }
  time_point now() {
    if (!current_) set(Scheduler::Clock::now());
    return mark_;
  }
  void run(Executor& executor, const Dispatch& dispatch) {
    // With nothing behind it the end is read anyway.
    const bool measured = !dispatch.tiny || measures(*dispatch.pipeline) || (current_ && !dispatch.next);
    const time_point start = measured ? now() : time_point();
    executor.run(dispatch, 0, dispatch.units);
    current_ = false;
    if (measured) learn(dispatch, dispatch.units, start, now());
  }

 private:
  time_point mark_;
  bool current_ = false;
};

void start_thread(void (Scheduler::*body)(), Scheduler* scheduler) {
  // Signals belong to the threads of the program, but for what the code here runs into itself.
  sigset_t all, before;
  sigfillset(&all);
  for (const int fault : {SIGFPE, SIGSEGV, SIGBUS, SIGILL, SIGTRAP}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([body, scheduler] { (scheduler->*body)(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

unsigned thread_count() { return Scheduler::get().threads(); }

Scheduler& Scheduler::get() {
  static Scheduler* const scheduler = new Scheduler;
  return *scheduler;
}

Scheduler::Scheduler() : threads_(count_threads()) {
  pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

// Command buffers -----------------------------------------------------------------------------------

void Scheduler::append(CommandBuffer& buffer) {
  Queue& queue = *buffer.queue;
  buffer.retain();
  (queue.tail ? queue.tail->next : queue.head) = &buffer;
  queue.tail = &buffer;
}

void Scheduler::enqueue(CommandBuffer& buffer) {
  Lock lock(mutex_);
  append(buffer);
  buffer.status.store(MTL::CommandBufferStatusEnqueued, std::memory_order_relaxed);
}

bool Scheduler::runs_inline(const CommandBuffer& buffer) const {
  return buffer.estimated_ns <= kInlineNanoseconds && !buffer.queue->device.executor.only_workers();
}

static std::atomic<MTL::CommandBufferError> next_error{MTL::CommandBufferErrorNone};

void fail_next_command_buffer(MTL::CommandBufferError code) { next_error.store(code); }

static std::atomic<std::chrono::milliseconds> status_delay{};

void delay_status(std::chrono::milliseconds delay) { status_delay.store(delay); }

// With the mutex held.
static void fail_as_told(CommandBuffer& buffer) {
  const auto code = next_error.exchange(MTL::CommandBufferErrorNone);
  if (code == MTL::CommandBufferErrorNone || buffer.error) return;
  buffer.error = Ref<Error>::adopt(
      new Error("MTLCommandBufferErrorDomain", static_cast<int64_t>(code),
                text("The command buffer was told to fail (%08x)", static_cast<unsigned>(code))));
  buffer.abandoned.store(true, std::memory_order_relaxed);
  buffer.failed_.store(true, std::memory_order_release);
}

void Scheduler::commit(CommandBuffer& buffer) {
  Lock lock(mutex_);
  Queue& queue = *buffer.queue;
  if (buffer.status.load(std::memory_order_relaxed) == MTL::CommandBufferStatusNotEnqueued) append(buffer);
  if (next_error.load(std::memory_order_relaxed)) [[unlikely]]
    fail_as_told(buffer);
  buffer.committed_at = Clock::now();
  buffer.status.store(MTL::CommandBufferStatusCommitted, std::memory_order_release);
  // Otherwise whoever moves the queue on gets to this command buffer in its turn.
  if (queue.state != Queue::State::Idle || queue.head != &buffer) return;
  set_state(queue, Queue::State::Advancing);
  advance(queue, lock, runs_inline(buffer) ? Role::Inline : Role::Committer, Until{});
}

void Scheduler::fail(CommandBuffer& buffer, const std::string& message) {
  auto error =
      Ref<Error>::adopt(new Error("MTLCommandBufferErrorDomain", MTL::CommandBufferErrorInternal, message));
  Lock lock(mutex_);
  if (buffer.error) return;
  std::swap(buffer.error, error);
  buffer.abandoned.store(true, std::memory_order_relaxed);
  buffer.failed_.store(true, std::memory_order_release);
  if (buffer.status.load(std::memory_order_relaxed) == MTL::CommandBufferStatusCompleted)
    buffer.status.store(MTL::CommandBufferStatusError, std::memory_order_release);
}

void Scheduler::report(CommandBuffer& buffer, const Dispatch& dispatch, Executor::Outcome outcome) {
  if (!outcome.error) return;
  Lock lock(mutex_);
  if (dispatch.info) dispatch.info->state = MTL::CommandEncoderErrorStateFaulted;
  std::swap(buffer.error, outcome.error);
  if (outcome.fatal) buffer.abandoned.store(true, std::memory_order_relaxed);
  buffer.failed_.store(true, std::memory_order_release);
}

Ref<Error> Scheduler::error_of(const CommandBuffer& buffer) {
  if (!buffer.failed()) return nullptr;
  Lock lock(mutex_);
  return buffer.error;
}

bool Scheduler::take_slot(Queue& queue, std::unique_ptr<Recording>* recording) {
  const auto free = [&queue] {
    return queue.unfinished.load(std::memory_order_relaxed) < queue.max_command_buffers;
  };
  const Until until{&call<decltype(free)>, &free};
  Lock lock(mutex_);
  Clock::time_point give_up{};
  while (!free()) {
    if (Queue* next = pick(&queue, false)) {
      work_on(*next, lock, until);
      continue;
    }
    const bool moving = queue.state != Queue::State::Idle;
    if (moving)
      give_up = {};
    else if (give_up == Clock::time_point{})
      give_up = Clock::now() + kUncommittedPatience;
    else if (Clock::now() >= give_up)
      return false;
    ++waiting_;
    if (moving)
      done_.wait(lock);
    else
      done_.wait_until(lock, give_up);
    --waiting_;
  }
  queue.unfinished.fetch_add(1, std::memory_order_relaxed);
  if (!queue.spare.empty()) {
    *recording = std::move(queue.spare.back());
    queue.spare.pop_back();
  }
  return true;
}

void Scheduler::return_slot(Queue& queue, std::unique_ptr<Recording> recording) {
  if (recording) recording->clear();
  Lock lock(mutex_);
  queue.unfinished.fetch_sub(1, std::memory_order_relaxed);
  if (recording && queue.spare.size() < kSpareRecordings) queue.spare.push_back(std::move(recording));
  notify_waiters();
}

// Events --------------------------------------------------------------------------------------------

void Scheduler::signal(Event& event, uint64_t value) {
  Lock lock(mutex_);
  event.value.store(value, std::memory_order_release);
  uint64_t resumed = 0;
  std::erase_if(event.watchers, [&](const Event::Watcher& watcher) {
    if (watcher.value > value) return false;
    set_state(*watcher.queue, Queue::State::Ready);
    ++resumed;
    return true;
  });
  std::erase_if(event.listeners, [&](Event::Listener& listener) {
    if (listener.value > value) return false;
    post({[target = Ref<Event>(&event), function = std::move(listener.function), value] {
            function(shared_face(target.get()), value);
          },
          nullptr});
    return true;
  });
  if (resumed) publish(resumed);
  notify_waiters();
}

void Scheduler::listen(Event& event, uint64_t value, MTL::SharedEventNotificationFunction function) {
  Lock lock(mutex_);
  const uint64_t reached = event.value.load(std::memory_order_relaxed);
  if (reached < value) {
    event.listeners.push_back({value, std::move(function)});
    return;
  }
  post({[target = Ref<Event>(&event), function = std::move(function), reached] {
          function(shared_face(target.get()), reached);
        },
        nullptr});
}

// Stops the queue at an event that has not been signalled; false when it has.
bool Scheduler::park(Queue& queue, const EventCommand& wait, Lock&) {
  if (wait.event.value.load(std::memory_order_relaxed) >= wait.value) return false;
  wait.event.watchers.push_back({&queue, wait.value});
  set_state(queue, Queue::State::Parked);
  return true;
}

// The state machine ---------------------------------------------------------------------------------

void Scheduler::set_state(Queue& queue, Queue::State state) {
  const auto is_busy = [](Queue::State s) { return s != Queue::State::Idle && s != Queue::State::Parked; };
  const bool was = is_busy(queue.state), is = is_busy(state);
  queue.state = state;
  if (was == is) return;
  if (is) {
    busy_.push_back(&queue);
    return;
  }
  busy_.erase(std::find(busy_.begin(), busy_.end(), &queue));
  notify_waiters();
}

// A queue that the calling thread can do something for.
Queue* Scheduler::pick(Queue* preferred, bool worker) {
  const auto useful = [this, worker](const Queue& queue) {
    if (!worker && queue.device.executor.only_workers()) return false;
    if (queue.state == Queue::State::Ready) return true;
    if (queue.state != Queue::State::Running || queue.joined >= threads_) return false;
    return queue.joined == 0 || !queue.active->exhausted() || independent(queue.active->next);
  };
  if (preferred && useful(*preferred)) return preferred;
  for (Queue* queue : busy_)
    if (useful(*queue)) return queue;
  return nullptr;
}

void Scheduler::work_on(Queue& queue, Lock& lock, const Until& until) {
  if (queue.state == Queue::State::Running) {
    run_active(queue, lock, until);
  } else {
    set_state(queue, Queue::State::Advancing);
    advance(queue, lock, Role::Helper, until);
  }
}

// Settles how a dispatch is run, once everything before it has ended.
static void prepare(Dispatch& dispatch, Executor& executor, unsigned threads) {
  if (dispatch.indirect) {
    uint32_t groups[3];
    std::memcpy(groups, dispatch.indirect, sizeof(groups));
    // A grid that no GPU could count is not run either.
    if (!set_threadgroups(dispatch, groups[0], groups[1], groups[2])) set_threadgroups(dispatch, 0, 0, 0);
    dispatch.units = count_units(dispatch);
  }
  dispatch.chunk = dispatch.units ? executor.chunk(dispatch, threads) : 1;
  dispatch.tiny = dispatch.chunk >= dispatch.units && executor.estimate_ns(dispatch) < kTinyNanoseconds;
}

// Claims a CPU that no other thread of ours runs on, moving there if need be, and returns it; -1 when all are
// taken. Kernels that pack tasks, as virtual machines' may, wake a thread on the CPU of the one that wakes it
// and leave the two there.
int Scheduler::settle(Lock& lock) {
  const int here = sched_getcpu();
  if (here < 0 || here >= CPU_SETSIZE) return -1;
  if (running_on_[here] == 0) {
    ++running_on_[here];
    return here;
  }
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return -1;
  int there = 0;
  while (there < CPU_SETSIZE && (!CPU_ISSET(there, &allowed) || running_on_[there] != 0)) ++there;
  if (there == CPU_SETSIZE) return -1;
  ++running_on_[there];
  lock.unlock();
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(there, &only);
  if (sched_setaffinity(0, sizeof(only), &only) == 0) sched_setaffinity(0, sizeof(allowed), &allowed);
  lock.lock();
  return there;
}

// How many threads could do something for a dispatch and for what may run beside it.
static uint64_t useful_threads(const Dispatch& dispatch) {
  const uint64_t chunks = dispatch.exhausted() ? 0 : (dispatch.units + dispatch.chunk - 1) / dispatch.chunk;
  return chunks + (independent(dispatch.next) ? 1 : 0);
}

// Makes the dispatch after the active one, which no barrier keeps from it, the active one, and returns it.
// Tiny ones on the way are the calling thread's: those from *tiny up to the result, which may be tiny itself.
Dispatch* Scheduler::next_active(Queue& queue, Dispatch** tiny) {
  Dispatch* next = independent(queue.active->next);
  if (!next) return nullptr;
  prepare(*next, queue.device.executor, threads_);
  *tiny = next;
  for (int taken = 0; next->tiny; ++taken) {
    Dispatch* const after = taken < kTinyBatch ? independent(next->next) : nullptr;
    if (!after) {
      next->claimed.store(next->units, std::memory_order_relaxed);
      break;
    }
    prepare(*after, queue.device.executor, threads_);
    next = after;
  }
  queue.active = next;
  uint64_t others = useful_threads(*next);
  if (others && !(*tiny)->tiny) --others;
  if (others) publish(others);
  return next;
}

// Shares the work of the active dispatch, and of those after it up to the next barrier. Nothing that a thread
// has joined for can end before that thread has left.
void Scheduler::run_active(Queue& queue, Lock& lock, const Until& until) {
  Executor& executor = queue.device.executor;
  ++queue.joined;
  const int cpu = settle(lock);
  bool stopped = false;
  for (Dispatch* dispatch = queue.active; !stopped; dispatch = queue.active) {
    lock.unlock();
    auto start = Clock::now();
    for (;;) {
      const uint64_t begin = dispatch->claimed.fetch_add(dispatch->chunk, std::memory_order_relaxed);
      if (begin >= dispatch->units) break;
      const uint64_t end = std::min(begin + dispatch->chunk, dispatch->units);
      executor.run(*dispatch, begin, end);
      const auto now = Clock::now();
      learn(*dispatch, end - begin, start, now);
      start = now;
      if ((stopped = until.reached())) break;
    }
    lock.lock();
    if (stopped) break;
    if (queue.active != dispatch) continue;
    Dispatch* tiny = nullptr;
    Dispatch* const next = next_active(queue, &tiny);
    if (!next) break;
    if (!tiny->tiny) continue;
    lock.unlock();
    Watch watch;
    for (; tiny != next; tiny = static_cast<Dispatch*>(tiny->next))
      if (tiny->units) watch.run(executor, *tiny);
    if (next->tiny && next->units) watch.run(executor, *next);
    stopped = until.reached();
    lock.lock();
  }
  --queue.joined;
  if (cpu >= 0) --running_on_[cpu];
  if (queue.joined == 0 && queue.active->exhausted() && !independent(queue.active->next)) {
    queue.command = queue.active->next;
    queue.active = nullptr;
    set_state(queue, Queue::State::Advancing);
    advance(queue, lock, Role::Helper, until);
  } else if (stopped) {
    publish(1);  // somebody else has to go on
  }
}

// Tells of an encoder that ends here, or does not begin, as its command buffer has failed.
static void skip(const Dispatch& dispatch) {
  EncoderInfo* info = dispatch.info;
  if (info && info->state == MTL::CommandEncoderErrorStateUnknown)
    info->state = &dispatch == info->first ? MTL::CommandEncoderErrorStatePending
                                           : MTL::CommandEncoderErrorStateAffected;
}

// The error of a command buffer that has ended, with what became of its encoders.
static Ref<Error> with_encoders(const Error& error, const CommandBuffer& buffer) {
  const auto infos = Ref<Array>::adopt(new Array);
  for (const Ref<EncoderInfo>& info : buffer.encoders) {
    if (info->state == MTL::CommandEncoderErrorStateUnknown)
      info->state = MTL::CommandEncoderErrorStateCompleted;
    infos->add(info.get());
  }
  // Others may be reading the error that there is.
  auto made = Ref<Error>::adopt(new Error);
  made->domain = error.domain;
  made->code = error.code;
  made->info = Ref<Dictionary>::adopt(new Dictionary);
  if (error.info) made->info->items = error.info->items;
  made->info->set(impl(MTL::CommandBufferEncoderInfoErrorKey), infos.get());
  return made;
}

// Takes commands one by one until the queue has something to share, waits for an event, or is empty. Only the
// thread that set the state to Advancing is here, so commands run without the mutex.
void Scheduler::advance(Queue& queue, Lock& lock, Role role, const Until& until) {
  const Ref<Queue> keep(&queue);  // the last command buffer may own the queue
  Executor& executor = queue.device.executor;
  Watch watch;
  for (;;) {
    CommandBuffer* buffer = queue.head;
    if (!buffer || buffer->status.load(std::memory_order_relaxed) < MTL::CommandBufferStatusCommitted) {
      set_state(queue, Queue::State::Idle);
      return;
    }
    // What is committed to an idle queue begins at once.
    watch.set(role == Role::Inline ? buffer->committed_at : Clock::now());
    if (!buffer->started) begin(*buffer, watch.now(), lock);
    Command* command = queue.command;
    lock.unlock();
    for (; command; command = command->next) {
      if (command->kind == Command::Kind::Sample) {
        if (buffer->abandoned.load(std::memory_order_relaxed)) continue;
        if (role == Role::Committer) {
          // Whoever takes the sample at the begin of an encoder goes on to run it.
          lock.lock();
          queue.command = command;
          set_state(queue, Queue::State::Ready);
          publish(1);
          return;
        }
        watch.set(Clock::now());
        static_cast<SampleCommand*>(command)->into.store(
            static_cast<uint64_t>(std::chrono::nanoseconds(watch.now().time_since_epoch()).count()),
            std::memory_order_relaxed);
        continue;
      }
      if (command->kind != Command::Kind::Dispatch) {
        // Events are honoured even in a command buffer that failed: others wait for them.
        auto& with = *static_cast<EventCommand*>(command);
        if (command->kind == Command::Kind::Signal) {
          signal(with.event, with.value);
        } else if (with.event.value.load(std::memory_order_acquire) < with.value) {
          lock.lock();
          queue.command = command;
          if (park(queue, with, lock)) return;
          lock.unlock();
        }
        continue;
      }
      auto& dispatch = *static_cast<Dispatch*>(command);
      if (buffer->abandoned.load(std::memory_order_relaxed)) {
        skip(dispatch);
        continue;
      }
      prepare(dispatch, executor, threads_);
      if (dispatch.units == 0) continue;
      const bool whole = executor.only_workers();
      const bool single =
          whole || dispatch.tiny || (dispatch.chunk >= dispatch.units && !independent(dispatch.next));
      if (role == Role::Inline || (role == Role::Helper && single)) {
        watch.run(executor, dispatch);
        if (whole) report(*buffer, dispatch, executor.finish(dispatch, *buffer));
        if (role == Role::Inline || !until.reached()) continue;
        lock.lock();
        queue.command = dispatch.next;
        set_state(queue, Queue::State::Ready);
        publish(1);
        return;
      }
      lock.lock();
      queue.command = command;
      if (single) {
        set_state(queue, Queue::State::Ready);
        publish(1);
      } else {
        queue.active = &dispatch;
        set_state(queue, Queue::State::Running);
        const uint64_t threads = useful_threads(dispatch);
        publish(role == Role::Helper ? std::max<uint64_t>(threads - 1, 1) : threads);
      }
      return;
    }
    finish(queue, watch.now(), lock);
    // What others committed meanwhile is not for this thread to run.
    if (role == Role::Inline) role = Role::Committer;
    if (role == Role::Helper && queue.head && until.reached()) {
      set_state(queue, Queue::State::Ready);
      publish(1);
      return;
    }
  }
}

void Scheduler::begin(CommandBuffer& buffer, Clock::time_point now, Lock&) {
  buffer.started = true;
  buffer.queue->command = buffer.recording ? buffer.recording->first : nullptr;
  buffer.started_at = now;
  if (buffer.abandoned.load(std::memory_order_relaxed))
    for (const Ref<EncoderInfo>& info : buffer.encoders)
      if (info->state == MTL::CommandEncoderErrorStateUnknown)
        info->state = MTL::CommandEncoderErrorStatePending;
  buffer.status.store(MTL::CommandBufferStatusScheduled, std::memory_order_release);
  if (!buffer.scheduled_handlers.empty())
    post({[target = Ref<CommandBuffer>(&buffer)] {
            for (auto& handler : target->scheduled_handlers) handler(face(target.get()));
            target->scheduled_handlers.clear();
          },
          nullptr});
  notify_waiters();
}

// Ends the first command buffer. Enters without the mutex and leaves with it.
void Scheduler::finish(Queue& queue, Clock::time_point now, Lock& lock) {
  CommandBuffer* buffer = queue.head;
  std::unique_ptr<Recording> recording = std::move(buffer->recording);
  if (recording) recording->clear();
  lock.lock();
  buffer->ended_at = now;
  if (buffer->error && !buffer->encoders.empty()) buffer->error = with_encoders(*buffer->error, *buffer);
  const auto delay = status_delay.load(std::memory_order_relaxed);
  const bool late = delay != delay.zero();
  if (!late) conclude(*buffer);
  queue.head = buffer->next;
  if (!queue.head) queue.tail = nullptr;
  queue.command = nullptr;
  if (queue.spare.size() < kSpareRecordings) queue.spare.push_back(std::move(recording));
  if (buffer->completed_handlers.empty() && !late) {
    buffer->finished.store(true, std::memory_order_release);
  } else {
    post({[this, target = Ref<CommandBuffer>(buffer), late, delay] {
            if (late) {
              std::this_thread::sleep_until(target->ended_at + delay);
              Lock concluding(mutex_);
              conclude(*target);
            }
            for (auto& handler : target->completed_handlers) handler(face(target.get()));
            target->completed_handlers.clear();
          },
          buffer});
  }
  notify_waiters();
  lock.unlock();
  recording.reset();
  buffer->release();
  lock.lock();
}

// Tells how a command buffer ended.
void Scheduler::conclude(CommandBuffer& buffer) {
  buffer.status.store(buffer.error ? MTL::CommandBufferStatusError : MTL::CommandBufferStatusCompleted,
                      std::memory_order_release);
  buffer.queue->unfinished.fetch_sub(1, std::memory_order_relaxed);
}

// Threads -------------------------------------------------------------------------------------------

void Scheduler::notify_waiters() {
  if (waiting_) done_.notify_all();
}

// Tells other threads that this many of them could find work.
void Scheduler::publish(uint64_t chunks) {
  epoch_.fetch_add(1, std::memory_order_relaxed);
  if (!workers_) start_workers();
  if (chunks >= sleeping_workers_)
    work_.notify_all();
  else
    for (uint64_t i = 0; i < chunks; ++i) work_.notify_one();
  notify_waiters();
}

void Scheduler::start_workers() {
  // The thread that waits makes up the number.
  workers_ = std::max(1u, threads_ - 1);
  for (unsigned i = 0; i < workers_; ++i) start_thread(&Scheduler::work, this);
}

void Scheduler::work() {
  give_thread_pool();
  const Until never;
  Lock lock(mutex_);
  for (;;) {
    if (Queue* queue = pick(nullptr, true)) {
      work_on(*queue, lock, never);
      drain_thread_pool();
      continue;
    }
    const uint64_t seen = epoch_.load(std::memory_order_relaxed);
    lock.unlock();
    const auto patience = Clock::now() + kSpin;
    while (epoch_.load(std::memory_order_relaxed) == seen && Clock::now() < patience) pause_cpu();
    lock.lock();
    ++sleeping_workers_;
    work_.wait(lock, [&] { return epoch_.load(std::memory_order_relaxed) != seen; });
    --sleeping_workers_;
  }
}

bool Scheduler::help(const Until& until, Queue* preferred) {
  Lock lock(mutex_);
  for (;;) {
    if (until.over(until.context)) return true;
    if (until.reached()) return false;
    if (Queue* queue = pick(preferred, false)) {
      work_on(*queue, lock, until);
      continue;
    }
    const uint64_t seen = epoch_.load(std::memory_order_relaxed);
    lock.unlock();
    const auto patience = Clock::now() + kSpin;
    while (!until.reached() && epoch_.load(std::memory_order_relaxed) == seen && Clock::now() < patience)
      pause_cpu();
    lock.lock();
    if (until.reached() || pick(preferred, false)) continue;
    ++waiting_;
    if (until.deadline == Clock::time_point::max())
      done_.wait(lock);
    else
      done_.wait_until(lock, until.deadline);
    --waiting_;
  }
}

void Scheduler::post(Job job) {
  jobs_.push_back(std::move(job));
  if (!delivering_) start_thread(&Scheduler::deliver, this);
  delivering_ = true;
  jobs_ready_.notify_one();
}

// Runs handlers, in order, on a thread that holds up nobody else.
void Scheduler::deliver() {
  give_thread_pool();
  Lock lock(mutex_);
  for (;;) {
    jobs_ready_.wait(lock, [this] { return !jobs_.empty(); });
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    delivered_now_ = job.finishes.get();
    lock.unlock();
    job.run();
    job.run = nullptr;
    drain_thread_pool();
    lock.lock();
    delivered_now_ = nullptr;
    if (job.finishes) {
      job.finishes->finished.store(true, std::memory_order_release);
      notify_waiters();
    }
    lock.unlock();
    job = {};
    lock.lock();
  }
}

// fork ----------------------------------------------------------------------------------------------

// Committed work ends before the fork, so that the child finds every queue at rest. Queues that wait for an
// event stay so in both processes.
void Scheduler::before_fork() {
  Scheduler& scheduler = get();
  const Until never;
  Lock lock(scheduler.mutex_);
  while (!scheduler.busy_.empty()) {
    if (Queue* queue = scheduler.pick(nullptr, false)) {
      scheduler.work_on(*queue, lock, never);
      continue;
    }
    ++scheduler.waiting_;
    scheduler.done_.wait(lock);
    --scheduler.waiting_;
  }
  lock_zombies();
  lock.release();
}

void Scheduler::after_fork_parent() {
  unlock_zombies();
  get().mutex_.unlock();
}

// The threads stayed behind; new ones start when they are needed. Handlers that had not run by then run in
// the parent only.
void Scheduler::after_fork_child() {
  unlock_zombies();
  Scheduler& scheduler = get();
  for (std::condition_variable* condition : {&scheduler.work_, &scheduler.done_, &scheduler.jobs_ready_})
    new (condition) std::condition_variable;
  scheduler.workers_ = scheduler.sleeping_workers_ = scheduler.waiting_ = 0;
  scheduler.delivering_ = false;
  const auto end = [&scheduler](CommandBuffer* buffer) {
    if (!buffer) return;
    if (buffer->status.load(std::memory_order_relaxed) < MTL::CommandBufferStatusCompleted)
      scheduler.conclude(*buffer);
    buffer->finished.store(true, std::memory_order_release);
  };
  end(scheduler.delivered_now_);
  for (const Job& job : scheduler.jobs_) end(job.finishes.get());
  // Kept, as what they captured may not expect to be freed in this process.
  for (Job& job : scheduler.jobs_) scheduler.abandoned_jobs_.push_back(std::move(job));
  scheduler.jobs_.clear();
  scheduler.mutex_.unlock();
}

}  // namespace softmetal
