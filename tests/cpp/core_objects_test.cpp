// What the core makes it also lets go of, and it makes nothing where nobody would. The same work is done
// again and again; the number of Metal objects that are alive has to come back to what it was.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core_support.h"
#include "metalloid/capture.h"
#include "metalloid/command_encoder.h"
#include "metalloid/compile.h"
#include "metalloid/graph.h"
#include "metalloid/trace.h"
#include "ops/elementwise.h"
#include "ops/rms_norm.h"
#include "softmetal/runtime/softmetal.h"

using namespace metalloid;
using namespace std::chrono_literals;

namespace {

// Before the first object goes: a release too many then ends the process, and names the class.
const int zombies = setenv("NSZombieEnabled", "YES", 1);

// The number of living objects, once nothing of the device's is in flight or kept for later use.
int64_t living() {
  device().synchronize();
  device().collect();
  device().empty_cache();
  return softmetal::live_objects();
}

// Does the work often enough for one object too many or too few to show.
void check_balance(const std::function<void()>& work) {
  for (int i = 0; i < 2; ++i) work();  // what is made once
  const int64_t unpooled = softmetal::unpooled_objects();
  const int64_t before = living();
  for (int i = 0; i < 5; ++i) work();
  CHECK(living() == before);
  CHECK_MESSAGE(
      softmetal::unpooled_objects() == unpooled,
      "autoreleased, or called, with no pool in place: " << std::string(softmetal::last_unpooled_class()));
}

void dispatch(CommandEncoder& encoder, const Buffer& x, const Buffer& y) {
  ops::rms_norm(encoder, x, nullptr, 1e-6, const_cast<Buffer*>(&y));
}

}  // namespace

TEST_CASE("devices, their names and their limits") {
  check_balance([] {
    CHECK(Device::names().size() >= 1);
    Device& again = Device::open(device().name());
    CHECK(&again == &device());
    CHECK_THROWS_AS(Device::open("no such device"), DeviceError);
    CHECK(again.thread_execution_width() > 0);
    CHECK(again.max_threads_per_threadgroup()[0] > 0);
    again.kernel_variant();
    again.shader_compiler();
  });
}

TEST_CASE("buffers, views and memory of others") {
  check_balance([] {
    Buffer x = filled({16, 64}, 1);
    Buffer row = x.index(3).view(DType::uint8);
    Buffer zeros = device().zeros({1 << 16}, DType::float16);
    Buffer later = device().placeholder({64}, DType::float32, "test");
    CHECK(later.address() != nullptr);
    const uint64_t bytes = 4 * page_size();
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static int released = 0;
    const int before = released;
    {
      Buffer wrapped =
          device().wrap(memory, {bytes}, DType::uint8, false, [](void*) { ++released; }, nullptr);
    }
    CHECK(released == before + 1);
    munmap(memory, bytes);
    CHECK_THROWS_AS(device().empty({uint64_t{1} << 60}, DType::float32), ValidationError);
  });
}

TEST_CASE("command buffers that are committed, dropped and refused") {
  check_balance([] {
    Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0);
    for (const bool concurrent : {false, true}) {
      CommandEncoder encoder(device(), {.label = "a label", .concurrent = concurrent});
      encoder.push_group("a group");
      dispatch(encoder, x, y);
      encoder.barrier();
      dispatch(encoder, y, x);
      encoder.pop_group();
      encoder.commit_and_wait();
      CHECK(encoder.gpu_time().value() >= 0);
    }
    {
      CommandEncoder dropped(device());
      dispatch(dropped, x, y);
    }
    CommandEncoder discarded(device());
    dispatch(discarded, x, y);
    discarded.discard();
    CommandEncoder broken(device());
    CHECK_THROWS_AS(ops::rms_norm(broken, x, &y, -1.0, nullptr), ValidationError);
    CommandEncoder nothing(device());
    nothing.commit_and_wait();
  });
}

