#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "softmetal_kernels.h"

using test::Bench;
using test::string;
using test::text;

namespace {

// A command buffer with an open encoder and one good dispatch encoded, which must not run if anything is
// wrong.
struct Encoding : Bench {
  NS::SharedPtr<MTL::ComputePipelineState> append_state = pipeline("append");
  NS::SharedPtr<MTL::Buffer> number = buffer(24);
  MTL::CommandBuffer* commands = queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();

  Encoding() { append(encoder, append_state.get(), number.get(), 5); }

  void dispatch(NS::UInteger threads = 1) {
    encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(threads, 1, 1));
  }
};

using Misuse = std::function<void(Encoding&)>;

struct Case {
  const char* name;
  Misuse misuse;
  std::string message;
  // Whether the encoder is still open afterwards and commit still has to come.
  bool open = true;
};

const float kValue = 1;
const uint64_t kDigit = 1;

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"index over 30", [](Encoding& e) { e.encoder->setBuffer(e.number.get(), 0, 31); },
       "ComputeCommandEncoder::setBuffer: index is 31, needs at most 30 (kernel \"append\")"},
      {"setBytes index over 30", [](Encoding& e) { e.encoder->setBytes(&kValue, 4, 31); },
       "ComputeCommandEncoder::setBytes: index is 31, needs at most 30 (kernel \"append\")"},
      {"offset outside the buffer", [](Encoding& e) { e.encoder->setBuffer(e.number.get(), 24, 0); },
       "ComputeCommandEncoder::setBuffer: offset is 24 at index 0, needs less than the buffer's length, 24 "
       "(kernel "
       "\"append\")"},
      {"setBufferOffset outside the buffer", [](Encoding& e) { e.encoder->setBufferOffset(100, 0); },
       "ComputeCommandEncoder::setBufferOffset: offset is 100 at index 0, needs less than the buffer's "
       "length, 24 "
       "(kernel \"append\")"},
      {"setBufferOffset without buffer", [](Encoding& e) { e.encoder->setBufferOffset(0, 9); },
       "ComputeCommandEncoder::setBufferOffset: no buffer is bound at index 9, needs setBuffer first (kernel "
       "\"append\")"},
      {"setBufferOffset of bytes", [](Encoding& e) { e.encoder->setBufferOffset(0, 1); },
       "ComputeCommandEncoder::setBufferOffset: no buffer is bound at index 1, needs setBuffer first (kernel "
       "\"append\")"},
      {"setBytes too long",
       [](Encoding& e) {
         const char bytes[4097] = {};
         e.encoder->setBytes(bytes, sizeof(bytes), 1);
       },
       "ComputeCommandEncoder::setBytes: length is 4097 bytes at index 1, needs 1 to 4096 (kernel "
       "\"append\")"},
      {"setBytes empty", [](Encoding& e) { e.encoder->setBytes(&kValue, 0, 1); },
       "ComputeCommandEncoder::setBytes: length is 0 bytes at index 1, needs 1 to 4096 (kernel \"append\")"},
      {"setBytes null", [](Encoding& e) { e.encoder->setBytes(nullptr, 4, 1); },
       "ComputeCommandEncoder::setBytes: bytes is null at index 1, needs data (kernel \"append\")"},
      {"unbound argument",
       [](Encoding& e) {
         e.encoder->setBuffer(nullptr, 0, 0);
         e.dispatch();
       },
       "ComputeCommandEncoder::dispatchThreadgroups: buffer argument \"number\" (index 0) is not bound, "
       "needs setBuffer "
       "or setBytes (kernel \"append\")"},
      {"argument too small",
       [](Encoding& e) {
         e.encoder->setBytes(&kValue, 4, 1);
         e.dispatch();
       },
       "ComputeCommandEncoder::dispatchThreadgroups: buffer argument \"digit\" (index 1) has 4 bytes, needs "
       "8 (one "
       "ulong) (kernel \"append\")"},
      {"argument too small after its offset",
       [](Encoding& e) {
         e.encoder->setBufferOffset(20, 0);
         e.dispatch();
       },
       "ComputeCommandEncoder::dispatchThreadgroups: buffer argument \"number\" (index 0) has 4 bytes, needs "
       "8 (one "
       "ulong) (kernel \"append\")"},
      {"misaligned offset",
       [](Encoding& e) {
         e.encoder->setBufferOffset(4, 0);
         e.dispatch();
       },
       "ComputeCommandEncoder::dispatchThreadgroups: buffer argument \"number\" (index 0) has offset 4, "
       "needs a multiple "
       "of 8 (ulong) (kernel \"append\")"},
      {"no pipeline",
       [](Encoding& e) {
         e.encoder->endEncoding();
         e.encoder = e.commands->computeCommandEncoder();
         e.encoder->setLabel(string("second"));
         e.encoder->dispatchThreads(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
       },
       "ComputeCommandEncoder::dispatchThreads: no pipeline is set, needs setComputePipelineState first "
       "(encoder "
       "\"second\")"},
      {"null pipeline", [](Encoding& e) { e.encoder->setComputePipelineState(nullptr); },
       "ComputeCommandEncoder::setComputePipelineState: state is null, needs a pipeline (kernel \"append\")"},
      {"threadgroup over the pipeline's limit", [](Encoding& e) { e.dispatch(2); },
       "ComputeCommandEncoder::dispatchThreadgroups: threadsPerThreadgroup is 2x1x1 = 2 threads, needs at "
       "most 1 (the "
       "pipeline's limit) (kernel \"append\")"},
      {"zero-sized threadgroup", [](Encoding& e) { e.dispatch(0); },
       "ComputeCommandEncoder::dispatchThreadgroups: threadsPerThreadgroup is 0x1x1, needs at least 1x1x1 "
       "(kernel "
       "\"append\")"},
      {"grid too large",
       [](Encoding& e) {
         e.encoder->dispatchThreads(MTL::Size(NS::UInteger{1} << 32, 1, 1), MTL::Size(1, 1, 1));
       },
       "ComputeCommandEncoder::dispatchThreads: threadsPerGrid is 4294967296x1x1, needs at most 4294967295 "
       "in each "
       "dimension (kernel \"append\")"},
      {"grid too large in all",
       [](Encoding& e) {
         e.encoder->dispatchThreads(MTL::Size(4294967295, 4294967295, 2), MTL::Size(1, 1, 1));
       },
       "ComputeCommandEncoder::dispatchThreads: threadsPerGrid is 4294967295x4294967295x2, needs at most "
       "2^62 threads "
       "in all (kernel \"append\")"},
      {"too many threadgroups",
       [](Encoding& e) {
         e.encoder->dispatchThreadgroups(MTL::Size(4294967295, 4294967295, 1), MTL::Size(1, 1, 1));
       },
       "ComputeCommandEncoder::dispatchThreadgroups: threadgroupsPerGrid is 4294967295x4294967295x1 of 1x1x1 "
       "threads, "
       "needs at most 4294967295 threads in each dimension and 2^62 in all (kernel \"append\")"},
      {"threadgroup memory not a multiple of 16",
       [](Encoding& e) { e.encoder->setThreadgroupMemoryLength(24, 0); },
       "ComputeCommandEncoder::setThreadgroupMemoryLength: length is 24 bytes at index 0, needs a multiple "
       "of 16 (kernel "
       "\"append\")"},
      {"threadgroup memory over the limit",
       [](Encoding& e) { e.encoder->setThreadgroupMemoryLength(32784, 0); },
       "ComputeCommandEncoder::setThreadgroupMemoryLength: length is 32784 bytes at index 0, needs at most "
       "32768 "
       "(kernel \"append\")"},
      {"threadgroup memory over the limit with the kernel's own",
       [](Encoding& e) {
         auto groups = e.pipeline("groups");
         e.encoder->setComputePipelineState(groups.get());
         e.encoder->setBuffer(e.number.get(), 0, 3);
         e.encoder->setThreadgroupMemoryLength(16400, 1);
         e.dispatch();
       },
       "ComputeCommandEncoder::dispatchThreadgroups: threadgroup memory is 32784 bytes (16384 in the kernel, "
       "16400 in "
       "arguments), needs at most 32768 (kernel \"groups\")"},
      {"threadgroup argument without memory",
       [](Encoding& e) {
         auto groups = e.pipeline("groups");
         e.encoder->setComputePipelineState(groups.get());
         e.encoder->setBuffer(e.number.get(), 0, 3);
         e.dispatch();
       },
       "ComputeCommandEncoder::dispatchThreadgroups: threadgroup argument \"scratch\" (index 1) has 0 bytes, "
       "needs at "
       "least 4 (setThreadgroupMemoryLength) (kernel \"groups\")"},
      {"indirect arguments outside their buffer",
       [](Encoding& e) { e.encoder->dispatchThreadgroups(e.number.get(), 16, MTL::Size(1, 1, 1)); },
       "ComputeCommandEncoder::dispatchThreadgroups: indirectBufferOffset is 16 in a buffer of 24 bytes, "
       "needs 12 bytes "
       "from there (kernel \"append\")"},
      {"indirect arguments misaligned",
       [](Encoding& e) { e.encoder->dispatchThreadgroups(e.number.get(), 2, MTL::Size(1, 1, 1)); },
       "ComputeCommandEncoder::dispatchThreadgroups: indirectBufferOffset is 2, needs a multiple of 4 "
       "(kernel "
       "\"append\")"},
      {"barrier without resources",
       [](Encoding& e) { e.encoder->memoryBarrier(static_cast<const MTL::Resource* const*>(nullptr), 0); },
       "ComputeCommandEncoder::memoryBarrier: no resources are given, needs at least one (kernel "
       "\"append\")"},
      {"useResource null", [](Encoding& e) { e.encoder->useResource(nullptr, MTL::ResourceUsageRead); },
       "ComputeCommandEncoder::useResource: resource is null, needs a resource (kernel \"append\")"},
      {"pop without push", [](Encoding& e) { e.encoder->popDebugGroup(); },
       "ComputeCommandEncoder::popDebugGroup: no group is open, needs pushDebugGroup first (kernel "
       "\"append\")"},
      {"labels and groups in the message",
       [](Encoding& e) {
         e.commands->setLabel(string("frame"));
         e.encoder->setLabel(string("layers"));
         e.encoder->pushDebugGroup(string("layer 3"));
         e.encoder->pushDebugGroup(string("norm"));
         e.dispatch(0);
         e.encoder->popDebugGroup();
         e.encoder->popDebugGroup();
       },
       "ComputeCommandEncoder::dispatchThreadgroups: threadsPerThreadgroup is 0x1x1, needs at least 1x1x1 "
       "(kernel "
       "\"append\", group \"layer 3/norm\", encoder \"layers\", command buffer \"frame\")"},
      {"only the first misuse counts",
       [](Encoding& e) {
         e.dispatch(0);
         e.encoder->setBuffer(e.number.get(), 0, 31);
       },
       "ComputeCommandEncoder::dispatchThreadgroups: threadsPerThreadgroup is 0x1x1, needs at least 1x1x1 "
       "(kernel "
       "\"append\")"},
      {"endEncoding with an open group",
       [](Encoding& e) {
         e.encoder->pushDebugGroup(string("norm"));
         e.encoder->endEncoding();
       },
       "ComputeCommandEncoder::endEncoding: 1 debug groups are open, needs a popDebugGroup for each (kernel "
       "\"append\", "
       "group \"norm\")",
       false},
      {"encoding after endEncoding",
       [](Encoding& e) {
         e.encoder->endEncoding();
         e.encoder->setBytes(&kDigit, 8, 1);
       },
       "ComputeCommandEncoder::setBytes: called after endEncoding, needs an open encoder (kernel \"append\")",
       false},
      {"endEncoding twice",
       [](Encoding& e) {
         e.encoder->endEncoding();
         e.encoder->endEncoding();
       },
       "ComputeCommandEncoder::endEncoding: called after endEncoding, needs an open encoder (kernel "
       "\"append\")",
       false},
      {"a second encoder while one is open",
       [](Encoding& e) { e.commands->computeCommandEncoder()->endEncoding(); },
       "CommandBuffer::computeCommandEncoder: called while an encoder is open, needs endEncoding first"},
      {"an event while an encoder is open",
       [](Encoding& e) {
         auto event = NS::TransferPtr(e.device->newEvent());
         e.commands->encodeSignalEvent(event.get(), 1);
       },
       "CommandBuffer::encodeSignalEvent: called while an encoder is open, needs endEncoding first"},
      {"commit with an open encoder", [](Encoding& e) { e.commands->commit(); },
       "CommandBuffer::commit: called while an encoder is open, needs endEncoding first", false},
      {"wait before commit",
       [](Encoding& e) {
         e.encoder->endEncoding();
         e.commands->waitUntilCompleted();
       },
       "CommandBuffer::waitUntilCompleted: called before commit, needs a committed command buffer", false},
      {"null event",
       [](Encoding& e) {
         e.encoder->endEncoding();
         e.commands->encodeWait(nullptr, 1);
       },
       "CommandBuffer::encodeWait: event is null, needs an event", false},
  };
  return all;
}

