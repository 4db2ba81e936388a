// A graph made ready to run: everything that replaying it needs, in the order in which it is needed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "metalloid/forked.h"
#include "metalloid/node.h"

namespace metalloid {

class Program {
 public:
  struct Binding {
    Storage* storage;  // null: inline bytes, `offset` bytes into the constants
    uint64_t offset;
    uint64_t length;
    uint8_t index;
  };
  struct Memory {
    uint64_t length;
    uint8_t index;
  };
  struct Step {
    const Pipeline* pipeline;
    uint32_t first_binding, bindings;
    uint32_t first_memory, memories;
    Extent grid, threads;
    bool by_threads;
    bool barrier;            // before it
    uint64_t reads, writes;  // bytes, as recorded
    std::string name;
    std::string group;
  };

  // `places` tells where memory that has been moved is. Memory that is not there stays where the nodes say.
  // `memory` is what they are in. `storages` is how many numbers of storages there are.
  Program(Device& device, const std::vector<Node>& nodes, size_t storages, const Places& places,
          const std::optional<Buffer>& memory);
  // For a change while the device runs the other one.
  Program(const Program& other);
  Program& operator=(const Program&) = delete;
  ~Program() {
    for (auto& each : commands_) abandon_if_forked(each);
  }

  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<Binding>& bindings() const { return bindings_; }
  const std::vector<Memory>& memories() const { return memories_; }
  // Distinct.
  const std::vector<StorageRef>& storages() const { return storages_; }
  const std::byte* constants() const { return constants_ ? constants_->address() : nullptr; }
  // Of the steps from `first` up to `last`.
  uint64_t barriers(uint32_t first, uint32_t last) const {
    return first < last ? barriers_[last] - barriers_[first] : 0;
  }
  uint64_t barriers() const { return barriers_.back(); }
  uint64_t conflicts() const { return conflicts_; }

  // Of one step, by the place among its buffers and inline bytes. To be called while the device does not run
  // the program.
  void set_buffer(uint32_t step, uint32_t place, Storage* storage, uint64_t offset);
  void set_bytes(uint32_t step, uint32_t place, std::span<const std::byte> bytes);
  // What is used now, and what is not used any more (or null).
  void replace_storage(Storage* added, const Storage* removed);

  // Metal's own recording of the steps from `first` on, where the device has such a thing: it begins with the
  // command `begin` and holds `count` of the steps. Null where they have to be encoded one by one.
  const MTL::IndirectCommandBuffer* commands(uint32_t first, uint32_t& begin, uint32_t& count) const;
  // The memory that the recording uses and Metal has to be told of: what is not resident anyway.
  const std::vector<const MTL::Resource*>& resources() const { return resources_; }

 private:
  void record_commands();
  void record_binding(MTL::IndirectComputeCommand* command, const Binding& binding) const;
  MTL::IndirectComputeCommand* command(uint32_t step) const;
  void list_resources();

  Device& device_;
  std::vector<Step> steps_;
  std::vector<Binding> bindings_;
  std::vector<Memory> memories_;
  std::vector<StorageRef> storages_;
  Kept kernels_;
  std::optional<Buffer> constants_;
  std::vector<uint32_t> barriers_;  // before each step, and of all
  uint64_t conflicts_ = 0;
  std::vector<NS::SharedPtr<MTL::IndirectCommandBuffer>> commands_;
  std::vector<const MTL::Resource*> resources_;
};

}  // namespace metalloid
