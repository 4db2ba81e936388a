#include "softmetal/runtime/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "softmetal/runtime/library.h"

namespace softmetal {

namespace {

// From this size on memory is mapped: fresh pages are zero without being touched, and go back when freed.
constexpr size_t kMapFrom = 128 * 1024;
constexpr size_t kHugePage = 2 * 1024 * 1024;

size_t round_up(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

// Maps `bytes`, on a huge page boundary where that may help the TLB.
char* map_zeroed(size_t bytes) {
  const size_t slack = bytes >= kHugePage ? kHugePage : 0;
  void* mapped = mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* memory = static_cast<char*>(mapped);
  if (slack) {
    char* aligned = reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(memory), kHugePage));
    if (aligned > memory) munmap(memory, static_cast<size_t>(aligned - memory));
    char* end = aligned + bytes;
    if (memory + bytes + slack > end) munmap(end, static_cast<size_t>(memory + bytes + slack - end));
    memory = aligned;
    madvise(memory, bytes, MADV_HUGEPAGE);  // advice: no matter if it is not taken
  }
  return memory;
}

Device& cpu_device() {
  static Device* const device = new Device(cpu_executor());
  return *device;
}

Device& simt_device() {
  static Device* const device = new Device(simt_executor());
  return *device;
}

// Between a debug marker and the binding that it is about.
struct Marker {
  const Buffer* buffer = nullptr;
  NS::Range range{0, 0};
};
thread_local Marker marker;

}  // namespace

bool imitates_mac() {
  static const bool imitates = [] {
    const char* value = std::getenv("METALLOID_IMITATE_MAC");
    return value && *value && std::strcmp(value, "0") != 0;
  }();
  return imitates;
}

size_t page_size() {
  static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

Buffer::Buffer(Device& owner, char* memory, NS::UInteger bytes, NS::UInteger reserved,
               MTL::ResourceOptions resource_options, Origin origin, Deallocator deallocator)
    : Resource(owner, resource_options),
      address(memory),
      length(bytes),
      reserved_(reserved),
      origin_(origin),
      deallocator_(std::move(deallocator)) {
  device.allocated.fetch_add(reserved_, std::memory_order_relaxed);
}

Buffer::~Buffer() {
  unmark(this);
  device.allocated.fetch_sub(reserved_, std::memory_order_relaxed);
  switch (origin_) {
    case Origin::Heap:
      std::free(address);
      break;
    case Origin::Mapping:
      munmap(address, reserved_);
      break;
    case Origin::Caller:
      if (deallocator_) deallocator_(address, length);
      break;
  }
}

Buffer* Buffer::allocate(Device& device, NS::UInteger length, MTL::ResourceOptions options) {
  const size_t reserved = round_up(length, page_size());
  if (reserved >= kMapFrom) {
    char* memory = map_zeroed(reserved);
    return memory ? new Buffer(device, memory, length, reserved, options, Origin::Mapping) : nullptr;
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, page_size(), reserved) != 0) return nullptr;
  std::memset(memory, 0, reserved);
  return new Buffer(device, static_cast<char*>(memory), length, reserved, options, Origin::Heap);
}

Buffer* Buffer::share(Device& device, void* pointer, NS::UInteger length, MTL::ResourceOptions options,
                      Deallocator deallocator) {
  return new Buffer(device, static_cast<char*>(pointer), length, length, options, Origin::Caller,
                    std::move(deallocator));
}

void Buffer::mark(NS::Range range) const {
  if (device.executor.checks()) marker = {this, range};
}

uint64_t Buffer::marked_length(uint64_t offset) const {
  const Marker noted = std::exchange(marker, {});
  return noted.buffer == this && noted.range.location == offset ? noted.range.length : length - offset;
}

void Buffer::unmark(const Buffer* buffer) {
  if (marker.buffer == buffer) marker = {};
}

std::string Buffer::describe() const {
  return text("<MTL::Buffer: %p> label = %s, length = %zu", static_cast<const void*>(this),
              label.empty() ? "<none>" : label.c_str(), static_cast<size_t>(length));
}

