// What makes a graph cheaper to run and leaves its results as they are.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "metalloid/node.h"

namespace metalloid {

struct PassOptions {
  bool remove_dead = true;
  bool fuse = true;
  bool reorder = true;
  bool plan_memory = true;
  // How far ahead of the first node that is not placed yet a node may be taken.
  uint32_t depth = 4096;
  // The bytes that the graph's own buffers may take at once for the sake of fewer barriers; 0: twice what
  // they take in the order of recording, at least 64 MiB.
  uint64_t max_live_bytes = 0;
};

struct PassCounts {
  uint64_t removed = 0;
  uint64_t fused = 0;
  uint64_t barriers_before = 0;  // as recorded
};

// Whether only the nodes use a storage, so that nobody sees what it holds. By the number of the storage.
using Internal = std::vector<bool>;

// Removes nodes whose results nobody reads. Returns how many.
uint64_t remove_dead(std::vector<Node>& nodes, const Internal& internal);

// Two dispatches that are one: `consumer` is the only reader of what `producer` writes.
struct Fusion {
  const Operation* producer;
  const Operation* consumer;
  // Encodes both as one; false, with nothing encoded, where these two do not fit.
  bool (*fuse)(const Node& producer, const Node& consumer, Encoder& into);
};
uint64_t fuse(Device& device, std::vector<Node>& nodes, const Internal& internal,
              std::span<const Fusion> fusions);

// Puts independent nodes side by side, so that fewer barriers are needed; does nothing where there are none
// to save.
void reorder(std::vector<Node>& nodes, const Internal& internal, const PassOptions& options);

// Which nodes have to run before which: pairs of places, the earlier first, each once. Left out is what other
// pairs imply through a write of the same bytes in between.
std::vector<std::pair<uint32_t, uint32_t>> dependencies(const std::vector<Node>& nodes, size_t storages);

// Whether each node needs a barrier before it.
std::vector<bool> barriers(const std::vector<Node>& nodes);

struct MemoryPlan {
  uint64_t buffers = 0;   // of the graph's own
  uint64_t unshared = 0;  // bytes, each with memory of its own
  uint64_t peak = 0;      // bytes, shared by lifetime
  struct Offset {
    uint32_t id;
    uint64_t offset;
  };
  std::vector<Offset> offsets;
};
// Where the graph's own buffers go in one allocation. Two share bytes only if a barrier is between the last
// use of the one and the first use of the other.
MemoryPlan plan_memory(const std::vector<Node>& nodes, const Internal& internal);

}  // namespace metalloid
