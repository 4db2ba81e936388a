#include "metalloid/node.h"

#include <algorithm>
#include <cstring>

namespace metalloid {

namespace {

std::vector<std::byte> copied(const void* from, uint64_t length) {
  const auto* bytes = static_cast<const std::byte*>(from);
  return {bytes, bytes + length};
}

}  // namespace

Node make_node(const Operation& operation, const Pipeline& pipeline,
               std::initializer_list<Argument> arguments, Extent threadgroups, Extent threads) {
  Node node;
  node.operation = &operation;
  node.pipeline = &pipeline;
  node.pure = true;
  node.arguments.reserve(arguments.size());
  node.uses.reserve(arguments.size());
  for (const Argument& each : arguments) {
    NodeArgument& argument = node.arguments.emplace_back();
    argument.kind = each.kind;
    argument.access = each.access;
    argument.index = each.index;
    switch (each.kind) {
      case Argument::Kind::buffer:
        argument.buffer = *static_cast<const Buffer*>(each.object);
        node.uses.push_back(use_of(*argument.buffer, each.access));
        break;
      case Argument::Kind::bytes:
        argument.bytes = copied(each.object, each.length);
        break;
      case Argument::Kind::threadgroup_memory:
        argument.memory = each.length;
        break;
    }
  }
  node.grid = {Grid::Unit::threadgroups, threadgroups};
  node.threads = threads;
  return node;
}

Node make_node(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
               const Extent& threadgroup, const Declared& declared) {
  Node node;
  node.pipeline = &kernel.pipeline();
  node.kernel = kernel.shared_from_this();
  node.label = declared.label;
  node.pure = declared.reads && declared.writes;
  for (size_t i = 0; i < kernel.arguments().size(); ++i) {
    const KernelArgument& from = kernel.arguments()[i];
    if (!from.active) continue;
    NodeArgument argument{};
    argument.access = from.access;
    argument.index = static_cast<uint8_t>(from.index);
    switch (values[i].kind) {
      case Value::Kind::buffer:
      case Value::Kind::reinterpreted:
        argument.kind = Argument::Kind::buffer;
        argument.buffer = *static_cast<const Buffer*>(values[i].object);
        break;
      case Value::Kind::bytes:
        argument.kind = Argument::Kind::bytes;
        argument.bytes = copied(values[i].object, values[i].length);
        break;
      case Value::Kind::memory:
        argument.kind = Argument::Kind::threadgroup_memory;
        argument.memory = padded_memory(values[i].length);
        break;
      case Value::Kind::none:
        continue;
    }
    node.arguments.push_back(std::move(argument));
  }
  uses_of(kernel, values, declared, node.uses);
  for (const NodeArgument& argument : node.arguments) {
    if (!argument.buffer) continue;
    MemoryUse use = use_of(*argument.buffer, Access::read);
    const auto is_there = [&use](const MemoryUse& other) {
      return other.storage == use.storage && other.begin <= use.begin && other.end >= use.end;
    };
    use.reads = false;
    if (std::none_of(node.uses.begin(), node.uses.end(), is_there)) node.uses.push_back(use);
  }
  for (const auto& list : {declared.reads, declared.writes}) {
    if (!list) continue;
    for (const Buffer* buffer : *list) node.declared.emplace_back(buffer->storage());
  }
  node.grid = grid;
  node.threads = threadgroup;
  return node;
}

}  // namespace metalloid
