// What the runtime gives to an executor that looks at everything, and does with what it answers.
#include <doctest/doctest.h>

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "softmetal/runtime/command.h"
#include "softmetal/runtime/device.h"
#include "softmetal/runtime/executor.h"
#include "softmetal/runtime/library.h"
#include "softmetal/runtime/queue.h"
#include "softmetal/simt/engine.h"
#include "softmetal_kernels.h"

using test::string;
using test::text;

namespace {

// Notes what it is asked to run.
class Recorder final : public softmetal::Executor {
 public:
  struct Note {
    std::thread::id thread;
    uint64_t begin, end, command_buffer, place;
    std::string label;
    std::vector<softmetal::BoundBuffer> bindings;
  };

  const char* device_name() const override { return "recorder"; }
  uint64_t registry_id() const override { return 99; }
  const SoftmetalHooks& hooks() const override { return softmetal::simt::hooks(); }
  bool checks() const override { return true; }
  bool only_workers() const override { return true; }
  uint64_t estimate_ns(const softmetal::Dispatch&) const override { return 1; }  // as if it were little
  uint64_t chunk(const softmetal::Dispatch&, unsigned) const override { return 1; }

  void run(const softmetal::Dispatch& dispatch, uint64_t begin, uint64_t end) override {
    CHECK(running.exchange(true) == false);
    std::this_thread::sleep_for(delay);
    const softmetal::BoundBuffer* bindings = dispatch.bindings;
    notes.push_back({std::this_thread::get_id(),
                     begin,
                     end,
                     dispatch.command_buffer,
                     dispatch.place,
                     dispatch.label,
                     {bindings, bindings + dispatch.pipeline->buffer_slots}});
    running = false;
  }
  Outcome finish(const softmetal::Dispatch& dispatch, const softmetal::CommandBuffer& buffer) override {
    CHECK(buffer.id == dispatch.command_buffer);
    if (dispatch.place < answers.size()) return answers[dispatch.place];
    return {};
  }
  void discard(char* memory, uint64_t bytes) override { std::memset(memory, 0xa5, bytes); }

  std::atomic<bool> running{false};
  std::chrono::milliseconds delay{0};
  std::vector<Note> notes;
  std::vector<Outcome> answers;
};

struct Checked {
  Checked() {
    static const SoftmetalLibrary library = [] {
      static const SoftmetalKernel kernel = test::by_threads(
          test::kernel("axpy", nullptr, SOFTMETAL_MODE_THREADGROUPS, 1024, test::axpy_arguments),
          [](const SoftmetalThread*) {});
      static const SoftmetalUnit unit{&kernel, 1};
      static const SoftmetalUnit* const units[] = {&unit};
      SoftmetalLibrary made = test::make_library(units, 1);
      made.checked = 1;
      return made;
    }();
    auto tables = NS::TransferPtr(softmetal::new_library(device, &library, nullptr));
    REQUIRE(tables);
    auto function = NS::TransferPtr(tables->newFunction(string("axpy")));
    state =
        NS::TransferPtr(device->newComputePipelineState(function.get(), static_cast<NS::Error**>(nullptr)));
    executor().notes.clear();
    executor().answers.clear();
    executor().delay = {};
  }
  static Recorder& executor() {
    static auto* const made = new Recorder;
    return *made;
  }
  static MTL::Device* the_device() {
    static auto* const made = new softmetal::Device(executor());
    return softmetal::face(made);
  }

  MTL::ComputeCommandEncoder* begin(MTL::DispatchType type = MTL::DispatchTypeSerial) {
    commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(type);
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(x.get(), 0, 0);
    encoder->setBuffer(y.get(), 0, 1);
    const float a = 2;
    encoder->setBytes(&a, sizeof(a), 2);
    return encoder;
  }
  static void dispatch(MTL::ComputeCommandEncoder* encoder) {
    encoder->dispatchThreads(MTL::Size(1000, 1, 1), MTL::Size(64, 1, 1));
  }
  void finish(MTL::ComputeCommandEncoder* encoder) {
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
  }

  NS::SharedPtr<NS::AutoreleasePool> pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
  MTL::Device* const device = the_device();
  NS::SharedPtr<MTL::CommandQueue> queue = NS::TransferPtr(device->newCommandQueue());
  NS::SharedPtr<MTL::ComputePipelineState> state;
  NS::SharedPtr<MTL::Buffer> x = NS::TransferPtr(device->newBuffer(1024, MTL::ResourceStorageModeShared));
  NS::SharedPtr<MTL::Buffer> y = NS::TransferPtr(device->newBuffer(4096, MTL::ResourceStorageModeShared));
  MTL::CommandBuffer* commands = nullptr;
};

softmetal::Executor::Outcome fault(const char* message, bool fatal) {
  return {softmetal::Ref<softmetal::Error>::adopt(new softmetal::Error("Fault", 1, message)), fatal};
}

}  // namespace

TEST_CASE("dispatches run whole, one at a time, and on the runtime's threads") {
  Checked checked;
  checked.executor().delay = std::chrono::milliseconds(2);
  MTL::ComputeCommandEncoder* encoder = checked.begin(MTL::DispatchTypeConcurrent);
  for (int i = 0; i < 8; ++i) checked.dispatch(encoder);
  checked.finish(encoder);
  CHECK(checked.commands->status() == MTL::CommandBufferStatusCompleted);
  const auto& notes = checked.executor().notes;
  REQUIRE(notes.size() == 8);
  for (size_t i = 0; i < notes.size(); ++i) {
    CHECK(notes[i].begin == 0);
    CHECK(notes[i].end == 16);
    CHECK(notes[i].place == i);
    CHECK(notes[i].command_buffer == notes[0].command_buffer);
    CHECK(notes[i].thread != std::this_thread::get_id());
  }
}

