#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "core_support.h"
#include "metalloid/command_encoder.h"
#include "metalloid/system.h"
#include "ops/rms_norm.h"

using namespace metalloid;
using namespace std::chrono_literals;

namespace {

// Work that waits for the event and is committed.
std::shared_ptr<Submission> park(const std::shared_ptr<Event>& event, const Buffer& x, const Buffer& y,
                                 Queue* queue = nullptr, uint64_t value = 1) {
  CommandEncoder encoder(device(), {.label = "parked", .queue = queue});
  encoder.wait_for(*event, value);
  ops::rms_norm(encoder, x, nullptr, 1e-6, const_cast<Buffer*>(&y));
  return encoder.commit();
}

// Ends a wait with an exception, as Ctrl-C does.
struct Interrupted {};
std::atomic<bool> interrupt{false};
std::atomic<int> entered{0}, left{0};

}  // namespace

TEST_CASE("queues are opened by label and keep their place") {
  Queue& a = device().queue("a");
  CHECK(&a == &device().queue("a"));
  CHECK(&device().queue("") == &device().queue());
  CHECK(device().queue().index() == 0);
  CHECK(device().queues()[a.index()].get() == &a);
  CommandEncoder encoder(device(), {.queue = &a});
  CHECK(&encoder.queue() == &a);
}

TEST_CASE("an event orders what two queues do, whichever is committed first") {
  std::shared_ptr<Event> event = Event::create(device());
  Buffer two = filled({64}, 2), x = filled({8, 64}, 3);
  CommandEncoder first(device(), {.queue = &device().queue("a")});
  CommandEncoder second(device(), {.queue = &device().queue("b")});
  ops::rms_norm(first, x, &two, 1e-6, &x);  // 2
  first.signal(*event, 1);
  second.wait_for(*event, 1);
  ops::rms_norm(second, x, nullptr, 1e-6, &x);  // 1
  std::shared_ptr<Submission> later = second.commit();
  std::this_thread::sleep_for(5ms);
  CHECK_FALSE(later->done());
  first.commit();
  later->wait();
  CHECK(event->value() == 1);
  CHECK(all_near(x, 1));
}

TEST_CASE("reading waits for all queues, and tells the failure of any") {
  std::shared_ptr<Event> event = Event::create(device());
  Buffer x = filled({1, 64}, 3), y = filled({1, 64}, 0);
  const Pipeline& pipeline = device().library().pipeline("rms_norm_f32");
  CommandEncoder broken(device(), {.queue = &device().queue("b")});
  broken.dispatch(ops::kRmsNorm, pipeline, {Argument::write(2, y)}, {1}, {1});  // two arguments are missing
  std::shared_ptr<Submission> failed = broken.commit();
  CHECK_THROWS_AS(failed->wait(), DeviceError);
  CHECK(failed->status() == Submission::Status::error);

  std::shared_ptr<Submission> parked = park(event, x, y, &device().queue("a"));
  CHECK(y.busy());
  std::thread signals([&] {
    std::this_thread::sleep_for(50ms);
    event->signal(1);
  });
  CHECK_THROWS_AS(y.wait_to_read(), DeviceError);
  CHECK(parked->done());
  CHECK_FALSE(y.busy());
  y.wait_to_write();
  CHECK(all_near(y, 1));
  signals.join();
}

TEST_CASE("a submission outlives its encoder, and calls back once") {
  std::shared_ptr<Event> event = Event::create(device());
  Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0);
  std::shared_ptr<Submission> submission = park(event, x, y);
  CHECK(submission->label() == "parked");
  CHECK(submission->status() == Submission::Status::committed);
  CHECK_THROWS_AS(submission->wait(0.01), DeviceError);
  CHECK_THROWS_AS(submission->wait(std::nan("")), ValidationError);
  std::atomic<int> calls{0};
  submission->when_done([&] { ++calls; });
  std::this_thread::sleep_for(70ms);
  CHECK(calls == 0);
  event->signal(1);
  submission->wait();
  submission->when_done([&] { calls += 10; });  // it is done, and told all the same
  while (calls < 11) std::this_thread::sleep_for(1ms);
  CHECK(calls == 11);
  CHECK(submission->gpu_time().value() >= 0);
}