TEST_CASE("command buffers that fail") {
  check_balance([] {
    Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0);
    softmetal::fail_next_command_buffer(MTL::CommandBufferErrorTimeout);
    CommandEncoder encoder(device(), {.label = "fails"});
    dispatch(encoder, x, y);
    std::shared_ptr<Submission> submission = encoder.commit();
    CHECK_THROWS_AS(submission->wait(), DeviceError);
    CHECK(submission->status() == Submission::Status::error);
  });
}

TEST_CASE("events, queues and callbacks") {
  check_balance([] {
    std::shared_ptr<Event> event = Event::create(device());
    Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0);
    CommandEncoder first(device(), {.queue = &device().queue("a")});
    CommandEncoder second(device(), {.queue = &device().queue("b")});
    dispatch(first, x, y);
    first.signal(*event, 1);
    second.wait_for(*event, 1);
    dispatch(second, y, x);
    std::shared_ptr<Submission> submission = second.commit();
    std::atomic<bool> called{false};
    submission->when_done([&] { called = true; });
    first.commit();
    submission->wait();
    while (!called) std::this_thread::sleep_for(1ms);
    CHECK_THROWS_AS(event->wait(2, 0.001), DeviceError);
    event->signal(2);
    event->wait(2);
  });
}

TEST_CASE("a command buffer of events alone has one encoder, others have none beside their own") {
  const auto event = Event::create(device());
  event->signal(1);
  const Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0);
  // Metal's objects of a command buffer that is kept and tells of its encoders.
  const auto made = [&](const std::function<void(CommandEncoder&)>& encode) {
    const int64_t before = living();
    CommandEncoder encoder(device(), {.label = "counted"});
    encode(encoder);
    const std::shared_ptr<Submission> submission = encoder.commit();
    submission->wait();
    return living() - before;
  };
  const auto work = [&](CommandEncoder& encoder) { dispatch(encoder, x, y); };
  const auto signal = [&](CommandEncoder& encoder) { encoder.signal(*event, event->value() + 1); };
  const auto wait = [&](CommandEncoder& encoder) { encoder.wait_for(*event, 1); };
  made(work);
  const int64_t one = made(work);
  const int64_t two = made([&](auto& encoder) { work(encoder), signal(encoder), work(encoder); });
  CHECK(two > one);
  CHECK(made(signal) == one);
  CHECK(made(wait) == one);
  CHECK(made([&](auto& encoder) { wait(encoder), signal(encoder); }) == one);
  CHECK(made([&](auto& encoder) { signal(encoder), signal(encoder); }) == one);
  CHECK(made([&](auto& encoder) { work(encoder), signal(encoder); }) == one);
  CHECK(made([&](auto& encoder) { wait(encoder), work(encoder), signal(encoder); }) == one);
  CHECK(made([&](auto& encoder) { work(encoder), wait(encoder); }) == two);
  CHECK(made([&](auto& encoder) { signal(encoder), wait(encoder); }) == two);
}

TEST_CASE("graphs that are recorded, optimised, changed and replayed") {
  check_balance([] {
    Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0), other = filled({8, 64}, 2);
    Graph graph(device(), "a graph");
    Buffer normal = ops::rms_norm(graph, x, nullptr, 1e-6, nullptr);
    ops::add(graph, normal, normal, &y);
    graph.name("x", x);
    graph.finish();
    const auto run = [&](Graph& each) {
      CommandEncoder encoder(device());
      each.encode(encoder, 0, static_cast<uint32_t>(each.size()));
      encoder.commit_and_wait();
      CHECK(all_near(y, 2));
    };
    run(graph);
    std::unique_ptr<Graph> other_graph = graph.clone();
    other_graph->optimize({});
    for (int i = 0; i < 3; ++i) run(*other_graph);
    graph.rebind("x", other);
    run(graph);
    graph.submit(0, static_cast<uint32_t>(graph.size()), 1, nullptr)->wait();
  });
}

