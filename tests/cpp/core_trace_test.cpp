#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "metalloid/command_encoder.h"
#include "metalloid/trace.h"
#include "ops/rms_norm.h"

using namespace metalloid;
using namespace std::chrono_literals;

namespace {

Device& device() { return Device::open(); }

struct Rows {
  Buffer x = device().zeros({8, 64}, DType::float32);
  Buffer y = device().empty({8, 64}, DType::float32);

  void encode(CommandEncoder& encoder) { ops::rms_norm(encoder, x, nullptr, 1e-6, &y); }
};

trace::Report ended() {
  trace::finish(10s);
  return trace::stop();
}

}  // namespace

TEST_CASE("a trace tells when each dispatch was encoded and ran") {
  Rows rows;
  trace::start();
  CommandEncoder encoder(device(), {.label = "a label"});
  encoder.push_group("outer");
  encoder.push_group("inner");
  for (int i = 0; i < 3; ++i) rows.encode(encoder);
  encoder.pop_group();
  encoder.pop_group();
  encoder.commit();
  const trace::Report report = ended();
  CHECK_FALSE(trace::on());
  REQUIRE(report.command_buffers.size() == 1);
  const trace::CommandBuffer& buffer = report.command_buffers[0];
  CHECK(report.strings[buffer.label] == "a label");
  CHECK(buffer.status == trace::CommandBuffer::Status::completed);
  CHECK(report.queues[buffer.queue] == &device().queue());
  REQUIRE(report.dispatches.size() == 3);
  trace::Time before = buffer.ran.begin;
  for (const trace::Dispatch& each : report.dispatches) {
    CHECK(report.strings[each.name] == "rms_norm");
    CHECK(report.strings[each.kernel] == "rms_norm_f32");
    CHECK(report.strings[each.group] == "outer/inner");
    CHECK(each.reads == rows.x.nbytes());
    CHECK(each.writes == rows.y.nbytes());
    CHECK(each.barrier == (&each != report.dispatches.data()));
    CHECK(report.span.begin <= each.encoded.begin);
    CHECK(each.encoded.begin <= each.encoded.end);
    CHECK(each.encoded.end <= buffer.committed.begin);
    CHECK(buffer.committed.begin <= each.ran.begin);
    CHECK(before <= each.ran.begin);
    CHECK(each.ran.begin <= each.ran.end);
    before = each.ran.end;
  }
  CHECK(before <= buffer.ran.end);
  CHECK(buffer.ran.end <= report.span.end);
  CHECK(report.dropped == 0);
  CHECK(report.unsampled == 0);
}

TEST_CASE("more dispatches than one sample buffer has room for, of many command buffers") {
  Rows rows;
  trace::start();
  for (int i = 0; i < 5; ++i) {
    CommandEncoder encoder(device());
    for (int k = 0; k < 1000; ++k) rows.encode(encoder);
    encoder.commit();
  }
  const trace::Report report = ended();
  CHECK(report.dispatches.size() == 5000);
  CHECK(report.unsampled == 0);
  CHECK(std::is_sorted(
      report.dispatches.begin(), report.dispatches.end(),
      [](const trace::Dispatch& a, const trace::Dispatch& b) { return a.ran.begin < b.ran.begin; }));
}

TEST_CASE("a trace that ends in the midst of everything") {
  Rows rows;
  for (int i = 0; i < 20; ++i) {
    trace::start(200);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([] {
        Rows own;
        for (int k = 0; k < 30; ++k) {
          CommandEncoder encoder(device());
          for (int n = 0; n < 3; ++n) own.encode(encoder);
          encoder.commit_and_wait();
        }
      });
    }
    CommandEncoder open(device());
    rows.encode(open);
    std::this_thread::sleep_for(i * 100us);
    const trace::Report report = trace::stop();
    CHECK(report.dispatches.size() * 2 <= 200);
    rows.encode(open);
    open.commit_and_wait();
    for (std::thread& each : threads) each.join();
  }
  CHECK_THROWS_AS(trace::stop(), Error);
  trace::start();
  CHECK_THROWS_WITH_AS(trace::start(), doctest::Contains("on already"), Error);
  CHECK(trace::stop().dispatches.empty());
}

TEST_CASE("the error of a command buffer that has names tells encoder and debug groups") {
  Queue& queue = device().queue();
  NS::SharedPtr<MTL::CommandBuffer> buffer = queue.begin_command_buffer(true);
  {
    AutoreleaseScope scope;
    for (const char* name : {"innocent", "guilty", "later"}) {
      MTL::ComputeCommandEncoder* encoder = buffer->computeCommandEncoder();
      encoder->setLabel(ns_string(name).get());
      encoder->pushDebugGroup(ns_string(std::string("group of ") + name).get());
      // No pipeline is set, which no caller of ours can do.
      if (std::string(name) == "guilty")
        encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
      encoder->popDebugGroup();
      encoder->endEncoding();
    }
  }
  const uint64_t serial = queue.commit(buffer, {}, {});
  Submission submission(queue, "the buffer", buffer, serial);
  std::string message;
  try {
    submission.wait();
  } catch (const DeviceError& error) {
    message = error.what();
  }
  CHECK(message.starts_with("Submission.wait: the buffer ended in an error: "));
  CHECK(message.ends_with("; in encoder \"guilty\" (debug groups group of guilty)"));
}
