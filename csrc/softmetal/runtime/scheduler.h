// Runs committed work. No thread owns a queue: a queue is a state machine, and workers, waiting
// threads and committing threads all take turns at moving it on. One mutex guards all of it;
// kernels, handlers, and the commands between dispatches run outside the mutex.
#pragma once

#include <sched.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "softmetal/runtime/queue.h"

namespace softmetal {

class Scheduler {
 public:
  using Clock = softmetal::Clock;
  using Lock = std::unique_lock<std::mutex>;

  // Never destroyed: threads may still be inside when the process exits.
  static Scheduler& get();

  unsigned threads() const { return threads_; }

  // Gives `buffer` its place in its queue.
  void enqueue(CommandBuffer& buffer);
  void commit(CommandBuffer& buffer);
  void signal(Event& event, uint64_t value);
  void listen(Event& event, uint64_t value, MTL::SharedEventNotificationFunction function);
  void fail(CommandBuffer& buffer, const std::string& message);
  Ref<Error> error_of(const CommandBuffer& buffer);

  // Runs committed work, of `preferred` first, until over() or the deadline. over() is called without
  // the mutex; its value may only change under the mutex.
  template <class Over>
  bool help_until(const Over& over, Queue* preferred, Clock::time_point deadline = Clock::time_point::max()) {
    return over() || help(Until{&call<Over>, &over, deadline}, preferred);
  }

  // Slots of a queue. take_slot waits for one; false when none can ever get free.
  bool take_slot(Queue& queue, std::unique_ptr<Recording>* recording);
  void return_slot(Queue& queue, std::unique_ptr<Recording> recording);

 private:
  // When a thread that helps has to stop.
  struct Until {
    bool (*over)(const void*) = nullptr;
    const void* context = nullptr;
    Clock::time_point deadline = Clock::time_point::max();

    bool reached() const {
      return (over && over(context)) || (deadline != Clock::time_point::max() && Clock::now() >= deadline);
    }
  };
  template <class Over>
  static bool call(const void* over) {
    return (*static_cast<const Over*>(over))();
  }

  // Who moves a queue on decides how much it may do.
  enum class Role { Committer, Inline, Helper };

  struct Job {
    std::function<void()> run;
    Ref<CommandBuffer> finishes;
  };

  Scheduler();
  bool help(const Until& until, Queue* preferred);
  Queue* pick(Queue* preferred, bool worker);
  void work_on(Queue& queue, Lock& lock, const Until& until);
  Dispatch* next_active(Queue& queue, Dispatch** tiny);
  void run_active(Queue& queue, Lock& lock, const Until& until);
  int settle(Lock& lock);
  void advance(Queue& queue, Lock& lock, Role role, const Until& until);
  bool park(Queue& queue, const EventCommand& wait, Lock& lock);
  void begin(CommandBuffer& buffer, Clock::time_point now, Lock& lock);
  void finish(Queue& queue, Clock::time_point now, Lock& lock);
  void conclude(CommandBuffer& buffer);
  void report(CommandBuffer& buffer, const Dispatch& dispatch, Executor::Outcome outcome);
  void set_state(Queue& queue, Queue::State state);
  void publish(uint64_t chunks);
  void notify_waiters();
  void append(CommandBuffer& buffer);
  bool runs_inline(const CommandBuffer& buffer) const;
  void post(Job job);

  void start_workers();
  void work();
  void deliver();

  static void before_fork();
  static void after_fork_parent();
  static void after_fork_child();

  const unsigned threads_;
  std::mutex mutex_;
  std::condition_variable work_, done_, jobs_ready_;
  std::vector<Queue*> busy_;        // Ready, Advancing or Running
  std::atomic<uint64_t> epoch_{0};  // grows with every piece of work that somebody could take
  unsigned workers_ = 0, sleeping_workers_ = 0, waiting_ = 0;
  uint8_t running_on_[CPU_SETSIZE] = {};  // by CPU: whether a thread of ours shares work there
  std::deque<Job> jobs_, abandoned_jobs_;
  bool delivering_ = false;                 // the thread for handlers exists
  CommandBuffer* delivered_now_ = nullptr;  // whose completed handlers are running
};

}  // namespace softmetal