static bool range_fits(const char* call, const Buffer& buffer, NS::Range range) {
  if (range.location <= buffer.length && range.length <= buffer.length - range.location) return true;
  report_misuse(text("Buffer::%s: range is [%zu, %zu), needs to lie in [0, %zu)", call,
                     static_cast<size_t>(range.location), static_cast<size_t>(range.Max()),
                     static_cast<size_t>(buffer.length)));
  return false;
}

// Checks what all forms of newBuffer share.
static bool valid_buffer(NS::UInteger length, MTL::ResourceOptions options) {
  const NS::UInteger most = limit_settings().max_buffer_length;
  std::string problem;
  if (length == 0)
    problem = "length is 0 bytes, needs at least 1";
  else if (length > most)
    problem = text("length is %zu bytes, needs at most %zu", static_cast<size_t>(length),
                   static_cast<size_t>(most));
  else if ((options >> 4 & 15) > MTL::StorageModePrivate)
    problem = "storage mode is memoryless, needs shared, managed or private (buffers)";
  if (!problem.empty()) report_misuse("Device::newBuffer: " + problem);
  return problem.empty();
}

}  // namespace softmetal

namespace MTL {

using softmetal::autoreleased;
using softmetal::face;
using softmetal::impl;

Device* CreateSystemDefaultDevice() {
  const std::string& problem = softmetal::limit_settings().problem;
  if (!problem.empty()) softmetal::report_misuse("CreateSystemDefaultDevice: " + problem);
  return face(softmetal::imitates_mac() ? &softmetal::simt_device() : &softmetal::cpu_device())->retain();
}

NS::Array* CopyAllDevices() {
  if (softmetal::imitates_mac()) {
    const NS::Object* device = face(&softmetal::simt_device());
    return NS::Array::alloc()->init(&device, 1);
  }
  const NS::Object* devices[] = {face(&softmetal::cpu_device()), face(&softmetal::simt_device())};
  return NS::Array::alloc()->init(devices, 2);
}

NS::String* Architecture::name() const { return softmetal::autoreleased_string(impl(this)->name); }

Architecture* Device::architecture() const {
  const auto isas = softmetal::usable_isas(nullptr);
  return face(autoreleased(new softmetal::Architecture(isas.empty() ? "unsupported" : isas.front())));
}
NS::UInteger Device::currentAllocatedSize() const {
  return impl(this)->allocated.load(std::memory_order_relaxed);
}
bool Device::hasUnifiedMemory() const { return true; }
bool Device::isHeadless() const { return true; }
bool Device::isLowPower() const { return false; }
bool Device::isRemovable() const { return false; }
DeviceLocation Device::location() const { return DeviceLocationBuiltIn; }
NS::UInteger Device::maxBufferLength() const { return softmetal::limit_settings().max_buffer_length; }
NS::UInteger Device::maxThreadgroupMemoryLength() const { return softmetal::kMaxThreadgroupMemory; }
Size Device::maxThreadsPerThreadgroup() const {
  return Size(softmetal::kMaxThreadgroupSide, softmetal::kMaxThreadgroupSide, softmetal::kMaxThreadgroupSide);
}
NS::UInteger Device::maximumConcurrentCompilationTaskCount() const { return 0; }
NS::String* Device::name() const {
  if (softmetal::imitates_mac()) return softmetal::autoreleased_string("imitation of an Apple GPU");
  return softmetal::autoreleased_string(impl(this)->executor.device_name());
}
uint64_t Device::recommendedMaxWorkingSetSize() const { return softmetal::physical_memory() / 4 * 3; }
uint64_t Device::registryID() const { return impl(this)->executor.registry_id(); }
bool Device::supportsFamily(MTL::GPUFamily gpuFamily) {
  return softmetal::supports_family(softmetal::limit_settings().family, gpuFamily);
}
void Device::sampleTimestamps(MTL::Timestamp* cpuTimestamp, MTL::Timestamp* gpuTimestamp) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  *cpuTimestamp = *gpuTimestamp =
      static_cast<Timestamp>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

Buffer* Device::newBuffer(NS::UInteger length, MTL::ResourceOptions options) {
  if (!softmetal::valid_buffer(length, options)) return nullptr;
  return face(softmetal::Buffer::allocate(*impl(this), length, options));
}

Buffer* Device::newBuffer(const void* pointer, NS::UInteger length, MTL::ResourceOptions options) {
  if (!pointer) softmetal::report_misuse("Device::newBuffer: pointer is null, needs the bytes to copy");
  Buffer* made = pointer ? newBuffer(length, options) : nullptr;
  if (made) std::memcpy(impl(made)->address, pointer, length);
  return made;
}

Buffer* Device::newBuffer(const void* pointer, NS::UInteger length, MTL::ResourceOptions options,
                          const std::function<void(void*, NS::UInteger)>& deallocator) {
  if (!softmetal::valid_buffer(length, options)) return nullptr;
  const size_t page = softmetal::page_size();
  std::string problem;
  if (!pointer || reinterpret_cast<size_t>(pointer) % page != 0)
    problem = softmetal::text("pointer is %p, needs a multiple of the page size, %zu", pointer, page);
  else if (length % page != 0)
    problem = softmetal::text("length is %zu bytes, needs a multiple of the page size, %zu",
                              static_cast<size_t>(length), page);
  else if (options >> 4 & 15 & StorageModePrivate)
    problem = "storage mode is private, needs shared (the memory is the caller's)";
  if (!problem.empty()) {
    softmetal::report_misuse("Device::newBuffer (no copy): " + problem);
    return nullptr;
  }
  return face(
      softmetal::Buffer::share(*impl(this), const_cast<void*>(pointer), length, options, deallocator));
}

Fence* Device::newFence() { return face(new softmetal::Fence(*impl(this))); }
Device* Fence::device() const { return face(&impl(this)->device); }
NS::String* Fence::label() const { return softmetal::label_string(impl(this)->label); }
void Fence::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }

