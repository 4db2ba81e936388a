// One dispatch of a graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "metalloid/encoder.h"

namespace metalloid {

struct NodeArgument {
  Argument::Kind kind;
  Access access;
  uint8_t index;
  std::optional<Buffer> buffer;
  std::vector<std::byte> bytes;
  uint64_t memory = 0;  // bytes of threadgroup memory
};

struct Node {
  const Operation* operation = nullptr;  // null: a kernel of somebody's own
  const Pipeline* pipeline = nullptr;
  KernelRef kernel;  // keeps the pipeline of such a kernel
  std::string label;
  std::string group;  // debug groups, separated by slashes
  // Does nothing but what its uses say.
  bool pure = false;
  // An explicit barrier stands before it.
  bool barrier = false;
  std::vector<NodeArgument> arguments;
  std::vector<MemoryUse> uses;
  std::vector<StorageRef> declared;  // keeps the memory of uses that are no arguments
  Grid grid{Grid::Unit::threadgroups, {}};
  Extent threads;
  // The places, in the order of recording, of the nodes that it stands for.
  std::vector<uint32_t> origins;

  std::string_view name() const { return operation ? operation->name : std::string_view(pipeline->name); }
  // Stays where it was recorded.
  bool fixed() const { return !pure || barrier; }
  uint64_t bytes() const {
    uint64_t total = 0;
    for (const MemoryUse& use : uses) total += use.end - use.begin;
    return total;
  }

  // The argument for [[buffer(index)]]; null where it is none or of another kind.
  const Buffer* buffer(uint8_t index) const {
    const NodeArgument* found = argument(Argument::Kind::buffer, index);
    return found ? &*found->buffer : nullptr;
  }
  template <class Params>
  const Params& params(uint8_t index = 0) const {
    return *reinterpret_cast<const Params*>(argument(Argument::Kind::bytes, index)->bytes.data());
  }
  const NodeArgument* argument(Argument::Kind kind, uint8_t index) const {
    for (const NodeArgument& each : arguments) {
      if (each.kind == kind && each.index == index) return &each;
    }
    return nullptr;
  }
};

// Nodes from what an encoder is told. Both check nothing.
Node make_node(const Operation& operation, const Pipeline& pipeline,
               std::initializer_list<Argument> arguments, Extent threadgroups, Extent threads);
Node make_node(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
               const Extent& threadgroup, const Declared& declared);

// Memory that a graph has put elsewhere: from where it was to the storage and the offset of its first byte.
struct Place {
  Storage* storage;
  uint64_t offset;
};
using Places = std::unordered_map<const Storage*, Place>;

inline MemoryUse placed(const MemoryUse& use, const Places& places) {
  auto found = places.find(use.storage);
  if (found == places.end()) return use;
  const Place& place = found->second;
  return {place.storage, place.offset + use.begin, place.offset + use.end, use.reads, use.writes};
}

}  // namespace metalloid
