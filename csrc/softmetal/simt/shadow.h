// What the checker remembers about memory: who touched it last, and what nobody has written yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace softmetal::simt {

// The accesses to a few neighbouring bytes that later ones may conflict with: in [0] the last plain write, in
// [1] and [2] other accesses, by two threads and if possible of two SIMD-groups. With two, a write by the
// thread of one of them still conflicts with the other.
//
// Times grow with every barrier and every threadgroup, so whether a barrier came since is one comparison, and
// cells of earlier runs are told by their times; nothing is ever cleared.
struct Cell {
  uint32_t time[3];  // 0: none
  uint32_t pc[3];    // from the load address of the kernel's library
  uint16_t who[3];   // thread in its threadgroup << kWhoShift, flags, the bytes touched
  uint16_t written;  // in threadgroup memory: generation << 4, the bytes that have been written
};
static_assert(sizeof(Cell) == 32);

constexpr unsigned kWhoShift = 6;
constexpr uint16_t kWhoBytes = 15;
constexpr uint16_t kPlainRead = 16;
constexpr uint16_t kAtomicWrite = 32;  // neither flag: an atomic load

// Zero-filled memory that costs nothing until it is used.
class Reserve {
 public:
  Reserve() = default;
  explicit Reserve(size_t bytes);
  ~Reserve();
  Reserve(Reserve&& other) noexcept;
  Reserve& operator=(Reserve&& other) noexcept;

  char* data() const { return data_; }
  size_t size() const { return size_; }
  // Gives the memory back to the system, as far as it was used.
  void clear();

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

// The cells of one buffer, or of threadgroup memory, each for 1 << shift bytes; and the lines of it that have
// been written.
struct Shadow {
  static constexpr unsigned kLineShift = 6;

  Cell* cells() const { return reinterpret_cast<Cell*>(memory.data()); }
  uint8_t* written() const { return reinterpret_cast<uint8_t*>(lines.data()); }

  Reserve memory, lines;
  uint64_t bytes = 0;  // of the buffer
  unsigned shift = 2;
};

// Shadows that are not in use, kept because fresh memory is slow.
class ShadowPool {
 public:
  Shadow take(uint64_t bytes, unsigned shift);
  // `used` bytes of the buffer may have been touched.
  void give(Shadow shadow, uint64_t used);
  // Forgets all times.
  void clear() { free_.clear(); }

 private:
  static constexpr size_t kKept = 32;
  static constexpr uint64_t kBytesKept = uint64_t{256} << 20;

  std::vector<Shadow> free_;
};

// The pattern that marks memory which nobody has written. Random, and the same for the life of the process.
uint32_t poison_pattern();
// Marks the whole 4-byte cells of a range.
void poison(char* address, size_t bytes);

}  // namespace softmetal::simt
