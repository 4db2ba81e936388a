// The shape of a buffer: up to kMaxRank sizes, stored inline.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

#include "metalloid/error.h"

namespace metalloid {

class Shape {
 public:
  static constexpr size_t kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<uint64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const uint64_t> sizes) {
    for (uint64_t size : sizes) push_back(size);
  }

  size_t rank() const { return rank_; }
  uint64_t operator[](size_t axis) const { return sizes_[axis]; }
  uint64_t& operator[](size_t axis) { return sizes_[axis]; }
  const uint64_t* begin() const { return sizes_.data(); }
  const uint64_t* end() const { return sizes_.data() + rank_; }

  // The size of the last axis but `back`.
  uint64_t last(size_t back = 0) const { return sizes_[rank_ - 1 - back]; }

  void push_back(uint64_t size) {
    if (rank_ == kMaxRank) throw ValidationError(text("shape has more than ", kMaxRank, " axes"));
    sizes_[rank_++] = size;
  }

  // The product of all sizes, times `factor`; false if that does not fit 63 bits. The sizes are
  // multiplied even after a zero, so that an absurd size is refused wherever it stands.
  bool product(uint64_t factor, uint64_t& out) const {
    bool empty = false;
    uint64_t total = factor;
    for (uint64_t size : *this) {
      if (size == 0) {
        empty = true;
      } else if (total > kLimit / size) {
        return false;
      } else {
        total *= size;
      }
    }
    out = empty ? 0 : total;
    return true;
  }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (size_t i = 0; i < a.rank_; ++i) {
      if (a.sizes_[i] != b.sizes_[i]) return false;
    }
    return true;
  }

  friend std::ostream& operator<<(std::ostream& stream, const Shape& shape) {
    stream << '[';
    for (size_t i = 0; i < shape.rank_; ++i) stream << (i ? ", " : "") << shape.sizes_[i];
    return stream << ']';
  }

 private:
  static constexpr uint64_t kLimit = INT64_MAX;

  std::array<uint64_t, kMaxRank> sizes_{};
  size_t rank_ = 0;
};

}  // namespace metalloid