NS::UInteger Allocation::allocatedSize() const { return impl(this)->allocated_size(); }
NS::UInteger Resource::allocatedSize() const { return impl(this)->allocated_size(); }
CPUCacheMode Resource::cpuCacheMode() const { return static_cast<CPUCacheMode>(impl(this)->options & 15); }
Device* Resource::device() const { return face(&impl(this)->device); }
HazardTrackingMode Resource::hazardTrackingMode() const {
  const auto mode = static_cast<HazardTrackingMode>(impl(this)->options >> 8 & 3);
  return mode == HazardTrackingModeDefault ? HazardTrackingModeTracked : mode;
}
NS::String* Resource::label() const { return softmetal::label_string(impl(this)->label); }
ResourceOptions Resource::resourceOptions() const { return impl(this)->options; }
void Resource::setLabel(const NS::String* label) { impl(this)->label = softmetal::str(label); }
PurgeableState Resource::setPurgeableState(MTL::PurgeableState state) {
  const PurgeableState before = impl(this)->purgeable;
  if (state != PurgeableStateKeepCurrent) impl(this)->purgeable = state;
  if (state == PurgeableStateEmpty) impl(this)->discard();
  return before;
}
StorageMode Resource::storageMode() const { return static_cast<StorageMode>(impl(this)->options >> 4 & 15); }

void Buffer::addDebugMarker(const NS::String*, NS::Range range) {
  if (softmetal::range_fits("addDebugMarker", *impl(this), range)) impl(this)->mark(range);
}
void Buffer::removeAllDebugMarkers() { softmetal::Buffer::unmark(impl(this)); }
void* Buffer::contents() { return impl(this)->is_private() ? nullptr : impl(this)->address; }
void Buffer::didModifyRange(NS::Range range) { softmetal::range_fits("didModifyRange", *impl(this), range); }
GPUAddress Buffer::gpuAddress() const { return reinterpret_cast<GPUAddress>(impl(this)->address); }
NS::UInteger Buffer::length() const { return impl(this)->length; }

}  // namespace MTL