TEST_CASE("a wait with a time limit ends on time") {
  Checked checked;
  checked.executor().delay = std::chrono::milliseconds(400);
  auto event = NS::TransferPtr(checked.device->newSharedEvent());
  MTL::ComputeCommandEncoder* encoder = checked.begin();
  checked.dispatch(encoder);
  encoder->endEncoding();
  checked.commands->encodeSignalEvent(event.get(), 1);
  const auto start = std::chrono::steady_clock::now();
  checked.commands->commit();
  CHECK_FALSE(event->waitUntilSignaledValue(1, 20));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::milliseconds(300));
  CHECK(event->waitUntilSignaledValue(1, 60'000));
  checked.commands->waitUntilCompleted();
  CHECK(checked.executor().notes.size() == 1);
}

TEST_CASE("dispatches say what their arguments are bound to, and where they were encoded") {
  Checked checked;
  MTL::ComputeCommandEncoder* encoder = checked.begin();
  encoder->setLabel(string("layer"));
  encoder->setBuffer(checked.y.get(), 256, 1);
  encoder->pushDebugGroup(string("norm"));
  checked.dispatch(encoder);
  encoder->popDebugGroup();
  // A marker narrows the binding that follows, if it is about the same place.
  checked.x->addDebugMarker(string("view"), NS::Range(128, 64));
  encoder->setBuffer(checked.x.get(), 128, 0);
  checked.y->addDebugMarker(string("view"), NS::Range(128, 64));
  encoder->setBuffer(checked.y.get(), 0, 1);
  checked.dispatch(encoder);
  encoder->setBuffer(checked.x.get(), 128, 0);
  checked.y->addDebugMarker(string("view"), NS::Range(0, 64));
  checked.y->removeAllDebugMarkers();
  encoder->setBuffer(checked.y.get(), 0, 1);
  checked.dispatch(encoder);
  checked.finish(encoder);

  const auto& notes = checked.executor().notes;
  REQUIRE(notes.size() == 3);
  const auto is = [](const softmetal::BoundBuffer& bound, const NS::SharedPtr<MTL::Buffer>& buffer,
                     uint64_t offset, uint64_t bytes) {
    CHECK(bound.buffer == softmetal::impl(buffer.get()));
    CHECK(bound.offset == offset);
    CHECK(bound.bytes == bytes);
  };
  CHECK(notes[0].label == "layer/norm");
  REQUIRE(notes[0].bindings.size() == 3);
  is(notes[0].bindings[0], checked.x, 0, 1024);
  is(notes[0].bindings[1], checked.y, 256, 3840);
  CHECK(notes[0].bindings[2].buffer == nullptr);
  CHECK(notes[0].bindings[2].bytes == 4);
  CHECK(notes[1].label == "layer");
  is(notes[1].bindings[0], checked.x, 128, 64);
  is(notes[1].bindings[1], checked.y, 0, 4096);
  is(notes[2].bindings[0], checked.x, 128, 896);
  is(notes[2].bindings[1], checked.y, 0, 4096);
}

TEST_CASE("what is found fails the command buffer, and ends it if it is fatal") {
  Checked checked;
  checked.executor().answers = {{}, fault("one", false), fault("one and two", false)};
  MTL::ComputeCommandEncoder* encoder = checked.begin();
  for (int i = 0; i < 5; ++i) checked.dispatch(encoder);
  checked.finish(encoder);
  CHECK(checked.executor().notes.size() == 5);
  CHECK(checked.commands->status() == MTL::CommandBufferStatusError);
  CHECK(text(checked.commands->error()) == "one and two");

  checked.executor().notes.clear();
  checked.executor().answers = {{}, fault("one", true), fault("two", false)};
  auto event = NS::TransferPtr(checked.device->newSharedEvent());
  encoder = checked.begin();
  for (int i = 0; i < 5; ++i) checked.dispatch(encoder);
  encoder->endEncoding();
  checked.commands->encodeSignalEvent(event.get(), 1);  // somebody may wait for it
  checked.commands->commit();
  checked.commands->waitUntilCompleted();
  CHECK(checked.executor().notes.size() == 2);
  CHECK(text(checked.commands->error()) == "one");
  CHECK(event->signaledValue() == 1);

  checked.executor().notes.clear();
  checked.executor().answers.clear();
  encoder = checked.begin();
  checked.dispatch(encoder);
  checked.finish(encoder);
  CHECK(checked.executor().notes.size() == 1);
  CHECK(checked.commands->status() == MTL::CommandBufferStatusCompleted);
}

TEST_CASE("emptied buffers go to the executor") {
  Checked checked;
  auto* bytes = static_cast<uint8_t*>(checked.x->contents());
  CHECK(checked.x->setPurgeableState(MTL::PurgeableStateVolatile) == MTL::PurgeableStateNonVolatile);
  CHECK(bytes[0] == 0);
  CHECK(checked.x->setPurgeableState(MTL::PurgeableStateEmpty) == MTL::PurgeableStateVolatile);
  CHECK(std::all_of(bytes, bytes + checked.x->length(), [](uint8_t byte) { return byte == 0xa5; }));
}

TEST_CASE("an executor that checks takes no library without checks") {
  Checked checked;
  NS::Error* error = nullptr;
  CHECK(softmetal::new_library(checked.device, &test::table, &error) == nullptr);
  CHECK(text(error).find("it was compiled without checks, device \"recorder\" needs a library with them") !=
        std::string::npos);
}
