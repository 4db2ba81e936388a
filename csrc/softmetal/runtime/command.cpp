#include "softmetal/runtime/command.h"

#include <type_traits>

#include "softmetal/runtime/library.h"

#include "softmetal/runtime/foundation.h"

namespace softmetal {

// Arenas forget their contents without running destructors.
static_assert(std::is_trivially_destructible_v<Dispatch> && std::is_trivially_destructible_v<EventCommand> &&
              std::is_trivially_destructible_v<SampleCommand>);

void Arena::enter(size_t block) {
  current_ = block;
  memory_ = blocks_[block].memory;
  capacity_ = blocks_[block].capacity;
  used_ = 0;
}

void* Arena::allocate_block(size_t size) {
  if (current_ + 1 < blocks_.size() && blocks_[current_ + 1].capacity >= size) {
    enter(current_ + 1);
  } else {
    const size_t capacity = size > kBlock ? (size + 63) / 64 * 64 : kBlock;
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, capacity) != 0) throw std::bad_alloc();
    const size_t place = blocks_.empty() ? 0 : current_ + 1;
    blocks_.insert(blocks_.begin() + static_cast<std::ptrdiff_t>(place),
                   {static_cast<char*>(memory), capacity});
    enter(place);
  }
  used_ = size;
  return memory_;
}

void Arena::reset() {
  while (blocks_.size() > kBlocksKept) {
    std::free(blocks_.back().memory);
    blocks_.pop_back();
  }
  if (!blocks_.empty()) enter(0);
}

void Recording::clear() {
  // Releasing may run a deallocator of the user's.
  for (size_t i = 0; i < held.size(); ++i) held[i]->release();
  held.clear();
  first = last = nullptr;
  arena.reset();
}

}  // namespace softmetal
