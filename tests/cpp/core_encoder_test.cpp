#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "core_support.h"
#include "metalloid/command_encoder.h"
#include "ops/rms_norm.h"

using namespace metalloid;
using Status = CommandEncoder::Status;

TEST_CASE("commit runs what was encoded, in order") {
  Buffer x = filled({8, 64}, 3);
  Buffer twice = filled({64}, 2);
  CommandEncoder encoder(device(), {"a label"});
  Buffer y = ops::rms_norm(encoder, x, nullptr, 1e-6, nullptr);
  Buffer z = ops::rms_norm(encoder, y, &twice, 1e-6, nullptr);
  CHECK(encoder.dispatch_count() == 2);
  CHECK(encoder.status() == Status::encoding);
  CHECK_FALSE(encoder.gpu_time());
  encoder.commit_and_wait();
  CHECK(encoder.status() == Status::completed);
  CHECK(encoder.gpu_time().value() > 0);
  CHECK(all_near(y, 1));
  CHECK(all_near(z, 2));
}

TEST_CASE("what is discarded or dropped does not run, and gives its memory back") {
  Buffer x = filled({8, 64}, 3);
  Buffer y = filled({8, 64}, -1);
  uint64_t used = device().allocated_size();
  {
    CommandEncoder encoder(device());
    ops::rms_norm(encoder, x, nullptr, 1e-6, &y);
    ops::rms_norm(encoder, filled({999, 64}, 1), nullptr, 1e-6, nullptr);
    encoder.discard();
    CHECK(encoder.status() == Status::discarded);
    CHECK_THROWS_AS(encoder.commit(), Error);
    CHECK_THROWS_AS(encoder.wait(), Error);
    CommandEncoder dropped(device());
    ops::rms_norm(dropped, x, nullptr, 1e-6, &y);
  }
  device().synchronize();
  CHECK(all_near(y, -1));
  CHECK(device().allocated_size() == used);
}

TEST_CASE("a refused operation leaves encoder, output and pool alone") {
  Buffer x = filled({8, 64}, 3);
  Buffer short_weight = filled({63}, 1);
  uint64_t used = device().allocated_size();
  CommandEncoder encoder(device());
  std::string message;
  try {
    ops::rms_norm(encoder, x, &short_weight, 1e-6, nullptr);
  } catch (const ValidationError& e) {
    message = e.what();
  }
  CHECK(message == "rms_norm: weight has 63 elements, needs 64 (the last axis of x)");
  CHECK_THROWS_AS(ops::rms_norm(encoder, x, nullptr, std::nan(""), nullptr), ValidationError);
  Buffer overlapping = x.flatten().slice(0, 512);
  CHECK_THROWS_AS(ops::rms_norm(encoder, x.slice(0, 4), nullptr, 1e-6, &overlapping), ValidationError);
  CHECK(encoder.dispatch_count() == 0);
  CHECK(device().allocated_size() == used);
  encoder.commit_and_wait();
  CHECK(encoder.status() == Status::completed);
}

TEST_CASE("nothing is encoded after commit") {
  Buffer x = filled({8, 64}, 3);
  CommandEncoder encoder(device());
  ops::rms_norm(encoder, x, nullptr, 1e-6, nullptr);
  encoder.commit();
  CHECK_THROWS_AS(ops::rms_norm(encoder, x, nullptr, 1e-6, nullptr), Error);
  CHECK_THROWS_AS(encoder.barrier(), Error);
  CHECK_THROWS_AS(encoder.commit(), Error);
  encoder.wait();
  CHECK(encoder.dispatch_count() == 1);
}

TEST_CASE("memory freed while the device uses it is not handed out") {
  device().empty_cache();
  for (int turn = 1; turn <= 20; ++turn) {
    CommandEncoder encoder(device());
    Buffer y = ops::rms_norm(encoder, filled({500, 500}, 1), nullptr, 1e-6, nullptr);
    encoder.commit();
    std::vector<Buffer> poison;
    for (int i = 0; i < 3; ++i) poison.push_back(filled({500, 500}, NAN));
    CHECK(all_near(y, 1));
  }
}

