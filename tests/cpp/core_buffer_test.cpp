#include <doctest/doctest.h>

#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include "metalloid/device.h"

using namespace metalloid;

namespace {

Device& device() { return Device::open(); }

// Pages of our own, and how often they were given back.
struct Pages {
  Pages() : address(std::aligned_alloc(page_size(), page_size())) {}
  ~Pages() { std::free(address); }
  static void release(void* owner) { ++static_cast<Pages*>(owner)->released; }

  void* address;
  int released = 0;
};

}  // namespace

TEST_CASE("a shape multiplies without wrapping") {
  uint64_t product = 0;
  CHECK(Shape{}.product(4, product));
  CHECK(product == 4);
  CHECK(Shape{3, 0, 5}.product(4, product));
  CHECK(product == 0);
  CHECK_FALSE(Shape{uint64_t{1} << 32, uint64_t{1} << 32}.product(1, product));
  CHECK_FALSE(Shape{uint64_t{1} << 62}.product(2, product));
  // A zero does not hide an absurd size.
  CHECK_FALSE(Shape{0, uint64_t{1} << 62, 4}.product(1, product));
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), ValidationError);
}

TEST_CASE("a device is opened once, and only if it exists") {
  CHECK(&Device::open() == &Device::open(device().name()));
  CHECK_THROWS_AS(Device::open("abacus"), DeviceError);
}

TEST_CASE("views share memory and know their place") {
  Buffer whole = device().empty({4, 6}, DType::int32);
  Buffer row = whole.index(-1);
  CHECK(row.shape() == Shape{6});
  CHECK(row.offset() == 3 * 6 * 4);
  CHECK(row.address() == whole.address() + row.offset());
  CHECK(whole.slice(1, 2).shape() == Shape{2, 6});
  CHECK(whole.slice(4, 0).size() == 0);
  CHECK(whole.reshape({2, 12}).index(1).offset() == 48);
  CHECK(whole.view(DType::uint8).shape() == Shape{4, 24});
  CHECK(whole.view(DType::int64).shape() == Shape{4, 3});

  CHECK_THROWS_AS(whole.index(4), std::out_of_range);
  CHECK_THROWS_AS(whole.index(std::numeric_limits<int64_t>::min()), std::out_of_range);
  CHECK_THROWS_AS(whole.slice(3, 2), ValidationError);
  CHECK_THROWS_AS(whole.slice(1, std::numeric_limits<uint64_t>::max()), ValidationError);
  CHECK_THROWS_AS(whole.reshape({5, 5}), ValidationError);
  CHECK_THROWS_AS(row.slice(1, 4).view(DType::int64), ValidationError);
  CHECK_THROWS_AS(device().empty({}, DType::int8).view(DType::int16), ValidationError);
}

TEST_CASE("overlap is told by addresses") {
  Buffer whole = device().empty({8}, DType::float32);
  CHECK(overlap(whole.slice(0, 4), whole.slice(4, 4)) == Overlap::none);
  CHECK(overlap(whole.slice(0, 5), whole.slice(4, 4)) == Overlap::partial);
  CHECK(overlap(whole, whole.slice(0, 4)) == Overlap::partial);
  CHECK(overlap(whole, whole.view(DType::uint8)) == Overlap::same);
  CHECK(overlap(whole, device().empty({8}, DType::float32)) == Overlap::none);
}

TEST_CASE("the pool hands a freed allocation out again") {
  device().empty_cache();
  uint64_t used = device().allocated_size();
  std::byte* address = nullptr;
  {
    Buffer buffer = device().empty({100, 1000}, DType::float32);
    address = buffer.address();
    CHECK(reinterpret_cast<uintptr_t>(address) % page_size() == 0);
    CHECK(device().allocated_size() >= used + buffer.nbytes());
    CHECK(device().allocated_size() <= used + buffer.nbytes() * 9 / 8 + page_size());
  }
  CHECK(device().allocated_size() == used);
  CHECK(device().pooled_size() >= 400'000);
  CHECK(device().empty({100, 1000}, DType::float32).address() == address);
  CHECK(device().empty({100'001}, DType::float32).address() == address);
  device().empty_cache();
  CHECK(device().pooled_size() == 0);
}

TEST_CASE("every size gets an allocation that holds it") {
  for (uint64_t pages : {1, 2, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 100, 255, 256, 257, 1000, 4096}) {
    for (int64_t more : {-1, 0, 1}) {
      uint64_t bytes = pages * page_size() + static_cast<uint64_t>(more);
      Buffer buffer = device().empty({bytes}, DType::uint8);
      CHECK(buffer.storage()->capacity >= bytes);
      CHECK(buffer.storage()->capacity <= bytes + bytes / 8 + page_size());
      buffer.address()[bytes - 1] = std::byte{1};
    }
  }
}

TEST_CASE("an impossible size is refused") {
  uint64_t limit = device().max_buffer_length();
  CHECK_THROWS_AS(device().empty({limit + 1}, DType::uint8), ValidationError);
  CHECK_THROWS_AS(device().empty({uint64_t{1} << 60, uint64_t{1} << 60}, DType::uint8), ValidationError);
  CHECK(device().empty({0, 5}, DType::float32).size() == 0);
}

TEST_CASE("shared memory is given back once, when the last view is gone") {
  Pages pages;
  {
    Buffer view =
        device().wrap(pages.address, {10}, DType::float32, false, Pages::release, &pages).slice(2, 3);
    CHECK(view.address() == static_cast<std::byte*>(pages.address) + 8);
    CHECK(pages.released == 0);
  }
  CHECK(pages.released == 1);

  auto* odd = static_cast<std::byte*>(pages.address) + 4;
  CHECK_THROWS_AS(device().wrap(odd, {10}, DType::float32, false, Pages::release, &pages), ValidationError);
  CHECK_THROWS_AS(device().wrap(pages.address, {0}, DType::float32, false, Pages::release, &pages),
                  ValidationError);
  CHECK(pages.released == 1);  // what is refused stays the caller's
}

TEST_CASE("threads share the pool") {
  device().empty_cache();
  uint64_t used = device().allocated_size();
  std::vector<std::thread> threads;
  std::atomic<int> clashes{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &clashes] {
      for (uint64_t i = 0; i < 2000; ++i) {
        Buffer buffer = device().empty({1 + i % 37 * 500}, DType::uint32);
        auto* word = reinterpret_cast<volatile int*>(buffer.address());
        *word = t;
        std::this_thread::yield();
        if (*word != t) ++clashes;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(clashes == 0);
  CHECK(device().allocated_size() == used);
}
