#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "metalloid/passes.h"

using namespace metalloid;

namespace {

// Nodes that only their uses matter of.
class Nodes {
 public:
  explicit Nodes(size_t storages) {
    for (size_t i = 0; i < storages; ++i) storages_.push_back(std::make_unique<Storage>());
    internal.assign(storages, false);
  }

  MemoryUse use(uint32_t id, uint64_t begin, uint64_t end, bool reads, bool writes) {
    return {storages_[id].get(), begin, end, reads, writes, id};
  }
  Node& add(std::vector<MemoryUse> uses, bool pure = true) {
    Node& node = nodes.emplace_back();
    node.pure = pure;
    node.uses = std::move(uses);
    node.origins = {static_cast<uint32_t>(nodes.size() - 1)};
    return node;
  }
  // One that reads all of some and writes all of another.
  void step(std::vector<uint32_t> reads, uint32_t writes, uint64_t bytes = 64) {
    std::vector<MemoryUse> uses;
    for (uint32_t id : reads) uses.push_back(use(id, 0, bytes, true, false));
    uses.push_back(use(writes, 0, bytes, false, true));
    add(std::move(uses));
  }
  void make_random(std::mt19937& random, int length) {
    for (int i = 0; i < length; ++i) {
      std::vector<MemoryUse> uses;
      for (size_t k = random() % 4; k-- > 0;) {
        const uint64_t begin = random() % 8 * 16, size = (1 + random() % 4) * 16;
        const auto kind = random() % 4;
        uses.push_back(use(static_cast<uint32_t>(random() % storages_.size()), begin, begin + size, kind != 2,
                           kind > 1));
      }
      Node& node = add(std::move(uses), random() % 12 != 0);
      node.barrier = random() % 25 == 0;
    }
    for (size_t i = 0; i < internal.size(); ++i) internal[i] = random() % 2;
  }

  std::vector<Node> nodes;
  Internal internal;

 private:
  std::vector<std::unique_ptr<Storage>> storages_;
};

bool depends(const Node& a, const Node& b) {
  for (const MemoryUse& x : a.uses) {
    for (const MemoryUse& y : b.uses) {
      if (x.storage == y.storage && (x.writes || y.writes) && x.begin < y.end && y.begin < x.end &&
          !x.empty() && !y.empty())
        return true;
    }
  }
  return false;
}

// Whether a path of dependencies leads from the one to the other, for all pairs.
std::vector<std::vector<bool>> reach(const std::vector<std::pair<uint32_t, uint32_t>>& edges, size_t count) {
  std::vector<std::vector<bool>> reached(count, std::vector<bool>(count));
  std::vector<std::vector<uint32_t>> before(count);
  for (const auto& [from, to] : edges) before[to].push_back(from);
  for (size_t i = 0; i < count; ++i) {
    for (uint32_t each : before[i]) {
      reached[i][each] = true;
      for (size_t k = 0; k < count; ++k) reached[i][k] = reached[i][k] || reached[each][k];
    }
  }
  return reached;
}

size_t count_barriers(const std::vector<Node>& nodes) {
  const std::vector<bool> all = barriers(nodes);
  return static_cast<size_t>(std::count(all.begin(), all.end(), true));
}

}  // namespace

TEST_CASE("dependencies are all pairs that touch the same bytes, but for what others imply") {
  std::mt19937 random(4);
  for (int turn = 0; turn < 300; ++turn) {
    CAPTURE(turn);
    Nodes graph(1 + random() % 5);
    graph.make_random(random, 40);
    const auto edges = dependencies(graph.nodes, graph.internal.size());
    CHECK(std::is_sorted(edges.begin(), edges.end(), [](const auto& a, const auto& b) {
      return std::pair(a.second, a.first) < std::pair(b.second, b.first);
    }));
    for (const auto& [from, to] : edges) {
      REQUIRE(from < to);
      REQUIRE(depends(graph.nodes[from], graph.nodes[to]));
    }
    const auto reached = reach(edges, graph.nodes.size());
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      for (size_t k = 0; k < i; ++k) {
        if (depends(graph.nodes[k], graph.nodes[i])) REQUIRE(reached[i][k]);
      }
    }
  }
}

TEST_CASE("a new order keeps every dependency and what is fixed, and never has more barriers") {
  std::mt19937 random(5);
  size_t saved = 0;
  for (int turn = 0; turn < 600; ++turn) {
    CAPTURE(turn);
    Nodes graph(2 + random() % 12);
    graph.make_random(random, 50);
    const std::vector<Node> recorded = graph.nodes;
    PassOptions options;
    if (turn % 3 == 1) options.depth = 1 + static_cast<uint32_t>(random() % 10);
    if (turn % 3 == 2) options.max_live_bytes = 1 + random() % 500;
    reorder(graph.nodes, graph.internal, options);
    REQUIRE(graph.nodes.size() == recorded.size());
    std::vector<uint32_t> place(recorded.size(), ~uint32_t{0});
    for (uint32_t i = 0; i < graph.nodes.size(); ++i) {
      REQUIRE(graph.nodes[i].origins.size() == 1);
      place[graph.nodes[i].origins[0]] = i;
    }
    for (uint32_t i = 0; i < recorded.size(); ++i) {
      REQUIRE(place[i] != ~uint32_t{0});
      if (recorded[i].fixed()) CHECK(place[i] == i);
      for (uint32_t k = 0; k < i; ++k) {
        if (depends(recorded[k], recorded[i]) || recorded[i].fixed() || recorded[k].fixed())
          REQUIRE(place[k] < place[i]);
      }
    }
    CHECK(count_barriers(graph.nodes) <= count_barriers(recorded));
    saved += count_barriers(recorded) - count_barriers(graph.nodes);
  }
  CHECK(saved > 100);
}

