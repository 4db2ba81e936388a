// Typed memory shared by the host and a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "metalloid/dtype.h"
#include "metalloid/shape.h"
#include "metalloid/storage.h"

namespace metalloid {

class Device;

// A value: copies and views share the memory. Always contiguous, row-major, innermost axis last.
class Buffer {
 public:
  Buffer(StorageRef storage, uint64_t offset, const Shape& shape, DType dtype);

  Device& device() const { return *storage_->device; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  uint64_t size() const { return size_; }
  uint64_t nbytes() const { return nbytes_; }
  uint64_t offset() const { return offset_; }  // bytes into the allocation
  bool readonly() const { return storage_->readonly; }
  Storage* storage() const { return storage_.get(); }
  std::byte* address() const { return storage_->memory() + offset_; }

  // Waits for the committed work that uses the memory; what uncommitted encoders hold does not count.
  // To read it: throws DeviceError or KernelFault if the last of that work failed.
  void wait_to_read() const;
  // To write it: what failed before does not matter any more.
  void wait_to_write() const;
  bool busy() const;

  // Views. All throw ValidationError; index() throws std::out_of_range past the ends.
  Buffer index(int64_t i) const;                       // buf[i]; a negative i counts from the end
  Buffer slice(uint64_t begin, uint64_t count) const;  // of the leading axis
  Buffer reshape(const Shape& shape) const;
  Buffer view(DType dtype) const;  // the same bytes; the last axis takes up the change of size
  Buffer flatten() const { return reshape({size_}); }

 private:
  // Calls `done` with each queue's timeline, last use and its serial, once that is complete.
  template <class Done>
  void wait(const Done& done) const;

  StorageRef storage_;
  uint64_t offset_;
  uint64_t nbytes_;
  uint64_t size_;
  Shape shape_;
  DType dtype_;
};

// How two buffers lie in memory.
enum class Overlap { none, same, partial };
inline Overlap overlap(const Buffer& a, const Buffer& b) {
  uint64_t a_begin = a.offset(), b_begin = b.offset();
  // By address, because two storages can share memory that was wrapped twice. What has no memory yet shares
  // none.
  if (a.storage() != b.storage()) {
    if (!a.storage()->backed || !b.storage()->backed) return Overlap::none;
    a_begin = reinterpret_cast<uintptr_t>(a.address());
    b_begin = reinterpret_cast<uintptr_t>(b.address());
  }
  if (a_begin == b_begin && a.nbytes() == b.nbytes()) return Overlap::same;
  const bool apart = a_begin + a.nbytes() <= b_begin || b_begin + b.nbytes() <= a_begin;
  return apart ? Overlap::none : Overlap::partial;
}

// The bytes that `shape` takes. Throws ValidationError, naming `operation`, if they do not fit 63 bits.
uint64_t byte_count(const char* operation, const Shape& shape, DType dtype);

}  // namespace metalloid