TEST_CASE("work that fails is reported by every wait, and by reading what it used") {
  Buffer x = filled({1, 64}, 1);
  const Pipeline& pipeline = device().library().pipeline("rms_norm_f32");
  CommandEncoder broken(device(), {"broken"});
  broken.dispatch(ops::kRmsNorm, pipeline, {Argument::write(2, x)}, {1}, {1});  // two arguments are missing
  broken.commit();
  CHECK_THROWS_AS(broken.wait(), DeviceError);
  CHECK_THROWS_AS(broken.wait(), DeviceError);
  CHECK(broken.status() == Status::error);
  CHECK_FALSE(broken.gpu_time());
  CHECK_THROWS_AS(x.wait_to_read(), DeviceError);
  x.wait_to_write();
  x.wait_to_read();

  CommandEncoder encoder(device());
  Buffer y = ops::rms_norm(encoder, x, nullptr, 1e-6, nullptr);
  encoder.commit_and_wait();
  CHECK(all_near(y, 1));
}

TEST_CASE("open command buffers are limited, not waited for") {
  Buffer x = filled({1, 64}, 1);
  std::vector<std::unique_ptr<CommandEncoder>> open;
  auto encode_one = [&] {
    open.push_back(std::make_unique<CommandEncoder>(device()));
    ops::rms_norm(*open.back(), x, nullptr, 1e-6, nullptr);
  };
  CHECK_THROWS_AS(
      [&] {
        for (int i = 0; i < 1000; ++i) encode_one();
      }(),
      Error);
  CHECK(open.size() > 16);
  open.clear();
  encode_one();
  open.back()->commit_and_wait();
}

TEST_CASE("two threads on one encoder take turns or get an error") {
  Buffer x = filled({1, 64}, 1);
  Buffer y = filled({1, 64}, 0);
  CommandEncoder encoder(device());
  std::atomic<uint64_t> encoded{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        try {
          ops::rms_norm(encoder, x, nullptr, 1e-6, &y);
          ++encoded;
        } catch (const Error&) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(encoder.dispatch_count() == encoded);
  encoder.commit_and_wait();
  CHECK(all_near(y, 1));
}

TEST_CASE("threads with encoders of their own share the device") {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      for (uint64_t i = 0; i < 100; ++i) {
        CommandEncoder encoder(device());
        Buffer x = filled({1 + i % 7, 64 + i}, static_cast<float>(t + 1));
        Buffer y = ops::rms_norm(encoder, x, nullptr, 1e-6, nullptr);
        encoder.commit();
        if (i % 2) encoder.wait();
        if (!all_near(y, 1)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("a threadgroup's geometry follows the pipeline") {
  Pipeline gpu{"", {}, 32, 1024, 0, 32768};
  CHECK(cooperative_threads(gpu, 1, 8) == 32);
  CHECK(cooperative_threads(gpu, 300, 8) == 64);
  CHECK(cooperative_threads(gpu, uint64_t{1} << 40, 8) == 1024);
  CHECK(cooperative_simdgroups(gpu, 12, 16, 2048, 0) == 12);
  CHECK(cooperative_simdgroups(gpu, 64, 16, 4096, 4096) == 7);
  CHECK(cooperative_simdgroups(gpu, 64, 16, 32768, 16) == 0);
  Pipeline cpu{"", {}, 1, 1, 0, 32768};
  CHECK(cooperative_threads(cpu, 5000, 8) == 1);
  CHECK(cooperative_simdgroups(cpu, 64, 16, 2048, 0) == 1);
}

TEST_CASE("a missing kernel or library is an error, not a crash") {
  CHECK_THROWS_AS(device().library().pipeline("no_such_kernel"), DeviceError);
  CHECK_THROWS_AS(Library::load(device(), "/nonexistent.metallib"), DeviceError);
  std::vector<std::string> kernels = device().library().kernels();
  CHECK(std::find(kernels.begin(), kernels.end(), "rms_norm_f32") != kernels.end());
}