TEST_CASE("command buffers beyond Metal's are waited for, and the wait can be ended") {
  static constexpr BlockHooks hooks{[]() -> void* { return ++entered, &entered; },
                                    [](void* given) { left += given == &entered; }};
  set_block_hooks(&hooks);
  set_wait_hook([] {
    if (interrupt.exchange(false)) throw Interrupted{};
  });
  std::shared_ptr<Event> event = Event::create(device());
  Buffer x = filled({1, 64}, 3), y = filled({1, 64}, 0);
  for (int i = 0; i < 64; ++i) park(event, x, y);
  CHECK(entered == 0);
  CommandEncoder encoder(device());
  interrupt = true;
  CHECK_THROWS_AS(ops::rms_norm(encoder, x, nullptr, 1e-6, &y), Interrupted);
  CHECK(entered == 1);
  CHECK(left == 1);
  // Another queue has its own.
  CommandEncoder other(device(), {.queue = &device().queue("a")});
  ops::rms_norm(other, x, nullptr, 1e-6, nullptr);
  other.commit_and_wait();

  std::thread signals([&] {
    std::this_thread::sleep_for(50ms);
    event->signal(1);
  });
  ops::rms_norm(encoder, x, nullptr, 1e-6, &y);
  encoder.commit_and_wait();
  CHECK(left == 2);
  CHECK(all_near(y, 1));
  signals.join();
  set_wait_hook(nullptr);
  set_block_hooks(nullptr);
}

TEST_CASE("discarded and refused command buffers give their places back") {
  Buffer x = filled({1, 64}, 3);
  std::shared_ptr<Event> event = Event::create(device());
  for (int i = 0; i < 500; ++i) {
    CommandEncoder encoder(device());
    if (i % 2) encoder.signal(*event, 1);
    if (i % 3) ops::rms_norm(encoder, x, nullptr, 1e-6, nullptr);
  }
  CHECK(event->value() == 0);
}

TEST_CASE("threads share the places of a queue") {
  Buffer x = filled({1, 64}, 3);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        CommandEncoder encoder(device(), {.queue = i % 2 ? &device().queue("a") : nullptr});
        ops::rms_norm(encoder, x, nullptr, 1e-6, nullptr);
        encoder.commit();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  device().synchronize();
  for (const auto& queue : device().queues()) {
    CHECK(queue->timeline().completed() == queue->timeline().last_committed());
  }
}

TEST_CASE("memory goes back to the pool when the last queue is done with it") {
  device().synchronize();
  device().empty_cache();
  std::shared_ptr<Event> event = Event::create(device());
  const uint64_t used = device().allocated_size();
  {
    Buffer x = filled({100, 640}, 3);
    park(event, x, x, &device().queue("b"));
    CommandEncoder encoder(device());
    ops::rms_norm(encoder, x, nullptr, 1e-6, &x);
    encoder.commit_and_wait();
  }
  device().collect();
  CHECK(device().allocated_size() > used);
  event->signal(1);
  device().synchronize();
  CHECK(device().allocated_size() == used);
}

TEST_CASE("a child has callbacks of its own, and none of its parent's") {
  if (!survives_forks()) return;
  std::shared_ptr<Event> event = Event::create(device());
  Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0);
  std::shared_ptr<Submission> submission = park(event, x, y);
  static std::atomic<int> calls{0};
  submission->when_done([] { calls += 100; });
  std::this_thread::sleep_for(20ms);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    submission->when_done([] { ++calls; });
    event->signal(1);
    while (calls == 0) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(20ms);
    _exit(calls);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(calls == 0);
  event->signal(1);
  while (calls == 0) std::this_thread::sleep_for(1ms);
  CHECK(calls == 100);
}

TEST_CASE("there are eight queues at most") {
  for (size_t i = device().queues().size(); i < kMaxQueues; ++i) {
    device().queue("queue " + std::to_string(i));
  }
  CHECK_THROWS_AS(device().queue("one more"), Error);
  for (const auto& queue : device().queues()) {
    CommandEncoder encoder(device(), {.queue = queue.get()});
    Buffer y = ops::rms_norm(encoder, filled({4, 64}, 3), nullptr, 1e-6, nullptr);
    encoder.commit();
    CHECK(all_near(y, 1));
  }
}