// What a child process says on its way out.
std::string dying_words(const std::function<void()>& body, int* status) {
  int output[2];
  REQUIRE(pipe(output) == 0);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    dup2(output[1], STDERR_FILENO);
    setenv("MTL_DEBUG_LAYER", "1", 1);
    body();
    _exit(0);
  }
  close(output[1]);
  std::string words(4096, '\0');
  const ssize_t length = read(output[0], words.data(), words.size());
  words.resize(length > 0 ? static_cast<size_t>(length) : 0);
  close(output[0]);
  waitpid(child, status, 0);
  return words;
}

}  // namespace

TEST_CASE("misuse becomes the error of the command buffer, which runs nothing") {
  for (const Case& each : cases()) {
    CAPTURE(each.name);
    Encoding encoding;
    auto event = NS::TransferPtr(encoding.device->newSharedEvent());
    each.misuse(encoding);
    if (each.open) encoding.encoder->endEncoding();
    if (encoding.commands->status() < MTL::CommandBufferStatusCommitted) {
      encoding.commands->encodeSignalEvent(event.get(), 1);
      encoding.commands->commit();
      encoding.commands->waitUntilCompleted();
      CHECK(event->signaledValue() == 1);  // who waits for a failed command buffer is not left waiting
    }
    encoding.commands->waitUntilCompleted();
    CHECK(encoding.commands->status() == MTL::CommandBufferStatusError);
    NS::Error* error = encoding.commands->error();
    REQUIRE(error);
    CHECK(text(error) == each.message);
    CHECK(text(error->domain()) == "MTLCommandBufferErrorDomain");
    CHECK(*Bench::contents<uint64_t>(encoding.number) == 0);
  }
}

