#pragma once

#include <atomic>
#include <functional>
#include <string>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/executor.h"
#include "softmetal/runtime/foundation.h"
#include "softmetal/runtime/limits.h"
#include "softmetal/runtime/object.h"

namespace softmetal {

size_t page_size();

// Whether the one device is to be `simt` under another name, as a Mac has one, with what softmetal alone
// knows of kernels left out: for programs, and tests of them, that ask for "metal".
bool imitates_mac();

// One for the life of the process.
class Device final : public Object {
 public:
  explicit Device(Executor& kernel_executor) : executor(kernel_executor) { make_immortal(); }
  const char* class_name() const override { return "MTL::Device"; }

  Executor& executor;
  std::atomic<uint64_t> allocated{0};
};
SOFTMETAL_BRIDGE(MTL::Device, Device)

class Architecture final : public Object {
 public:
  explicit Architecture(std::string isa) : name(std::move(isa)) {}
  const char* class_name() const override { return "MTL::Architecture"; }
  const std::string name;
};
SOFTMETAL_BRIDGE(MTL::Architecture, Architecture)

// What counts towards a device's memory: buffers and pipelines.
class Allocation : public Object {
 public:
  virtual NS::UInteger allocated_size() const = 0;
};
SOFTMETAL_BRIDGE(MTL::Allocation, Allocation)

class Resource : public Allocation {
 public:
  Resource(Device& owner, MTL::ResourceOptions resource_options) : device(owner), options(resource_options) {}
  // Nobody wants the contents any more.
  virtual void discard() {}

  Device& device;
  const MTL::ResourceOptions options;
  std::string label;
  MTL::PurgeableState purgeable = MTL::PurgeableStateNonVolatile;
  // The command buffer that retained this resource last, so that binding it again there costs one compare.
  std::atomic<uint64_t> retained_by{0};
};
SOFTMETAL_BRIDGE(MTL::Resource, Resource)

class Buffer final : public Resource {
 public:
  using Deallocator = std::function<void(void*, NS::UInteger)>;

  // Zero-filled memory of its own; null when there is none.
  static Buffer* allocate(Device& device, NS::UInteger length, MTL::ResourceOptions options);
  // The caller's memory.
  static Buffer* share(Device& device, void* pointer, NS::UInteger length, MTL::ResourceOptions options,
                       Deallocator deallocator);
  ~Buffer() override;

  const char* class_name() const override { return "MTL::Buffer"; }
  std::string describe() const override;
  NS::UInteger allocated_size() const override { return reserved_; }
  void discard() override { device.executor.discard(address, length); }
  bool is_private() const { return (options >> 4 & 15) == MTL::StorageModePrivate; }

  char* const address;
  const NS::UInteger length;

  // Notes on the calling thread what part of the buffer the next binding at range.location is about.
  void mark(NS::Range range) const;
  // Takes back what was noted. The length of the part that starts at `offset`, which ends with the buffer
  // when nothing was noted.
  uint64_t marked_length(uint64_t offset) const;
  static void unmark(const Buffer* buffer);

 private:
  enum class Origin { Heap, Mapping, Caller };
  Buffer(Device& owner, char* memory, NS::UInteger bytes, NS::UInteger reserved,
         MTL::ResourceOptions resource_options, Origin origin, Deallocator deallocator = nullptr);

  const NS::UInteger reserved_;
  const Origin origin_;
  const Deallocator deallocator_;
};
SOFTMETAL_BRIDGE(MTL::Buffer, Buffer)

// Encoders of one queue run one after another, so a fence has nothing left to order.
class Fence final : public Object {
 public:
  explicit Fence(Device& owner) : device(owner) {}
  const char* class_name() const override { return "MTL::Fence"; }
  Device& device;
  std::string label;
};
SOFTMETAL_BRIDGE(MTL::Fence, Fence)

}  // namespace softmetal