TEST_CASE("kernels of somebody's own") {
  Buffer y = filled({64}, 0);
  check_balance([&] {
    CompileRequest request;
    request.source = "[[kernel]] void k(device float* y, uint i [[thread_position_in_grid]]) { y[i] = 2; }";
    std::shared_ptr<Library> library;
    try {
      library = device().compile(request);
    } catch (const CompileError&) {
      return;  // no compiler here
    }
    CHECK(library->kernels().size() == 1);
    CHECK_THROWS_AS(library->kernel("no such kernel"), ValidationError);
    std::shared_ptr<const Kernel> kernel = library->kernel("k");
    request.source = "this is no shader {";
    CHECK_THROWS_AS(device().compile(request), CompileError);
    CommandEncoder encoder(device());
    const Value value{Value::Kind::buffer, 0, &y};
    encoder.dispatch(*kernel, {&value, 1}, {Grid::Unit::threads, {64}},
                     {kernel->pipeline().max_threads > 1 ? 64u : 1u}, {});
    encoder.commit_and_wait();
    CHECK(all_near(y, 2));
  });
}

TEST_CASE("traces, and captures that are refused and made") {
  check_balance([] {
    Buffer x = filled({8, 64}, 3), y = filled({8, 64}, 0);
    trace::start();
    CommandEncoder encoder(device(), {.label = "traced"});
    dispatch(encoder, x, y);
    dispatch(encoder, y, x);
    encoder.commit();
    trace::finish(10s);
    CHECK(trace::stop().dispatches.size() == 2);

    CHECK_THROWS_AS(start_capture(device(), "/tmp/refused.gputrace"), DeviceError);
    CHECK_THROWS_AS(start_capture(device(), "/tmp/refused.txt"), ValidationError);
    char folder[] = "/tmp/metalloid-capture-XXXXXX";
    REQUIRE(mkdtemp(folder) != nullptr);
    const std::string path = std::string(folder) + "/x.gputrace";
    softmetal::pretend_captures(true);
    start_capture(device(), path);
    stop_capture();
    softmetal::pretend_captures(false);
    rmdir(path.c_str());
    rmdir(folder);
  });
}

TEST_CASE("pipelines that are kept for the next process") {
  char folder[] = "/tmp/metalloid-pipelines-XXXXXX";
  REQUIRE(mkdtemp(folder) != nullptr);
  setenv("METALLOID_CACHE_DIR", folder, 1);
  setenv("METALLOID_PIPELINE_CACHE", "1", 1);
  check_balance([] {
    PipelineCache cache(device().metal(), library_path());
    std::unique_ptr<Library> library = Library::load(device(), library_path());
    library->keep_pipelines(cache);
    library->pipeline("rms_norm_f32");
    cache.save();
  });
  unsetenv("METALLOID_PIPELINE_CACHE");
  unsetenv("METALLOID_CACHE_DIR");
  CHECK(std::system(("rm -r " + std::string(folder)).c_str()) == 0);
}

TEST_CASE("the count sees a release too few, a release too many, and an object without a pool") {
  REQUIRE(zombies == 0);
  Buffer x = filled({64}, 1);
  const int64_t before = living();
  MTL::Buffer* metal = x.storage()->metal();
  MTL::Event* forgotten = device().metal()->newEvent();
  CHECK(living() == before + 1);
  forgotten->release();
  CHECK(living() == before);

  const int64_t unpooled = softmetal::unpooled_objects();
  {
    AutoreleaseScope scope;
    metal->device()->name();
  }
  CHECK(softmetal::unpooled_objects() == unpooled);
  device().metal()->name();
  CHECK(softmetal::unpooled_objects() == unpooled + 1);
  CHECK(std::string(softmetal::last_unpooled_class()) == "NS::String");
  Event::create(device())->metal()->setSignaledValue(1);
  CHECK(softmetal::unpooled_objects() == unpooled + 2);
  CHECK(std::string(softmetal::last_unpooled_class()) == "setSignaledValue");

  const pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);  // what it says of its end is not of interest
    close(STDERR_FILENO);
    forgotten = device().metal()->newEvent();
    forgotten->retain();
    for (int i = 0; i < 3; ++i) forgotten->release();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}
