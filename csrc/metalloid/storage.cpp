#include "metalloid/storage.h"

#include <unistd.h>

#include <algorithm>
#include <bit>

#include "metalloid/device.h"
#include "metalloid/forked.h"
#include "metalloid/residency.h"

namespace metalloid {

namespace {

constexpr uint64_t kMinimumCache = uint64_t{256} << 20;

// Hazards are our own business: encoders put the barriers in.
constexpr MTL::ResourceOptions kOptions =
    MTL::ResourceStorageModeShared | MTL::ResourceHazardTrackingModeUntracked;

// Sizes in pages: 1...8, then eight steps to each power of two, so at most an eighth is wasted.
uint32_t class_of(uint64_t pages) {
  if (pages <= 8) return static_cast<uint32_t>(pages) - 1;
  uint32_t octave = static_cast<uint32_t>(std::bit_width(pages - 1)) - 4;
  return 8 * (octave + 1) + static_cast<uint32_t>(((pages - 1) >> octave) - 8);
}

uint64_t pages_in(uint32_t size_class) {
  if (size_class < 8) return size_class + 1;
  uint32_t octave = size_class / 8 - 1;
  return (uint64_t{size_class % 8} + 9) << octave;
}

uint64_t cache_limit(const MTL::Device* device) {
  return std::max<uint64_t>(device->recommendedMaxWorkingSetSize() / 8, kMinimumCache);
}

}  // namespace

uint64_t page_size() {
  static const uint64_t size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

template <int L>
void StoragePool::List<L>::push(Storage* storage) {
  storage->newer[L] = nullptr;
  storage->older[L] = newest;
  (newest ? newest->newer[L] : oldest) = storage;
  newest = storage;
}

template <int L>
void StoragePool::List<L>::remove(Storage* storage) {
  (storage->newer[L] ? storage->newer[L]->older[L] : newest) = storage->older[L];
  (storage->older[L] ? storage->older[L]->newer[L] : oldest) = storage->newer[L];
}

StoragePool::StoragePool(Device* device, MTL::Device* metal, Residency* residency)
    : device_(device), metal_(metal), residency_(residency), page_(page_size()), limit_(cache_limit(metal)) {}

StorageRef StoragePool::allocate(uint64_t bytes) {
  refuse_forked("allocation");
  uint64_t pages = std::max<uint64_t>((bytes + page_ - 1) / page_, 1);
  uint32_t size_class = class_of(pages);
  uint64_t capacity = std::min<uint64_t>(pages_in(size_class) * page_, metal_->maxBufferLength());
  if (bytes > capacity) {
    throw ValidationError(text("allocation of ", bytes, " bytes, needs at most ", capacity,
                               " (the device's max_buffer_length)"));
  }

  Storage* storage = nullptr;
  {
    std::lock_guard lock(mutex_);
    storage = take_cached(size_class);
  }
  if (!storage) {
    // Lets go of what completed work kept, which comes back here: so not with the lock held.
    device_->retire();
    Garbage garbage;
    {
      std::lock_guard lock(mutex_);
      collect_locked(garbage);
      storage = take_cached(size_class);
    }
    destroy(garbage);
  }
  if (storage) return StorageRef(storage);

  AutoreleaseScope scope;
  auto buffer = NS::TransferPtr(metal_->newBuffer(capacity, kOptions));
  if (!buffer) {
    empty_cache();
    buffer = NS::TransferPtr(metal_->newBuffer(capacity, kOptions));
  }
  if (!buffer)
    throw DeviceError(text("out of memory: the device has no ", capacity, " bytes to give"), "out_of_memory");
  storage = new Storage;
  storage->device = device_;
  storage->pool = this;
  storage->contents = static_cast<std::byte*>(buffer->contents());
  storage->resident = residency_->add(buffer.get(), capacity);
  storage->buffer = std::move(buffer);
  storage->capacity = capacity;
  storage->size_class = size_class;
  storage->backed.store(true, std::memory_order_relaxed);
  used_.fetch_add(capacity, std::memory_order_relaxed);
  return StorageRef(storage);
}

StorageRef StoragePool::adopt(void* address, uint64_t bytes, bool readonly, void (*release_owner)(void*),
                              void* owner) {
  AutoreleaseScope scope;
  uint64_t length = (bytes + page_ - 1) / page_ * page_;
  auto buffer = NS::TransferPtr(metal_->newBuffer(address, length, kOptions, nullptr));
  if (!buffer) throw DeviceError(text("the device cannot share ", length, " bytes at ", address));
  auto* storage = new Storage;
  storage->device = device_;
  storage->pool = this;
  storage->buffer = std::move(buffer);
  storage->contents = static_cast<std::byte*>(address);
  storage->capacity = bytes;
  storage->backed.store(true, std::memory_order_relaxed);
  storage->readonly = readonly;
  storage->release_owner = release_owner;
  storage->owner = owner;
  return StorageRef(storage);
}

StorageRef StoragePool::placeholder(uint64_t bytes) {
  auto* storage = new Storage;
  storage->device = device_;
  storage->pool = this;
  storage->capacity = bytes;
  return StorageRef(storage);
}

void StoragePool::back(Storage* placeholder) {
  uint64_t bytes = 0;
  {
    std::lock_guard lock(mutex_);
    if (placeholder->backed.load(std::memory_order_relaxed)) return;
    bytes = placeholder->capacity;
  }
  // Given back, if another thread is faster, when the lock has been.
  StorageRef made = allocate(bytes);
  device_->mark_undefined(*made.get());
  std::lock_guard lock(mutex_);
  if (placeholder->backed.load(std::memory_order_relaxed)) return;
  placeholder->buffer = std::move(made->buffer);
  placeholder->contents = made->contents;
  placeholder->resident = std::exchange(made->resident, false);
  placeholder->capacity = made->capacity;
  placeholder->size_class = made->size_class;
  placeholder->backed.store(true, std::memory_order_release);
  made->backed.store(false, std::memory_order_relaxed);  // an empty shell now
}

void Storage::back() { pool->back(this); }

void StoragePool::recycle(Storage* storage) {
  if (forked()) return;
  Garbage garbage;
  {
    std::lock_guard lock(mutex_);
    if (!keep_waiting(storage, 0)) put_back(storage, garbage);
  }
  destroy(garbage);
}

void StoragePool::collect() {
  Garbage garbage;
  {
    std::lock_guard lock(mutex_);
    collect_locked(garbage);
  }
  destroy(garbage);
}

void StoragePool::empty_cache() {
  refuse_forked("Device.empty_cache");
  device_->retire();
  Garbage garbage;
  {
    std::lock_guard lock(mutex_);
    collect_locked(garbage);
    while (Storage* storage = cache_.oldest) {
      forget(storage);
      garbage.push_back(storage);
    }
  }
  destroy(garbage);
}

void StoragePool::put_back(Storage* storage, Garbage& garbage) {
  if (!storage->backed.load(std::memory_order_relaxed)) {
    garbage.push_back(storage);
    return;
  }
  if (storage->release_owner || storage->capacity > limit_) {
    if (!storage->release_owner) used_.fetch_sub(storage->capacity, std::memory_order_relaxed);
    garbage.push_back(storage);
    return;
  }
  used_.fetch_sub(storage->capacity, std::memory_order_relaxed);
  cached_.fetch_add(storage->capacity, std::memory_order_relaxed);
  for (auto& last_use : storage->last_use) last_use.store(0, std::memory_order_relaxed);
  classes_[storage->size_class].push(storage);
  cache_.push(storage);
  if (cached_.load(std::memory_order_relaxed) <= limit_) return;
  // An eighth at once, as each time costs a change of what is resident.
  while (cached_.load(std::memory_order_relaxed) > limit_ - limit_ / 8 && cache_.oldest != storage) {
    Storage* oldest = cache_.oldest;
    forget(oldest);
    garbage.push_back(oldest);
  }
}

void StoragePool::collect_locked(Garbage& garbage) {
  for (const auto& queue : device_->queues()) {
    const uint32_t index = queue->index();
    // Freed in about the order of use, so the first that is still in use ends the search.
    while (Storage* storage = waiting_[index].oldest) {
      if (!queue->timeline().seen(storage->last_use[index].load(std::memory_order_relaxed))) break;
      waiting_[index].remove(storage);
      if (!keep_waiting(storage, index + 1)) put_back(storage, garbage);
    }
  }
}

bool StoragePool::keep_waiting(Storage* storage, uint32_t first) {
  const auto queues = device_->queues();
  for (uint32_t i = first; i < queues.size(); ++i) {
    if (queues[i]->timeline().seen(storage->last_use[i].load(std::memory_order_relaxed))) continue;
    waiting_[i].push(storage);
    return true;
  }
  return false;
}

Storage* StoragePool::take_cached(uint32_t size_class) {
  // The one freed last is the one most likely still in the processor's cache.
  Storage* storage = classes_[size_class].newest;
  if (storage) {
    forget(storage);
    used_.fetch_add(storage->capacity, std::memory_order_relaxed);
  }
  return storage;
}

void StoragePool::forget(Storage* storage) {
  classes_[storage->size_class].remove(storage);
  cache_.remove(storage);
  cached_.fetch_sub(storage->capacity, std::memory_order_relaxed);
}

void StoragePool::destroy(Garbage& garbage) {
  if (garbage.empty()) return;
  AutoreleaseScope scope;
  std::vector<const MTL::Allocation*> resident;
  uint64_t bytes = 0;
  for (const Storage* storage : garbage) {
    if (!storage->resident) continue;
    resident.push_back(storage->buffer.get());
    bytes += storage->capacity;
  }
  residency_->remove(resident, bytes);
  for (Storage* storage : garbage) {
    void (*release_owner)(void*) = storage->release_owner;
    void* owner = storage->owner;
    delete storage;  // Metal lets go of the memory before its owner does.
    if (release_owner) release_owner(owner);
  }
}

}  // namespace metalloid
