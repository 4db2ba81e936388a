// Device memory and the pool it comes from.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "metalloid/metal.h"
#include "metalloid/timeline.h"

namespace metalloid {

class Device;
class Residency;
class StoragePool;

// How many queues a device can have.
inline constexpr uint32_t kMaxQueues = 8;

// One allocation, shared by the buffers that view it. Counted by StorageRef; the last reference
// hands it back to the pool, which reuses it once the device has finished with it.
struct Storage {
  Device* device = nullptr;
  StoragePool* pool = nullptr;
  // Of a placeholder there is none until somebody asks: to be read through metal() and memory().
  NS::SharedPtr<MTL::Buffer> buffer;
  std::byte* contents = nullptr;
  std::atomic<bool> backed{false};
  uint64_t capacity = 0;
  uint32_t size_class = 0;
  bool readonly = false;
  bool resident = false;  // in the device's residency set

  std::atomic<uint32_t> references{0};
  // The last committed command buffer of each queue that uses it.
  std::array<std::atomic<uint64_t>, kMaxQueues> last_use{};
  // The encoder that took a reference last, so that it takes one and not one per dispatch.
  std::atomic<uint64_t> last_encoder{0};

  // Memory that is not ours: who to tell when the device has finished with it.
  void (*release_owner)(void*) = nullptr;
  void* owner = nullptr;

  Storage* newer[2] = {};
  Storage* older[2] = {};

  // Throw DeviceError where there is no memory.
  MTL::Buffer* metal() {
    if (!backed.load(std::memory_order_acquire)) [[unlikely]]
      back();
    return buffer.get();
  }
  std::byte* memory() {
    if (!backed.load(std::memory_order_acquire)) [[unlikely]]
      back();
    return contents;
  }

 private:
  void back();
};

class StorageRef {
 public:
  StorageRef() = default;
  explicit StorageRef(Storage* storage) : storage_(storage) { retain(); }
  StorageRef(const StorageRef& other) : storage_(other.storage_) { retain(); }
  StorageRef(StorageRef&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() { release(); }

  Storage* get() const { return storage_; }
  Storage* operator->() const { return storage_; }
  explicit operator bool() const { return storage_ != nullptr; }

 private:
  void retain() {
    if (storage_) storage_->references.fetch_add(1, std::memory_order_relaxed);
  }
  void release();

  Storage* storage_ = nullptr;
};

// Keeps freed allocations by size class for the next one of that size, up to a limit, and
// holds those that the device still uses until it has finished.
class StoragePool {
 public:
  StoragePool(Device* device, MTL::Device* metal, Residency* residency);

  StorageRef allocate(uint64_t bytes);
  // Memory of somebody else's: page-aligned, and mapped up to the end of its last page. `release_owner`
  // is called once, on any thread, when neither a buffer nor the device needs it any more.
  StorageRef adopt(void* address, uint64_t bytes, bool readonly, void (*release_owner)(void*), void* owner);

  // A storage that gets its memory when somebody asks for it.
  StorageRef placeholder(uint64_t bytes);
  void back(Storage* placeholder);

  void recycle(Storage* storage);
  // Takes back what the device has finished with.
  void collect();
  // Gives the cached memory back to the system.
  void empty_cache();

  uint64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }
  uint64_t cached_bytes() const { return cached_.load(std::memory_order_relaxed); }
  // For who must hold everything still; to be locked before the timeline's.
  std::mutex& mutex() { return mutex_; }

 private:
  // A list through Storage::newer[L] and older[L]: 0 links a class (or the waiting ones), 1 all that is
  // cached.
  template <int L>
  struct List {
    Storage* newest = nullptr;
    Storage* oldest = nullptr;
    void push(Storage* storage);
    void remove(Storage* storage);
  };
  static constexpr uint32_t kClasses = 448;

  // Those with mutex_ held return what the caller must destroy() after letting go of it: release_owner
  // may need a lock that a thread waiting for ours holds.
  using Garbage = std::vector<Storage*>;
  void put_back(Storage* storage, Garbage& garbage);
  void collect_locked(Garbage& garbage);
  // Puts it with those that wait for the first queue that still uses it, from `first` on; false where none
  // does.
  bool keep_waiting(Storage* storage, uint32_t first);
  Storage* take_cached(uint32_t size_class);
  void forget(Storage* storage);
  void destroy(Garbage& garbage);

  Device* const device_;
  MTL::Device* const metal_;
  Residency* const residency_;
  const uint64_t page_;
  const uint64_t limit_;

  std::mutex mutex_;
  List<0> classes_[kClasses];
  List<0> waiting_[kMaxQueues];
  List<1> cache_;
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> cached_{0};
};

inline void StorageRef::release() {
  if (storage_ && storage_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    storage_->pool->recycle(storage_);
  }
}

// The unit of sharing memory with the device.
uint64_t page_size();

}  // namespace metalloid
