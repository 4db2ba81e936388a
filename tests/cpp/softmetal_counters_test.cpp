#include <doctest/doctest.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "softmetal_kernels.h"

using test::string;
using test::text;

namespace {

using Clock = std::chrono::steady_clock;

uint64_t now() {
  return static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now().time_since_epoch()).count());
}

// Begin and end of the dispatches that wrote here, over all of their units.
struct Stamp {
  uint64_t begin, end;
};

void spin_and_stamp(Stamp* stamp, uint64_t microseconds) {
  const uint64_t begin = now();
  while (now() - begin < microseconds * 1000) {
  }
  uint64_t known = __atomic_load_n(&stamp->begin, __ATOMIC_RELAXED);
  while ((known == 0 || known > begin) && !__atomic_compare_exchange_n(&stamp->begin, &known, begin, true,
                                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  const uint64_t end = now();
  known = __atomic_load_n(&stamp->end, __ATOMIC_RELAXED);
  while (known < end &&
         !__atomic_compare_exchange_n(&stamp->end, &known, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

// Argument 0: a Stamp, 1: microseconds for each unit.
void stamp(const SoftmetalLaunch* launch, char*, uint64_t begin, uint64_t end) {
  for (uint64_t i = begin; i < end; ++i)
    spin_and_stamp(static_cast<Stamp*>(launch->buffers[0]),
                   *static_cast<const uint64_t*>(launch->buffers[1]));
}

const SoftmetalHooks* checked_hooks = nullptr;

void stamp_thread(const SoftmetalThread* thread) {
  static const char place = 0;
  auto* stamp_words = static_cast<uint64_t*>(thread->launch->buffers[0]);
  for (int i = 0; i < 2; ++i)
    checked_hooks->access(stamp_words + i, 8, SOFTMETAL_READS | SOFTMETAL_WRITES | SOFTMETAL_ATOMIC,
                          &place + 1);
  stamp(thread->launch, nullptr, 0, 1);
}

// Reads far behind the stamp.
void stray_thread(const SoftmetalThread* thread) {
  static const char place = 0;
  auto* address = static_cast<const char*>(thread->launch->buffers[0]) + 100'000;
  checked_hooks->access(address, 4, SOFTMETAL_READS, &place + 1);
}

const SoftmetalArgument stamp_arguments[] = {
    {"stamp", "ulong", 0, test::kULong, 8, 8, 0, test::kDevice, test::kReadWrite, 0, -1, 0},
    {"microseconds", "ulong", 1, test::kULong, 8, 8, 0, test::kConstant, test::kRead, 1, -1, 0},
};
constexpr auto kGroups = SOFTMETAL_MODE_THREADGROUPS;
const SoftmetalKernel cpu_kernels[] = {test::kernel("stamp", stamp, kGroups, 1, stamp_arguments)};
const SoftmetalKernel simt_kernels[] = {
    test::by_threads(test::kernel("stamp", nullptr, kGroups, 1024, stamp_arguments), stamp_thread),
    test::by_threads(test::kernel("stray", nullptr, kGroups, 1024, stamp_arguments), stray_thread)};
const SoftmetalUnit cpu_unit = {cpu_kernels, std::size(cpu_kernels)};
const SoftmetalUnit simt_unit = {simt_kernels, std::size(simt_kernels)};
const SoftmetalUnit* const cpu_units[] = {&cpu_unit};
const SoftmetalUnit* const simt_units[] = {&simt_unit};
const SoftmetalLibrary cpu_table = test::make_library(cpu_units, 1);
const SoftmetalLibrary simt_table = [] {
  SoftmetalLibrary made = test::make_library(simt_units, 1);
  made.checked = 1;
  made.hooks = &checked_hooks;
  return made;
}();

struct Bench : test::Bench {
  explicit Bench(NS::UInteger which) {
    auto all = NS::TransferPtr(MTL::CopyAllDevices());
    device = NS::RetainPtr(all->object<MTL::Device>(which));
    queue = NS::TransferPtr(device->newCommandQueue());
    library =
        NS::TransferPtr(softmetal::new_library(device.get(), which ? &simt_table : &cpu_table, nullptr));
    state = pipeline("stamp");
  }

  NS::SharedPtr<MTL::CounterSampleBufferDescriptor> descriptor(NS::UInteger count) {
    auto made = NS::TransferPtr(MTL::CounterSampleBufferDescriptor::alloc()->init());
    made->setCounterSet(device->counterSets()->object<MTL::CounterSet>(0));
    made->setSampleCount(count);
    return made;
  }
  NS::SharedPtr<MTL::CounterSampleBuffer> samples(NS::UInteger count) {
    NS::Error* error = nullptr;
    auto made = NS::TransferPtr(device->newCounterSampleBuffer(descriptor(count).get(), &error));
    REQUIRE_MESSAGE(made, text(error));
    return made;
  }
  static std::vector<uint64_t> resolve(MTL::CounterSampleBuffer* from) {
    NS::Data* data = from->resolveCounterRange(NS::Range(0, from->sampleCount()));
    REQUIRE(data);
    REQUIRE(data->length() == from->sampleCount() * sizeof(MTL::CounterResultTimestamp));
    const auto* results = static_cast<const MTL::CounterResultTimestamp*>(data->mutableBytes());
    std::vector<uint64_t> times;
    for (NS::UInteger i = 0; i < from->sampleCount(); ++i) times.push_back(results[i].timestamp);
    return times;
  }
  MTL::ComputePassDescriptor* pass(MTL::CounterSampleBuffer* into, NS::UInteger start, NS::UInteger end,
                                   MTL::DispatchType type = MTL::DispatchTypeSerial) {
    auto* made = MTL::ComputePassDescriptor::computePassDescriptor();
    made->setDispatchType(type);
    auto* attachment = made->sampleBufferAttachments()->object(0);
    attachment->setSampleBuffer(into);
    attachment->setStartOfEncoderSampleIndex(start);
    attachment->setEndOfEncoderSampleIndex(end);
    return made;
  }
  void encode(MTL::ComputeCommandEncoder* encoder, const NS::SharedPtr<MTL::Buffer>& into,
              uint64_t microseconds, NS::UInteger units = 1) {
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(into.get(), 0, 0);
    encoder->setBytes(&microseconds, sizeof(microseconds), 1);
    encoder->dispatchThreadgroups(MTL::Size(units, 1, 1), MTL::Size(1, 1, 1));
  }

  NS::SharedPtr<MTL::ComputePipelineState> state;
};

using Info = std::pair<std::string, MTL::CommandEncoderErrorState>;

std::vector<Info> infos_of(MTL::CommandBuffer* commands) {
  REQUIRE(commands->error());
  auto* list = commands->error()->userInfo()->object<NS::Array>(MTL::CommandBufferEncoderInfoErrorKey);
  REQUIRE(list);
  std::vector<Info> infos;
  for (NS::UInteger i = 0; i < list->count(); ++i) {
    auto* info = list->object<MTL::CommandBufferEncoderInfo>(i);
    infos.emplace_back(text(info->label()), info->errorState());
  }
  return infos;
}

MTL::CommandBuffer* with_infos(MTL::CommandQueue* queue) {
  auto descriptor = NS::TransferPtr(MTL::CommandBufferDescriptor::alloc()->init());
  descriptor->setErrorOptions(MTL::CommandBufferErrorOptionEncoderExecutionStatus);
  return queue->commandBuffer(descriptor.get());
}

}  // namespace

TEST_CASE("devices have one counter set, for the boundaries of encoders") {
  for (const NS::UInteger which : {0, 1}) {
    Bench bench(which);
    NS::Array* sets = bench.device->counterSets();
    REQUIRE(sets->count() == 1);
    auto* set = sets->object<MTL::CounterSet>(0);
    CHECK(set->name()->isEqualToString(MTL::CommonCounterSetTimestamp));
    CHECK(text(set->name()) == "timestamp");
    REQUIRE(set->counters()->count() == 1);
    CHECK(set->counters()->object<MTL::Counter>(0)->name()->isEqualToString(MTL::CommonCounterTimestamp));
    CHECK(bench.device->supportsCounterSampling(MTL::CounterSamplingPointAtStageBoundary));
    for (const auto point :
         {MTL::CounterSamplingPointAtDispatchBoundary, MTL::CounterSamplingPointAtBlitBoundary,
          MTL::CounterSamplingPointAtDrawBoundary})
      CHECK_FALSE(bench.device->supportsCounterSampling(point));
    MTL::Timestamp cpu = 0, gpu = 0;
    const uint64_t before = now();
    bench.device->sampleTimestamps(&cpu, &gpu);
    CHECK(cpu == gpu);
    CHECK(cpu >= before);
    CHECK(cpu <= now());
  }
}

TEST_CASE("samples enclose the dispatches of their encoder") {
  for (const NS::UInteger which : {0, 1})
    for (const auto type : {MTL::DispatchTypeSerial, MTL::DispatchTypeConcurrent})
      for (const uint64_t microseconds : {0, 300})
        for (int repeat = 0; repeat < 10; ++repeat) {
          Bench bench(which);
          auto samples = bench.samples(6);
          auto first = bench.buffer(sizeof(Stamp)), second = bench.buffer(sizeof(Stamp));
          const uint64_t before = now();
          MTL::CommandBuffer* commands = bench.queue->commandBuffer();
          auto* encoder = commands->computeCommandEncoder(bench.pass(samples.get(), 0, 1, type));
          CHECK(encoder->dispatchType() == type);
          for (const NS::UInteger units : {1, 8, 1}) bench.encode(encoder, first, microseconds, units);
          encoder->endEncoding();
          encoder = commands->computeCommandEncoder(bench.pass(samples.get(), 4, 2, type));
          for (int i = 0; i < 3; ++i) bench.encode(encoder, second, microseconds);
          encoder->endEncoding();
          commands->commit();
          commands->waitUntilCompleted();
          REQUIRE_MESSAGE(!commands->error(), text(commands->error()));
          const auto times = Bench::resolve(samples.get());
          const auto& a = *Bench::contents<Stamp>(first);
          const auto& b = *Bench::contents<Stamp>(second);
          CHECK(before <= times[0]);
          CHECK(times[0] <= a.begin);
          CHECK(a.end <= times[1]);
          CHECK(times[1] <= times[4]);
          CHECK(times[4] <= b.begin);
          CHECK(b.end <= times[2]);
          CHECK(times[2] <= now());
          CHECK(times[3] == MTL::CounterErrorValue);
          CHECK(times[5] == MTL::CounterErrorValue);
          CHECK(static_cast<double>(times[2]) * 1e-9 <= commands->GPUEndTime() + 1e-6);
        }
}

TEST_CASE("the first sample waits for what the encoder waits for") {
  for (const NS::UInteger which : {0, 1}) {
    Bench bench(which);
    auto samples = bench.samples(2);
    auto stamps = bench.buffer(sizeof(Stamp));
    auto event = NS::TransferPtr(bench.device->newSharedEvent());
    MTL::CommandBuffer* commands = bench.queue->commandBuffer();
    commands->encodeWait(event.get(), 1);
    auto* encoder = commands->computeCommandEncoder(bench.pass(samples.get(), 0, 1));
    bench.encode(encoder, stamps, 0);
    encoder->endEncoding();
    commands->commit();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    CHECK(Bench::resolve(samples.get())[0] == MTL::CounterErrorValue);
    const uint64_t signalled = now();
    event->setSignaledValue(1);
    commands->waitUntilCompleted();
    CHECK(Bench::resolve(samples.get())[0] >= signalled);
  }
}

TEST_CASE("several attachments, one index, and an encoder without dispatches") {
  Bench bench(0);
  auto some = bench.samples(2), more = bench.samples(2);
  auto* pass = bench.pass(some.get(), MTL::CounterDontSample, 1);
  auto attachment = NS::TransferPtr(MTL::ComputePassSampleBufferAttachmentDescriptor::alloc()->init());
  CHECK(attachment->startOfEncoderSampleIndex() == MTL::CounterDontSample);
  attachment->setSampleBuffer(more.get());
  attachment->setStartOfEncoderSampleIndex(0);
  attachment->setEndOfEncoderSampleIndex(1);
  pass->sampleBufferAttachments()->setObject(attachment.get(), 3);
  auto copy = NS::TransferPtr(pass->copy());
  pass->sampleBufferAttachments()->object(3)->setSampleBuffer(nullptr);
  MTL::CommandBuffer* commands = bench.queue->commandBuffer();
  commands->computeCommandEncoder(copy.get())->endEncoding();
  commands->commit();
  commands->waitUntilCompleted();
  CHECK(Bench::resolve(some.get())[0] == MTL::CounterErrorValue);
  CHECK(Bench::resolve(some.get())[1] != MTL::CounterErrorValue);
  const auto times = Bench::resolve(more.get());
  CHECK(times[0] <= times[1]);
  CHECK(times[1] != MTL::CounterErrorValue);
}

TEST_CASE("sample buffers say what they need") {
  Bench bench(0);
  const auto message = [&](auto change) {
    auto descriptor = bench.descriptor(4);
    change(descriptor.get());
    NS::Error* error = nullptr;
    auto made = NS::TransferPtr(bench.device->newCounterSampleBuffer(descriptor.get(), &error));
    CHECK_FALSE(made);
    REQUIRE(error);
    CHECK(error->domain()->isEqualToString(MTL::CounterErrorDomain));
    CHECK(error->code() == MTL::CounterSampleBufferErrorInvalid);
    return text(error);
  };
  const std::string call = "Device::newCounterSampleBuffer: ";
  CHECK(message([](auto* d) { d->setSampleCount(0); }) == call + "sampleCount is 0, needs 1 to 4096");
  CHECK(message([](auto* d) { d->setSampleCount(4097); }) == call + "sampleCount is 4097, needs 1 to 4096");
  CHECK(message([](auto* d) { d->setCounterSet(nullptr); }) ==
        call + "counterSet is null, needs one of Device::counterSets");
  CHECK(message([](auto* d) { d->setStorageMode(MTL::StorageModeMemoryless); }) ==
        call + "storageMode is neither shared nor private, needs one of them");
  CHECK(bench.samples(4096)->sampleCount() == 4096);

  auto descriptor = bench.descriptor(4);
  descriptor->setLabel(string("times"));
  auto samples = NS::TransferPtr(bench.device->newCounterSampleBuffer(descriptor.get(), nullptr));
  CHECK(text(samples->label()) == "times");
  CHECK(samples->device() == bench.device.get());
  CHECK_FALSE(samples->resolveCounterRange(NS::Range(3, 2)));
  CHECK_FALSE(samples->resolveCounterRange(NS::Range(1, ~NS::UInteger{0})));
  CHECK(samples->resolveCounterRange(NS::Range(4, 0))->length() == 0);
  descriptor->setStorageMode(MTL::StorageModePrivate);
  samples = NS::TransferPtr(bench.device->newCounterSampleBuffer(descriptor.get(), nullptr));
  CHECK_FALSE(samples->resolveCounterRange(NS::Range(0, 1)));
  CHECK_FALSE(MTL::ComputePassDescriptor::computePassDescriptor()->sampleBufferAttachments()->object(4));
}

TEST_CASE("passes that cannot be sampled fail their command buffer") {
  Bench bench(0), other(1);
  auto samples = bench.samples(2), foreign = other.samples(2);
  const auto message = [&](MTL::ComputePassDescriptor* pass) {
    MTL::CommandBuffer* commands = bench.queue->commandBuffer();
    commands->computeCommandEncoder(pass)->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    CHECK(commands->status() == MTL::CommandBufferStatusError);
    return text(commands->error());
  };
  const std::string call = "CommandBuffer::computeCommandEncoder: ";
  CHECK(message(bench.pass(samples.get(), 2, 1)) ==
        call +
            "sampleBufferAttachments[0].startOfEncoderSampleIndex is 2, needs less than the sample buffer's "
            "count, 2, or CounterDontSample");
  CHECK(message(bench.pass(samples.get(), 0, 7)) ==
        call +
            "sampleBufferAttachments[0].endOfEncoderSampleIndex is 7, needs less than the sample buffer's "
            "count, 2, or CounterDontSample");
  CHECK(message(bench.pass(foreign.get(), 0, 1)) ==
        call +
            "sampleBufferAttachments[0].sampleBuffer belongs to another device, needs one of the command "
            "buffer's device");
  CHECK(message(nullptr) == call + "computePassDescriptor is null, needs one");
  for (const uint64_t time : Bench::resolve(samples.get())) CHECK(time == MTL::CounterErrorValue);
}

TEST_CASE("sample buffers live until the command buffer has run") {
  const int64_t before = softmetal::live_objects();
  {
    Bench bench(0);
    auto samples = bench.samples(2);
    MTL::CommandBuffer* commands = bench.queue->commandBufferWithUnretainedReferences();
    commands->computeCommandEncoder(bench.pass(samples.get(), 0, 1))->endEncoding();
    samples.reset();
    commands->commit();
    commands->waitUntilCompleted();
    CHECK(commands->status() == MTL::CommandBufferStatusCompleted);
  }
  CHECK(softmetal::live_objects() == before);
}

TEST_CASE("misuse names the encoder, and the others never began") {
  Bench bench(0);
  auto stamps = bench.buffer(sizeof(Stamp));
  MTL::CommandBuffer* commands = with_infos(bench.queue.get());
  CHECK(commands->errorOptions() == MTL::CommandBufferErrorOptionEncoderExecutionStatus);
  for (const char* name : {"one", "two", "three"}) {
    auto* encoder = commands->computeCommandEncoder();
    encoder->setLabel(string(name));
    encoder->pushDebugGroup(string("group"));
    bench.encode(encoder, stamps, 0);
    encoder->insertDebugSignpost(string("post"));
    if (std::string(name) != "one") encoder->setBuffer(nullptr, 0, 31);
    encoder->popDebugGroup();
    encoder->endEncoding();
  }
  commands->commit();
  commands->waitUntilCompleted();
  CHECK(infos_of(commands) == std::vector<Info>{{"one", MTL::CommandEncoderErrorStatePending},
                                                {"two", MTL::CommandEncoderErrorStateFaulted},
                                                {"three", MTL::CommandEncoderErrorStatePending}});
  auto* list = commands->error()->userInfo()->object<NS::Array>(MTL::CommandBufferEncoderInfoErrorKey);
  auto* posts = list->object<MTL::CommandBufferEncoderInfo>(1)->debugSignposts();
  REQUIRE(posts->count() == 2);
  CHECK(text(posts->object<NS::String>(0)) == "group");
  CHECK(text(posts->object<NS::String>(1)) == "post");
  CHECK(Bench::contents<Stamp>(stamps)->begin == 0);
}

TEST_CASE("a fault of a kernel names its encoder") {
  Bench bench(1);
  auto stray = bench.pipeline("stray");
  auto stamps = bench.buffer(sizeof(Stamp));
  MTL::CommandBuffer* commands = with_infos(bench.queue.get());
  for (const char* name : {"one", "two", "three"}) {
    auto* encoder = commands->computeCommandEncoder();
    encoder->setLabel(string(name));
    bench.encode(encoder, stamps, 0);
    if (std::string(name) == "two") {
      encoder->setComputePipelineState(stray.get());
      encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
    }
    encoder->endEncoding();
  }
  commands->commit();
  commands->waitUntilCompleted();
  const auto infos = infos_of(commands);
  REQUIRE(infos.size() == 3);
  // What strays this far ends the command buffer.
  CHECK(infos[0] == Info{"one", MTL::CommandEncoderErrorStateCompleted});
  CHECK(infos[1] == Info{"two", MTL::CommandEncoderErrorStateFaulted});
  CHECK(infos[2] == Info{"three", MTL::CommandEncoderErrorStatePending});
  CHECK(commands->error()->userInfo()->object<NS::Array>(string("faults")));
}

TEST_CASE("errors tell of encoders only when asked to") {
  Bench bench(0);
  MTL::CommandBuffer* commands = bench.queue->commandBuffer();
  auto* encoder = commands->computeCommandEncoder();
  encoder->setBuffer(nullptr, 0, 31);
  encoder->endEncoding();
  commands->commit();
  commands->waitUntilCompleted();
  REQUIRE(commands->error());
  CHECK_FALSE(commands->error()->userInfo()->object<NS::Array>(MTL::CommandBufferEncoderInfoErrorKey));
}
