#include "softmetal/simt/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <random>
#include <utility>

namespace softmetal::simt {

Reserve::Reserve(size_t bytes) : size_(bytes) {
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<char*>(memory);
  madvise(memory, bytes, MADV_HUGEPAGE);
}

Reserve::~Reserve() {
  if (data_) munmap(data_, size_);
}

Reserve::Reserve(Reserve&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Reserve& Reserve::operator=(Reserve&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void Reserve::clear() { madvise(data_, size_, MADV_DONTNEED); }

Shadow ShadowPool::take(uint64_t bytes, unsigned shift) {
  const uint64_t cells = (bytes >> shift) + 2, lines = (bytes >> Shadow::kLineShift) + 2;
  Shadow shadow;
  const auto fits = [&](const Shadow& one) {
    return one.memory.size() >= cells * sizeof(Cell) && one.lines.size() >= lines;
  };
  // The smallest that will do.
  auto best = free_.end();
  for (auto one = free_.begin(); one != free_.end(); ++one)
    if (fits(*one) && (best == free_.end() || one->memory.size() < best->memory.size())) best = one;
  if (best != free_.end()) {
    shadow = std::move(*best);
    free_.erase(best);
  } else {
    shadow.memory = Reserve(std::bit_ceil(std::max<uint64_t>(cells * sizeof(Cell), 1 << 16)));
    shadow.lines = Reserve(std::bit_ceil(std::max<uint64_t>(lines, 1 << 12)));
  }
  shadow.bytes = bytes;
  shadow.shift = shift;
  return shadow;
}

void ShadowPool::give(Shadow shadow, uint64_t used) {
  if ((used >> shadow.shift) * sizeof(Cell) > kBytesKept / 4) shadow.memory.clear();
  if (free_.size() == kKept) free_.erase(free_.begin());
  free_.push_back(std::move(shadow));
}

uint32_t poison_pattern() {
  // No pattern that floats, small integers or text are likely to have.
  static const uint32_t pattern = [] {
    std::random_device random;
    for (;;) {
      const auto candidate = static_cast<uint32_t>(random());
      const uint32_t high = candidate >> 16, low = candidate & 0xffff;
      if (high != low && candidate >> 24 != 0 && candidate >> 24 != 0xff && std::popcount(candidate) > 8)
        return candidate;
    }
  }();
  return pattern;
}

void poison(char* address, size_t bytes) {
  const auto begin = (reinterpret_cast<uintptr_t>(address) + 3) & ~uintptr_t{3};
  const auto end = (reinterpret_cast<uintptr_t>(address) + bytes) & ~uintptr_t{3};
  if (begin < end)
    std::fill_n(reinterpret_cast<uint32_t*>(begin), (end - begin) / sizeof(uint32_t), poison_pattern());
}

}  // namespace softmetal::simt
