#include "metalloid/buffer.h"

#include <algorithm>

#include "metalloid/device.h"

namespace metalloid {

uint64_t byte_count(const char* operation, const Shape& shape, DType dtype) {
  uint64_t bytes = 0;
  if (!shape.product(size_of(dtype), bytes)) {
    throw ValidationError(
        text(operation, ": shape ", shape, " of ", dtype, " has 2^63 bytes or more, needs fewer"));
  }
  return bytes;
}

Buffer::Buffer(StorageRef storage, uint64_t offset, const Shape& shape, DType dtype)
    : storage_(std::move(storage)),
      offset_(offset),
      nbytes_(byte_count("Buffer", shape, dtype)),
      size_(nbytes_ / size_of(dtype)),
      shape_(shape),
      dtype_(dtype) {}

bool Buffer::busy() const {
  for (const auto& queue : device().queues()) {
    if (!queue->timeline().seen(storage_->last_use[queue->index()].load(std::memory_order_acquire)))
      return true;
  }
  return false;
}

template <class Done>
void Buffer::wait(const Done& done) const {
  for (const auto& queue : device().queues()) {
    std::atomic<uint64_t>& last_use = storage_->last_use[queue->index()];
    const uint64_t serial = last_use.load(std::memory_order_acquire);
    if (!queue->timeline().seen(serial)) queue->wait(serial);
    done(queue->timeline(), last_use, serial);
  }
}

void Buffer::wait_to_read() const {
  std::shared_ptr<const Failure> failure;
  wait([&](Timeline& timeline, const std::atomic<uint64_t>&, uint64_t serial) {
    std::shared_ptr<const Failure> found = timeline.failure(serial);
    if (!failure && found && found->raises) failure = std::move(found);
  });
  if (failure) failure->raise("Buffer: the work that last used it failed: ");
}

void Buffer::wait_to_write() const {
  wait([](Timeline&, std::atomic<uint64_t>& last_use, uint64_t serial) {
    last_use.compare_exchange_strong(serial, 0);
  });
}

Buffer Buffer::index(int64_t i) const {
  if (shape_.rank() == 0) throw ValidationError("Buffer: index into shape [], needs at least one axis");
  int64_t length = static_cast<int64_t>(shape_[0]);
  if (i < -length || i >= length) {
    throw std::out_of_range(text("Buffer: index ", i, " is outside a leading axis of ", length));
  }
  Buffer row = slice(static_cast<uint64_t>(i < 0 ? i + length : i), 1);
  return row.reshape(Shape(std::span(shape_.begin() + 1, shape_.end())));
}

Buffer Buffer::slice(uint64_t begin, uint64_t count) const {
  if (shape_.rank() == 0) throw ValidationError("Buffer: slice of shape [], needs at least one axis");
  if (begin > shape_[0] || count > shape_[0] - begin) {
    throw ValidationError(text("Buffer: slice [", begin, ", ", begin, " + ", count,
                               ") is outside a leading axis of ", shape_[0]));
  }
  uint64_t row = shape_[0] ? nbytes() / shape_[0] : 0;
  Shape shape = shape_;
  shape[0] = count;
  return Buffer(storage_, offset_ + begin * row, shape, dtype_);
}

Buffer Buffer::reshape(const Shape& shape) const {
  Buffer result(storage_, offset_, shape, dtype_);
  if (result.size() != size_) {
    throw ValidationError(
        text("Buffer.reshape: shape ", shape, " has ", result.size(), " elements, needs ", size_));
  }
  return result;
}

Buffer Buffer::view(DType dtype) const {
  uint64_t from = size_of(dtype_);
  uint64_t to = size_of(dtype);
  Shape shape = shape_;
  if (from != to) {
    if (shape.rank() == 0) {
      throw ValidationError(
          text("Buffer.view: ", dtype_, " to ", dtype, " changes the element size, needs at least one axis"));
    }
    uint64_t bytes = shape.last() * from;
    if (bytes % to != 0) {
      throw ValidationError(text("Buffer.view: the last axis has ", bytes, " bytes, needs a multiple of ", to,
                                 " (", dtype, ")"));
    }
    shape[shape.rank() - 1] = bytes / to;
  }
  if (offset_ % to != 0) {
    throw ValidationError(
        text("Buffer.view: offset is ", offset_, " bytes, needs a multiple of ", to, " (", dtype, ")"));
  }
  return Buffer(storage_, offset_, shape, dtype);
}

}  // namespace metalloid
