// What the core makes of Metal's errors, of memory that is not resident, and of captures.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "core_support.h"
#include "metalloid/availability.h"
#include "metalloid/capture.h"
#include "metalloid/command_encoder.h"
#include "metalloid/graph.h"
#include "metalloid/residency.h"
#include "ops/elementwise.h"
#include "params/elementwise.h"
#include "softmetal/runtime/softmetal.h"

namespace fs = std::filesystem;
using namespace metalloid;
using namespace std::chrono_literals;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// One command buffer, which adds.
std::shared_ptr<Submission> run() {
  Buffer x = filled({64}, 1);
  CommandEncoder encoder(device(), {.label = "work"});
  ops::add(encoder, x, x, nullptr);
  return encoder.commit();
}

// The error of a call.
template <class Call>
DeviceError error_of(const Call& call) {
  try {
    call();
  } catch (const DeviceError& e) {
    return e;
  }
  FAIL("there is no DeviceError");
  return DeviceError("");
}

// Runs the test in a child, as a device that is lost stays so.
void in_child(const std::function<void()>& test) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    int code = 0;
    try {
      test();
    } catch (...) {
      code = 1;
    }
    _exit(code);
  }
  int status = 1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

void demand(bool holds) {
  if (!holds) throw Error("does not hold");
}

// Has command buffers tell how they ended a while after their signals, as Metal does.
class LateStatus {
 public:
  explicit LateStatus(std::chrono::milliseconds delay) { softmetal::delay_status(delay); }
  ~LateStatus() {
    device().synchronize();
    softmetal::delay_status(0ms);
  }
};

}  // namespace