TEST_CASE("chains side by side take as many waves as the longest") {
  for (const uint32_t chains : {2u, 7u}) {
    for (const uint32_t length : {1u, 5u, 20u}) {
      Nodes graph(chains);
      for (uint32_t c = 0; c < chains; ++c) {
        for (uint32_t i = 0; i < length; ++i) graph.step({c}, c);
      }
      CHECK(count_barriers(graph.nodes) == length - 1 + (chains - 1) * (length - 1));
      PassOptions options;
      reorder(graph.nodes, graph.internal, options);
      CHECK(count_barriers(graph.nodes) == length - 1);
    }
  }
}

TEST_CASE("memory that may be live at once limits how wide a wave is") {
  constexpr uint32_t chains = 16;
  constexpr uint64_t bytes = uint64_t{1} << 20;
  for (const uint64_t most : {2 * bytes, 6 * bytes, 64 * bytes}) {
    Nodes graph(2 * chains + 1);
    const uint32_t result = 2 * chains;
    for (uint32_t c = 0; c < chains; ++c) {
      graph.step({}, 2 * c, bytes);
      graph.step({2 * c}, 2 * c + 1, bytes);
      graph.add(
          {graph.use(2 * c + 1, 0, bytes, true, false), graph.use(result, c * 64, c * 64 + 64, false, true)});
      graph.internal[2 * c] = graph.internal[2 * c + 1] = true;
    }
    PassOptions options;
    options.max_live_bytes = most;
    const size_t before = count_barriers(graph.nodes);
    reorder(graph.nodes, graph.internal, options);
    const size_t after = count_barriers(graph.nodes);
    const MemoryPlan plan = plan_memory(graph.nodes, graph.internal);
    CAPTURE(most);
    CHECK(plan.peak <= most + bytes);  // the oldest node comes whatever it takes
    CHECK(after < before);
    if (most == 64 * bytes) CHECK(after == 2);
  }
}

TEST_CASE("buffers share bytes only behind a barrier") {
  std::mt19937 random(6);
  uint64_t unshared = 0, peak = 0;
  for (int turn = 0; turn < 800; ++turn) {
    CAPTURE(turn);
    Nodes graph(2 + random() % 30);
    graph.make_random(random, 60);
    if (turn % 2) reorder(graph.nodes, graph.internal, PassOptions{});
    const MemoryPlan plan = plan_memory(graph.nodes, graph.internal);
    struct Life {
      uint64_t bytes = 0;
      size_t first = ~size_t{0}, last = 0;
    };
    std::map<uint32_t, Life> lives;
    const std::vector<bool> before = barriers(graph.nodes);
    size_t wave = 0;
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      wave += before[i];
      for (const MemoryUse& use : graph.nodes[i].uses) {
        if (!graph.internal[use.id]) continue;
        Life& life = lives[use.id];
        life.bytes = std::max(life.bytes, use.end);
        life.first = std::min(life.first, wave);
        life.last = std::max(life.last, wave);
      }
    }
    std::map<uint32_t, uint64_t> offsets;
    for (const auto& [id, offset] : plan.offsets) {
      REQUIRE(offsets.emplace(id, offset).second);
      REQUIRE(offset % 256 == 0);
      REQUIRE(lives.contains(id));
      REQUIRE(offset + lives[id].bytes <= plan.peak);
    }
    REQUIRE(offsets.size() == lives.size());
    REQUIRE(plan.buffers == lives.size());
    REQUIRE(plan.peak <= plan.unshared);
    for (const auto& [a, one] : lives) {
      for (const auto& [b, other] : lives) {
        if (a >= b || one.last < other.first || other.last < one.first) continue;
        const bool apart = offsets[a] + one.bytes <= offsets[b] || offsets[b] + other.bytes <= offsets[a];
        REQUIRE(apart);
      }
    }
    unshared += plan.unshared;
    peak += plan.peak;
  }
  CHECK(peak < unshared);
}

TEST_CASE("what is dead changes nothing that anybody sees") {
  std::mt19937 random(7);
  uint64_t removed = 0;
  for (int turn = 0; turn < 600; ++turn) {
    CAPTURE(turn);
    Nodes graph(2 + random() % 8);
    graph.make_random(random, 40);
    const std::vector<Node> recorded = graph.nodes;
    const uint64_t count = remove_dead(graph.nodes, graph.internal);
    removed += count;
    REQUIRE(graph.nodes.size() + count == recorded.size());
    std::vector<bool> kept(recorded.size());
    for (const Node& node : graph.nodes) kept[node.origins[0]] = true;
    // Each byte's last writer, among all and among those that stay: what a node that stays reads must come
    // from one that stays, and so must what is left outside at the end.
    constexpr uint64_t kBytes = 16;  // of 16 bytes each
    std::vector<std::vector<int>> writer(graph.internal.size(), std::vector<int>(kBytes, -1));
    for (size_t i = 0; i < recorded.size(); ++i) {
      if (kept[i]) {
        for (const MemoryUse& use : recorded[i].uses) {
          for (uint64_t at = use.begin / 16; use.reads && at < use.end / 16; ++at) {
            if (graph.internal[use.id] && writer[use.id][at] >= 0)
              REQUIRE(kept[static_cast<size_t>(writer[use.id][at])]);
          }
        }
      }
      for (const MemoryUse& use : recorded[i].uses) {
        for (uint64_t at = use.begin / 16; use.writes && at < use.end / 16; ++at)
          writer[use.id][at] = static_cast<int>(i);
        if (use.writes && !graph.internal[use.id]) REQUIRE(kept[i]);
      }
      if (!recorded[i].pure) REQUIRE(kept[i]);
    }
  }
  CHECK(removed > 100);
}