TEST_CASE("under the debug layer misuse aborts where it happens") {
  for (const Case& each : cases()) {
    CAPTURE(each.name);
    int status = 0;
    const std::string words = dying_words(
        [&] {
          Encoding encoding;
          each.misuse(encoding);
        },
        &status);
    CHECK(WIFSIGNALED(status));
    CHECK(words == "softmetal: " + each.message + "\n");
  }
}

TEST_CASE("committing twice is an error of what was already committed") {
  Encoding encoding;
  encoding.encoder->endEncoding();
  encoding.commands->commit();
  encoding.commands->waitUntilCompleted();
  CHECK(encoding.commands->status() == MTL::CommandBufferStatusCompleted);
  encoding.commands->commit();
  CHECK(encoding.commands->status() == MTL::CommandBufferStatusError);
  CHECK(text(encoding.commands->error()) ==
        "CommandBuffer::commit: called twice, needs a new command buffer");
  CHECK(*Bench::contents<uint64_t>(encoding.number) == 5);
  encoding.commands->waitUntilCompleted();
}

TEST_CASE("encoding after commit is refused") {
  Encoding encoding;
  encoding.encoder->endEncoding();
  encoding.commands->commit();
  encoding.commands->computeCommandEncoder()->setBytes(&kDigit, 8, 1);
  encoding.commands->waitUntilCompleted();
  CHECK(text(encoding.commands->error()) ==
        "CommandBuffer::computeCommandEncoder: called after commit, needs an uncommitted command buffer");
}

