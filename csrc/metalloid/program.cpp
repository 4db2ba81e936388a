#include "metalloid/program.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "metalloid/hazards.h"

namespace metalloid {

namespace {

// Metal's limit for an indirect command buffer.
constexpr uint32_t kCommands = 16384;
// The largest alignment of a type in the shading language.
constexpr uint64_t kConstantAlignment = 32;

// An empty view may start where its allocation ends.
uint64_t bound_offset(uint64_t offset, uint64_t length) { return length ? offset : 0; }

template <class T>
uint32_t size32(const std::vector<T>& list) {
  if (list.size() > std::numeric_limits<uint32_t>::max())
    throw Error("Graph: it has more than 2^32 arguments");
  return static_cast<uint32_t>(list.size());
}

}  // namespace

Program::Program(Device& device, const std::vector<Node>& nodes, size_t storages, const Places& places,
                 const std::optional<Buffer>& memory)
    : device_(device) {
  std::vector<std::byte> constants;
  std::vector<bool> kept(storages);
  if (memory) storages_.emplace_back(memory->storage());
  const auto keep = [&](const MemoryUse& use) {
    if (kept[use.id] || is_placed(use, places)) return;
    kept[use.id] = true;
    use.storage->memory();  // a placeholder gets its own now
    storages_.emplace_back(use.storage);
  };
  HazardTracker tracker;
  std::vector<MemoryUse> uses;
  steps_.reserve(nodes.size());
  barriers_.reserve(nodes.size() + 1);
  barriers_.push_back(0);
  for (const Node& node : nodes) {
    Step& step = steps_.emplace_back();
    step.pipeline = node.pipeline;
    step.first_binding = size32(bindings_);
    step.first_memory = size32(memories_);
    for (const NodeArgument& argument : node.arguments) {
      switch (argument.kind) {
        case Argument::Kind::buffer: {
          MemoryUse use = use_of(*argument.buffer, argument.access);
          use.id = id_in(node, use.storage);
          use = placed(use, places);
          bindings_.push_back({use.storage, use.begin, use.end - use.begin, argument.index});
          break;
        }
        case Argument::Kind::bytes: {
          constants.resize((constants.size() + kConstantAlignment - 1) / kConstantAlignment *
                           kConstantAlignment);
          bindings_.push_back({nullptr, constants.size(), argument.bytes.size(), argument.index});
          constants.insert(constants.end(), argument.bytes.begin(), argument.bytes.end());
          break;
        }
        case Argument::Kind::threadgroup_memory:
          memories_.push_back({argument.memory, argument.index});
          break;
      }
    }
    step.bindings = size32(bindings_) - step.first_binding;
    step.memories = size32(memories_) - step.first_memory;
    step.grid = node.grid.size;
    step.threads = node.threads;
    step.by_threads = node.grid.unit == Grid::Unit::threads;
    step.name = node.label.empty() ? std::string(node.name()) : node.label;
    step.group = node.group;
    uses.clear();
    for (const MemoryUse& use : node.uses) {
      if (use.reads) step.reads += use.end - use.begin;
      if (use.writes) step.writes += use.end - use.begin;
      keep(use);
      uses.push_back(placed(use, places));
    }
    if (node.barrier) tracker.barrier();
    step.barrier = tracker.note(uses) || node.barrier;
    barriers_.push_back(barriers_.back() + step.barrier);
    if (node.kernel) kernels_.push_back(node.kernel);
  }
  conflicts_ = tracker.conflict_count();
  if (!constants.empty()) {
    constants_ = device.empty({constants.size()}, DType::uint8, "Graph", Contents::any);
    std::memcpy(constants_->address(), constants.data(), constants.size());
  }
  record_commands();
}

Program::Program(const Program& other)
    : device_(other.device_),
      steps_(other.steps_),
      bindings_(other.bindings_),
      memories_(other.memories_),
      storages_(other.storages_),
      kernels_(other.kernels_),
      barriers_(other.barriers_),
      conflicts_(other.conflicts_) {
  if (other.constants_) {
    constants_ = device_.empty(other.constants_->shape(), DType::uint8, "Graph", Contents::any);
    std::memcpy(constants_->address(), other.constants_->address(), constants_->nbytes());
  }
  record_commands();
}

void Program::set_buffer(uint32_t step, uint32_t place, Storage* storage, uint64_t offset) {
  Binding& binding = bindings_[steps_[step].first_binding + place];
  binding.storage = storage;
  binding.offset = offset;
  if (commands_.empty()) return;
  AutoreleaseScope scope;
  record_binding(command(step), binding);
}

void Program::set_bytes(uint32_t step, uint32_t place, std::span<const std::byte> bytes) {
  const Binding& binding = bindings_[steps_[step].first_binding + place];
  std::memcpy(constants_->address() + binding.offset, bytes.data(), bytes.size());
}

void Program::replace_storage(Storage* added, const Storage* removed) {
  const auto is = [](const Storage* wanted) {
    return [wanted](const StorageRef& each) { return each.get() == wanted; };
  };
  if (removed) std::erase_if(storages_, is(removed));
  if (std::none_of(storages_.begin(), storages_.end(), is(added))) storages_.emplace_back(added);
  if (!commands_.empty()) list_resources();
}

const MTL::IndirectCommandBuffer* Program::commands(uint32_t first, uint32_t& begin, uint32_t& count) const {
  if (commands_.empty()) return nullptr;
  begin = first % kCommands;
  count = std::min(kCommands, size32(steps_) - (first - begin)) - begin;
  return commands_[first / kCommands].get();
}

MTL::IndirectComputeCommand* Program::command(uint32_t step) const {
  return commands_[step / kCommands]->indirectComputeCommand(step % kCommands);
}

void Program::record_binding(MTL::IndirectComputeCommand* command, const Binding& binding) const {
  const MTL::Buffer* buffer = (binding.storage ? binding.storage : constants_->storage())->buffer.get();
  const uint64_t base = binding.storage ? 0 : constants_->offset();
  command->setKernelBuffer(buffer, base + bound_offset(binding.offset, binding.length), binding.index);
}

void Program::list_resources() {
  resources_.clear();
  const auto list = [this](const Storage& storage) {
    if (!storage.resident) resources_.push_back(storage.buffer.get());
  };
  for (const StorageRef& storage : storages_) list(*storage.get());
  if (constants_) list(*constants_->storage());
}

void Program::record_commands() {
  if (steps_.empty() || device_.checked() || !device_.has_indirect_commands()) return;
  AutoreleaseScope scope;
  uint32_t buffers = 0, memories = 0;
  for (const Binding& binding : bindings_) buffers = std::max<uint32_t>(buffers, binding.index + 1u);
  for (const Memory& memory : memories_) memories = std::max<uint32_t>(memories, memory.index + 1u);
  for (const Step& step : steps_) {
    if (!step.pipeline->state->supportIndirectCommandBuffers()) return;
  }
  auto descriptor = NS::TransferPtr(MTL::IndirectCommandBufferDescriptor::alloc()->init());
  descriptor->setCommandTypes(MTL::IndirectCommandTypeConcurrentDispatch |
                              MTL::IndirectCommandTypeConcurrentDispatchThreads);
  descriptor->setInheritBuffers(false);
  descriptor->setInheritPipelineState(false);
  descriptor->setMaxKernelBufferBindCount(buffers);
  descriptor->setMaxKernelThreadgroupMemoryBindCount(memories);
  for (uint32_t first = 0; first < steps_.size(); first += kCommands) {
    const uint32_t count = std::min(kCommands, size32(steps_) - first);
    auto made = NS::TransferPtr(device_.metal()->newIndirectCommandBuffer(
        descriptor.get(), count, MTL::ResourceStorageModeShared | MTL::ResourceHazardTrackingModeUntracked));
    if (!made) {
      commands_.clear();
      return;
    }
    commands_.push_back(std::move(made));
  }
  for (uint32_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    MTL::IndirectComputeCommand* to = command(i);
    to->setComputePipelineState(step.pipeline->state.get());
    for (uint32_t k = 0; k < step.bindings; ++k) record_binding(to, bindings_[step.first_binding + k]);
    for (uint32_t k = 0; k < step.memories; ++k) {
      const Memory& memory = memories_[step.first_memory + k];
      to->setThreadgroupMemoryLength(memory.length, memory.index);
    }
    if (step.barrier) to->setBarrier();
    const MTL::Size grid(step.grid.x, step.grid.y, step.grid.z);
    const MTL::Size threads(step.threads.x, step.threads.y, step.threads.z);
    if (step.by_threads) {
      to->concurrentDispatchThreads(grid, threads);
    } else {
      to->concurrentDispatchThreadgroups(grid, threads);
    }
  }
  list_resources();
}

}  // namespace metalloid
