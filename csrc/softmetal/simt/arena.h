// Where a checked kernel's memory lies: every buffer argument in a slot of its own, with so much room around
// it that no index of 32 bits leads from one to another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace softmetal::simt {

class Arena {
 public:
  static constexpr unsigned kSlots = 32;

  // Reserves the addresses; throws std::bad_alloc where even small slots are too much.
  Arena();

  uintptr_t begin() const { return begin_; }
  uint64_t bytes() const { return uint64_t{kSlots} << shift_; }
  unsigned slot_shift() const { return shift_; }
  uintptr_t slot(unsigned index) const { return begin_ + (uintptr_t{index} << shift_); }
  // The most that fits in a slot.
  uint64_t most() const { return uint64_t{1} << (shift_ - 2); }

  // Memory for [begin, begin + bytes) in the middle of a slot, at the same place within a page as `like`.
  char* place(unsigned slot, uint64_t bytes, uintptr_t like);
  // The same memory in several slots. Writes to one show in all.
  std::vector<char*> share(const std::vector<unsigned>& slots, uint64_t bytes, uintptr_t like);
  // Memory anywhere in a slot; stays.
  void open(uintptr_t address, uint64_t bytes);
  // Ends the use of what place() and share() gave since the last time.
  void reset();

 private:
  struct Open {
    uintptr_t begin = 0, end = 0;
    bool shared = false;
  };
  static constexpr uint64_t kKept = uint64_t{64} << 20;  // of memory in a slot

  uintptr_t begin_ = 0;
  unsigned shift_ = 0;
  Open open_[kSlots];
};

}  // namespace softmetal::simt