TEST_CASE("each error of a command buffer has its name and its advice") {
  struct Row {
    MTL::CommandBufferError code;
    const char *name, *says;
  };
  constexpr Row rows[] = {
      {MTL::CommandBufferErrorInternal, "internal", ""},
      {MTL::CommandBufferErrorTimeout, "timeout", "commit less work at a time"},
      {MTL::CommandBufferErrorPageFault, "page_fault", "simt"},
      {MTL::CommandBufferErrorNotPermitted, "not_permitted", "background"},
      {MTL::CommandBufferErrorOutOfMemory, "out_of_memory", "Device.empty_cache()"},
      {MTL::CommandBufferErrorInvalidResource, "invalid_resource", "memory"},
      {MTL::CommandBufferErrorMemoryless, "memoryless", ""},
      {MTL::CommandBufferErrorStackOverflow, "stack_overflow", "deeper"},
      {static_cast<MTL::CommandBufferError>(99), "", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    softmetal::fail_next_command_buffer(row.code);
    std::shared_ptr<Submission> submission = run();
    const DeviceError error = error_of([&] { submission->wait(); });
    CHECK(error.code() == row.name);
    CHECK(has(error.what(), "Submission.wait: work ended in an error: "));
    CHECK(has(error.what(), row.says));
    run()->wait();  // the device goes on
  }
  CHECK(error_of([] { Device::open("none"); }).code().empty());
}

TEST_CASE("a failure is known where its signal, and that of later work, comes before it") {
  LateStatus late(50ms);
  softmetal::fail_next_command_buffer(MTL::CommandBufferErrorTimeout);
  std::shared_ptr<Submission> failed = run();
  run()->wait();
  CHECK(failed->status() == Submission::Status::error);
  CHECK(error_of([&] { failed->wait(); }).code() == "timeout");

  softmetal::fail_next_command_buffer(MTL::CommandBufferErrorPageFault);
  failed = run();
  CHECK(error_of([&] { failed->wait(); }).code() == "page_fault");

  // Nor does it get lost for those who ask without waiting.
  softmetal::fail_next_command_buffer(MTL::CommandBufferErrorPageFault);
  failed = run();
  std::shared_ptr<Submission> after = run();
  while (!after->done()) std::this_thread::sleep_for(1ms);
  CHECK(failed->status() == Submission::Status::error);

  softmetal::fail_next_command_buffer(MTL::CommandBufferErrorTimeout);
  Buffer x = filled({64}, 1), y = filled({64}, 0);
  CommandEncoder encoder(device());
  ops::add(encoder, x, x, &y);
  encoder.commit();
  CHECK_THROWS_AS(y.wait_to_read(), DeviceError);
}

TEST_CASE("what a command buffer uses is let go of when Metal has said how it ended") {
  device().synchronize();
  device().collect();
  LateStatus late(300ms);
  const uint64_t page = page_size();
  void* memory = std::aligned_alloc(page, page);
  std::atomic<bool> released{false};
  auto event = Event::create(device()), kept = Event::create(device());
  const std::weak_ptr<Event> held = kept;
  std::shared_ptr<Submission> submission;
  const uint64_t used = device().allocated_size();
  {
    Buffer wrapped = device().wrap(
        memory, {64}, DType::float32, false,
        [](void* flag) { static_cast<std::atomic<bool>*>(flag)->store(true); }, &released);
    Buffer y = filled({64}, 0);
    CommandEncoder encoder(device());
    ops::add(encoder, wrapped, wrapped, &y);
    encoder.signal(*std::exchange(kept, nullptr), 1);
    encoder.signal(*event, 1);
    submission = encoder.commit();
  }
  event->wait(1);
  std::this_thread::sleep_for(20ms);  // the queue's own signal comes last
  device().retire();
  device().collect();
  CHECK_FALSE(submission->done());
  CHECK_FALSE(released);
  CHECK_FALSE(held.expired());
  CHECK(device().allocated_size() > used);
  submission->wait();
  CHECK(released);
  CHECK(held.expired());
  CHECK(device().allocated_size() == used);
  std::free(memory);
}

TEST_CASE("places of a queue come back when Metal has said how work ended") {
  LateStatus late(1ms);
  for (int i = 0; i < 200; ++i) run();
  device().synchronize();
  for (const auto& queue : device().queues()) {
    CHECK(queue->timeline().completed() == queue->timeline().last_committed());
  }
}

TEST_CASE("lengths of threadgroup memory go with the kernels that have them") {
  softmetal::set_validation(true);
  static constexpr Operation operation{"test"};
  const Pipeline& add = device().library().pipeline("add_f32");
  const Pipeline& mul = device().library().pipeline("mul_f32");
  Buffer x = filled({64}, 3), y = filled({64}, 0);
  ElementwiseParams params{};
  params.block = params.last_block = 64;
  const uint64_t all = device().max_threadgroup_memory_length();
  const auto dispatch = [&](Encoder& encoder, const Pipeline& pipeline, const Argument& first,
                            const Argument& second) {
    encoder.dispatch(operation, pipeline,
                     {Argument::params(0, params), Argument::read(1, x), Argument::write(2, y),
                      Argument::read(3, x), first, second},
                     {1}, {1});
  };
  Graph graph(device());
  dispatch(graph, mul, Argument::memory(0, all / 2), Argument::memory(2, all / 2));
  graph.finish();
  CommandEncoder encoder(device());
  dispatch(encoder, add, Argument::memory(0, all / 2), Argument::memory(1, all / 2));
  dispatch(encoder, mul, Argument::memory(0, all / 4), Argument::memory(2, all / 2));
  graph.encode(encoder, 0, 1);
  dispatch(encoder, add, Argument::memory(1, all / 4), Argument::memory(3, all / 2));
  const auto event = Event::create(device());
  encoder.signal(*event, 1);  // begins another encoder
  dispatch(encoder, mul, Argument::memory(4, all / 2), Argument::memory(5, all / 2));
  encoder.commit_and_wait();
  CHECK(all_near(y, 9));

  // Set by hand, they are found.
  AutoreleaseScope scope;
  auto queue = NS::TransferPtr(device().metal()->newCommandQueue());
  MTL::CommandBuffer* run = queue->commandBuffer();
  MTL::ComputeCommandEncoder* by_hand = run->computeCommandEncoder();
  by_hand->setComputePipelineState(add.state.get());
  by_hand->setBytes(&params, sizeof(params), 0);
  for (const NS::UInteger i : {1, 2, 3}) by_hand->setBuffer(y.storage()->metal(), 0, i);
  by_hand->setThreadgroupMemoryLength(all, 0);
  by_hand->setThreadgroupMemoryLength(16, 1);
  by_hand->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
  by_hand->endEncoding();
  run->commit();
  run->waitUntilCompleted();
  REQUIRE(run->error());
  CHECK(has(to_string(run->error()->localizedDescription()), "lengths that are set for arguments of other"));
  softmetal::set_validation(false);
}

TEST_CASE("a device that is lost takes no more work, and says why at once") {
  for (const auto code : {MTL::CommandBufferErrorDeviceRemoved, MTL::CommandBufferErrorAccessRevoked}) {
    const std::string name =
        code == MTL::CommandBufferErrorDeviceRemoved ? "device_removed" : "access_revoked";
    in_child([&] {
      Buffer x = filled({64}, 1);
      CommandEncoder open(device());
      ops::add(open, x, x, nullptr);
      auto event = Event::create(device());
      const std::weak_ptr<Event> held = event;
      open.signal(*std::exchange(event, nullptr), 1);
      softmetal::fail_next_command_buffer(code);
      std::shared_ptr<Submission> submission = run();
      demand(error_of([&] { submission->wait(); }).code() == name);
      const DeviceError later = error_of([] { run(); });
      demand(later.code() == name);
      demand(has(later.what(), "Device.commands: the device was lost when an earlier command buffer failed"));
      demand(has(later.what(), "start a new process"));
      demand(has(error_of([&] { open.commit(); }).what(), "CommandEncoder.commit: the device was lost"));
      demand(open.encoding() && !held.expired());
      open.discard();
      device().synchronize();
    });
  }
  run()->wait();
}

TEST_CASE("replays find their memory resident, or tell of it") {
  softmetal::set_validation(true);
  Buffer x = filled({64}, 1), y = filled({64}, 0);
  Graph graph(device());
  ops::add(graph, x, x, &y);
  graph.finish();
  const auto program = graph.program();
  const bool sets = available(device().metal(), Feature::residency_sets);
  const char* chosen = std::getenv("METALLOID_RESIDENCY_SETS");
  CHECK(sets == (!chosen || std::string(chosen) != "0"));
  // And the constants. What is encoded step by step needs no list.
  const bool lists = device().has_indirect_commands();
  CHECK(program->resources().size() == (sets || !lists ? 0 : program->storages().size() + 1));
  for (int i = 0; i < 3; ++i) {
    CommandEncoder encoder(device(), {.queue = i == 1 ? &device().queue("another") : nullptr});
    graph.encode(encoder, 0, 1);
    encoder.commit_and_wait();
    CHECK(all_near(y, 2));
  }
  // Memory of somebody else's is named at each replay.
  const uint64_t page = page_size();
  auto* memory = static_cast<float*>(std::aligned_alloc(page, page));
  std::fill_n(memory, 64, 5.0f);
  {
    Buffer wrapped = device().wrap(memory, {64}, DType::float32, false, nullptr, nullptr);
    Graph other(device());
    ops::add(other, wrapped, wrapped, &y);
    other.finish();
    const size_t listed = sets ? 1 : other.program()->storages().size() + 1;
    CHECK(other.program()->resources().size() == (lists ? listed : 0));
    CommandEncoder encoder(device());
    other.encode(encoder, 0, 1);
    encoder.commit_and_wait();
    CHECK(all_near(y, 10));
  }
  device().synchronize();
  std::free(memory);
  softmetal::set_validation(false);
}

TEST_CASE("what does not fit the budget is not resident") {
  MTL::Device* metal = device().metal();
  const auto buffer = [metal] {
    return NS::TransferPtr(metal->newBuffer(4096, MTL::ResourceStorageModeShared));
  };
  const auto first = buffer(), second = buffer(), third = buffer();
  Residency residency(metal, 3 * 4096);
  const bool sets = available(metal, Feature::residency_sets);
  CHECK_FALSE(residency.add(first.get(), 3 * 4096 + 1));
  CHECK(residency.add(first.get(), 4096) == sets);
  CHECK(residency.add(second.get(), 4096) == sets);
  CHECK_FALSE(residency.add(third.get(), 4097));
  if (!sets) return;
  const MTL::Allocation* both[] = {first.get(), second.get()};
  residency.remove(both, 2 * 4096);
  CHECK(residency.add(third.get(), 3 * 4096));
}

TEST_CASE("validation finds what is not resident") {
  if (!device().has_indirect_commands()) return;
  softmetal::set_validation(true);
  MTL::Device* metal = device().metal();
  AutoreleaseScope scope;
  auto queue = NS::TransferPtr(metal->newCommandQueue());
  auto buffer = NS::TransferPtr(metal->newBuffer(4096, MTL::ResourceStorageModeShared));
  auto descriptor = NS::TransferPtr(MTL::IndirectCommandBufferDescriptor::alloc()->init());
  descriptor->setCommandTypes(MTL::IndirectCommandTypeConcurrentDispatch);
  descriptor->setInheritBuffers(false);
  descriptor->setInheritPipelineState(false);
  descriptor->setMaxKernelBufferBindCount(4);
  auto commands =
      NS::TransferPtr(metal->newIndirectCommandBuffer(descriptor.get(), 1, MTL::ResourceStorageModeShared));
  const Pipeline& pipeline = device().library().pipeline("add_f32");
  MTL::IndirectComputeCommand* command = commands->indirectComputeCommand(0);
  command->setComputePipelineState(pipeline.state.get());
  for (NS::UInteger i = 0; i < 4; ++i) command->setKernelBuffer(buffer.get(), 0, i);
  command->concurrentDispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
  const auto execute = [&](bool use) {
    MTL::CommandBuffer* run = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = run->computeCommandEncoder();
    if (use) encoder->useResource(buffer.get(), MTL::ResourceUsageRead);
    encoder->executeCommandsInBuffer(commands.get(), NS::Range(0, 1));
    encoder->endEncoding();
    run->commit();
    run->waitUntilCompleted();
    return run->error() ? to_string(run->error()->localizedDescription()) : "";
  };
  CHECK(execute(true) == "");
  CHECK(has(execute(false), "command 0: the buffer at index 0 is neither used nor resident"));
  if (available(metal, Feature::residency_sets)) {
    auto wanted = NS::TransferPtr(MTL::ResidencySetDescriptor::alloc()->init());
    auto set = NS::TransferPtr(metal->newResidencySet(wanted.get(), nullptr));
    queue->addResidencySet(set.get());
    set->addAllocation(buffer.get());
    CHECK(set->containsAllocation(buffer.get()));
    CHECK(set->allocationCount() == 1);
    CHECK(set->allocatedSize() == 4096);
    CHECK(has(execute(false), "neither used nor resident"));  // not committed yet
    set->commit();
    CHECK(execute(false) == "");
    set->removeAllocation(buffer.get());
    CHECK(execute(false) == "");
    set->commit();
    CHECK(has(execute(false), "neither used nor resident"));
    set->addAllocation(buffer.get());
    set->commit();
    queue->removeResidencySet(set.get());
    CHECK(has(execute(false), "neither used nor resident"));
  }
  softmetal::set_validation(false);
}

TEST_CASE("captures check their path, and are refused where there is nothing to capture") {
  char top[] = "/tmp/metalloid-capture-XXXXXX";
  REQUIRE(mkdtemp(top) != nullptr);
  const fs::path folder(top);
  const auto message = [](const std::string& path) -> std::string {
    try {
      start_capture(device(), path);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(has(message(folder / "x.txt"), "needs one that ends in .gputrace"));
  CHECK(has(message(folder / "none" / "x.gputrace"), "is not there"));
  fs::create_directory(folder / "old.gputrace");
  CHECK(has(message(folder / "old.gputrace"), "is there already"));
  CHECK(has(message(folder / "x.gputrace"), "captures are made of Metal devices"));
  CHECK_THROWS_AS(start_capture(device(), folder / "x.gputrace"), DeviceError);
  CHECK_THROWS_AS(stop_capture(), Error);
  CHECK_FALSE(fs::exists(folder / "x.gputrace"));

  softmetal::pretend_captures(true);
  CHECK(message(folder / "x.gputrace") == "");
  CHECK(fs::exists(folder / "x.gputrace"));
  CHECK(has(message(folder / "y.gputrace"), "another capture is on"));
  run()->wait();
  stop_capture();
  CHECK_THROWS_AS(stop_capture(), Error);
  CHECK(message(folder / "y.gputrace") == "");
  // Metal itself may end one.
  MTL::CaptureManager::sharedCaptureManager()->stopCapture();
  in_child([] {
    setenv("MTL_DEBUG_LAYER", "1", 1);  // misuse aborts
    stop_capture();
  });
  stop_capture();
  softmetal::pretend_captures(false);
  fs::remove_all(folder);
}
