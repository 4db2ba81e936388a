#include <doctest/doctest.h>

#include <algorithm>
#include <bitset>
#include <chrono>
#include <memory>
#include <random>
#include <vector>

#include "metalloid/hazards.h"
#include "metalloid/storage.h"

using namespace metalloid;

namespace {

constexpr size_t kBytes = 96;
using Bits = std::bitset<kBytes>;

Bits bits(uint64_t begin, uint64_t end) {
  Bits all;
  for (uint64_t i = begin; i < end; ++i) all.set(i);
  return all;
}

std::pair<uint64_t, uint64_t> some_range(std::mt19937& random, uint64_t longest) {
  const uint64_t begin = random() % kBytes;
  return {begin, std::min<uint64_t>(kBytes, begin + 1 + random() % longest)};
}

bool conflict(const MemoryUse& a, const MemoryUse& b) {
  return a.storage == b.storage && !a.empty() && !b.empty() && (a.writes || b.writes) && a.begin < b.end &&
         b.begin < a.end;
}

}  // namespace

TEST_CASE("a set of ranges is a set of bytes") {
  std::mt19937 random(1);
  for (int turn = 0; turn < 3000; ++turn) {
    CAPTURE(turn);
    RangeSet set;
    Bits model;
    const uint64_t longest = turn % 3 ? 12 : 60;
    for (int step = 0; step < 40; ++step) {
      const auto [begin, end] = some_range(random, longest);
      switch (random() % 8) {
        case 0:
          if (random() % 8 == 0) {
            set.clear();
            model.reset();
          }
          break;
        case 1:
        case 2:
        case 3:
          set.remove(begin, end);
          model &= ~bits(begin, end);
          break;
        default:
          set.add(begin, end);
          model |= bits(begin, end);
      }
      REQUIRE(set.empty() == model.none());
      for (int look = 0; look < 6; ++look) {
        const auto [from, to] = some_range(random, longest);
        REQUIRE(set.overlaps(from, to) == (model & bits(from, to)).any());
        REQUIRE(set.covers(from, to) == ((model & bits(from, to)) == bits(from, to)));
      }
    }
  }
}

TEST_CASE("barriers go where a list of all uses since the last one says") {
  std::mt19937 random(2);
  std::vector<std::unique_ptr<Storage>> storages;
  for (int i = 0; i < 80; ++i) storages.push_back(std::make_unique<Storage>());
  for (int turn = 0; turn < 400; ++turn) {
    CAPTURE(turn);
    const size_t known = turn % 2 ? 3 : storages.size();
    HazardTracker tracker;
    std::vector<MemoryUse> model;
    bool everything = false;
    uint64_t conflicts = 0;
    for (int step = 0; step < 120; ++step) {
      if (random() % 40 == 0) {
        tracker.barrier();
        model.clear();
        everything = false;
      }
      if (random() % 60 == 0) {
        tracker.note_everything();
        everything = true;
      }
      std::vector<MemoryUse> uses;
      for (size_t i = random() % 4; i-- > 0;) {
        auto [begin, end] = some_range(random, 20);
        if (random() % 10 == 0) end = begin;
        const auto kind = random() % 4;  // half of them only read
        uses.push_back({storages[random() % known].get(), begin, end, kind != 3, kind > 1, 0});
      }
      uint64_t found = 0;
      for (const MemoryUse& use : uses) {
        found += std::any_of(model.begin(), model.end(),
                             [&](const MemoryUse& other) { return conflict(use, other); });
      }
      found += everything && !uses.empty();
      REQUIRE(tracker.note(uses) == (found > 0));
      conflicts += found;
      REQUIRE(tracker.conflict_count() == conflicts);
      if (found) {
        model.clear();
        everything = false;
      }
      for (const MemoryUse& use : uses) {
        if (!use.empty()) model.push_back(use);
      }
      REQUIRE(tracker.idle() == (model.empty() && !everything));
    }
  }
}

TEST_CASE("a dispatch costs what its own ranges cost, not what came before") {
  using Clock = std::chrono::steady_clock;
  constexpr uint64_t count = 100'000, apart = 64;
  std::mt19937 random(3);
  for (const bool one_storage : {true, false}) {
    std::vector<std::unique_ptr<Storage>> storages;
    for (uint64_t i = 0; i < (one_storage ? 1 : count); ++i) storages.push_back(std::make_unique<Storage>());
    std::vector<uint64_t> places(count);
    for (uint64_t i = 0; i < count; ++i) places[i] = i;
    std::shuffle(places.begin(), places.end(), random);
    HazardTracker tracker;
    std::vector<double> seconds;  // of every 5,000
    for (uint64_t i = 0; i < count;) {
      const auto start = Clock::now();
      for (const uint64_t end = i + 5000; i < end; ++i) {
        const uint64_t at = one_storage ? places[i] * apart : 0;
        const MemoryUse use{storages[one_storage ? 0 : places[i]].get(), at, at + 32, false, true, 0};
        REQUIRE_FALSE(tracker.note({&use, 1}));
      }
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    // The last quarter against the first, each by its median: linear growth would be 7, a tree's or a cache's
    // less than 3, and the rest is for a busy machine.
    const auto median = [&](size_t first) {
      std::vector<double> part(seconds.begin() + static_cast<std::ptrdiff_t>(first),
                               seconds.begin() + static_cast<std::ptrdiff_t>(first + 5));
      std::sort(part.begin(), part.end());
      return part[2];
    };
    CAPTURE(one_storage);
    CHECK(median(15) < 30 * median(0));
    CHECK(median(15) < 0.5);  // a list of all would take half a billion comparisons for these
    // A barrier forgets all of it at once.
    const auto start = Clock::now();
    for (int i = 0; i < 1000; ++i) tracker.barrier();
    CHECK(std::chrono::duration<double>(Clock::now() - start).count() < 0.1);
    CHECK(tracker.idle());
    const MemoryUse again{storages[0].get(), 0, 32, false, true, 0};
    CHECK_FALSE(tracker.note({&again, 1}));
  }
}
