// One dispatch of a graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
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
  // All memory of the arguments and of what was declared.
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

// The number of a storage that the node uses.
inline uint32_t id_in(const Node& node, const Storage* storage) {
  for (const MemoryUse& use : node.uses) {
    if (use.storage == storage) return use.id;
  }
  throw Error("Graph: a dispatch has an argument that its uses do not tell of");
}

// Where a graph has put memory: the storage, null for what stays where it is, and the offset of its first
// byte. By the number of the storage.
struct Place {
  Storage* storage = nullptr;
  uint64_t offset = 0;
};
using Places = std::vector<Place>;

inline bool is_placed(const MemoryUse& use, const Places& places) {
  return use.id < places.size() && places[use.id].storage;
}
inline MemoryUse placed(const MemoryUse& use, const Places& places) {
  if (!is_placed(use, places)) return use;
  const auto& [storage, offset] = places[use.id];
  return {storage, offset + use.begin, offset + use.end, use.reads, use.writes, use.id};
}

}  // namespace metalloid