TEST_CASE("an encoder released while open is reported") {
  Bench bench;
  auto commands = NS::RetainPtr(bench.queue->commandBuffer());
  {
    auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    commands->computeCommandEncoder();
  }
  CHECK(text(commands->error()) ==
        "ComputeCommandEncoder::release: the encoder is released while open, needs endEncoding first");
}

TEST_CASE("what the kernel does not use need not be bound, and a grid without threads runs nothing") {
  Encoding encoding;
  encoding.encoder->setBuffer(encoding.number.get(), 1, 30);
  encoding.encoder->dispatchThreads(MTL::Size(0, 1, 1), MTL::Size(1, 1, 1));
  encoding.encoder->dispatchThreadgroups(MTL::Size(1, 0, 1), MTL::Size(1, 1, 1));
  encoding.encoder->useResource(encoding.number.get(), MTL::ResourceUsageRead | MTL::ResourceUsageWrite);
  auto fence = NS::TransferPtr(encoding.device->newFence());
  encoding.encoder->updateFence(fence.get());
  encoding.encoder->waitForFence(fence.get());
  encoding.encoder->endEncoding();
  encoding.commands->commit();
  encoding.commands->waitUntilCompleted();
  CHECK(text(encoding.commands->error()) == "<no error>");
  CHECK(*Bench::contents<uint64_t>(encoding.number) == 5);
}

TEST_CASE("a queue refuses a command buffer when all are taken and none is committed") {
  Bench bench;
  auto queue = NS::TransferPtr(bench.device->newCommandQueue(3));
  NS::SharedPtr<MTL::CommandBuffer> held[3];
  {
    // Autoreleased references would hold the slots, too.
    auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    for (auto& each : held) each = NS::RetainPtr(queue->commandBuffer());
    CHECK(queue->commandBuffer() == nullptr);
  }
  held[1].reset();
  auto fresh = NS::RetainPtr(queue->commandBuffer());
  CHECK(fresh);
  held[0]->commit();
  CHECK(queue->commandBuffer() != nullptr);
  CHECK(bench.device->newCommandQueue(NS::UInteger{0}) == nullptr);

  int status = 0;
  const std::string words = dying_words(
      [&] {
        auto small = NS::TransferPtr(bench.device->newCommandQueue(1));
        small->commandBuffer();
        small->commandBuffer();
      },
      &status);
  CHECK(WIFSIGNALED(status));
  CHECK(words ==
        "softmetal: CommandQueue::commandBuffer: all 1 command buffers of the queue are in use and none is "
        "committed, needs one to be committed or released\n");
}
