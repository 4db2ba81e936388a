#include "softmetal/simt/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>

namespace softmetal::simt {

namespace {

// Of a slot, as powers of two. The largest holds what a product of two 32-bit numbers often comes to where it
// is not cut off.
constexpr unsigned kLargest = 40, kSmallest = 32;
constexpr uintptr_t kPage = 4096;

uintptr_t page_of(uintptr_t address) { return address & ~(kPage - 1); }
uintptr_t page_after(uintptr_t address) { return page_of(address + kPage - 1); }

void map(uintptr_t begin, uintptr_t end, int protection, int flags, int file = -1) {
  if (mmap(reinterpret_cast<void*>(begin), end - begin, protection, flags | MAP_FIXED, file, 0) == MAP_FAILED)
    throw std::bad_alloc();
}

}  // namespace

Arena::Arena() {
  for (shift_ = kLargest;; --shift_) {
    if (shift_ < kSmallest) throw std::bad_alloc();
    void* memory = mmap(nullptr, bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) continue;
    begin_ = reinterpret_cast<uintptr_t>(memory);
    return;
  }
}

void Arena::open(uintptr_t address, uint64_t bytes) {
  const uintptr_t begin = page_of(address), end = page_after(address + bytes);
  if (mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE) != 0)
    throw std::bad_alloc();
}

char* Arena::place(unsigned index, uint64_t bytes, uintptr_t like) {
  if (bytes > most()) throw std::bad_alloc();
  const uintptr_t middle = slot(index) + (uintptr_t{1} << (shift_ - 1));
  const uintptr_t address = middle + (like & (kPage - 1));
  const uintptr_t end = page_after(address + bytes);
  Open& before = open_[index];
  if (before.shared) {
    map(before.begin, before.end, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    before = {};
  }
  if (end > before.end) {
    open(middle, end - middle);
    before = {middle, end, false};
  }
  return reinterpret_cast<char*>(address);
}

std::vector<char*> Arena::share(const std::vector<unsigned>& slots, uint64_t bytes, uintptr_t like) {
  if (bytes > most()) throw std::bad_alloc();
  const uint64_t size = page_after((like & (kPage - 1)) + bytes);
  const int file = memfd_create("softmetal", MFD_CLOEXEC);
  if (file < 0) throw std::bad_alloc();
  std::vector<char*> places;
  try {
    if (ftruncate(file, static_cast<off_t>(size)) != 0) throw std::bad_alloc();
    for (const unsigned index : slots) {
      const uintptr_t middle = slot(index) + (uintptr_t{1} << (shift_ - 1));
      Open& now = open_[index];
      map(middle, middle + size, PROT_READ | PROT_WRITE, MAP_SHARED, file);
      now = {middle, std::max(now.end, middle + size), true};
      places.push_back(reinterpret_cast<char*>(middle + (like & (kPage - 1))));
    }
  } catch (...) {
    close(file);
    throw;
  }
  close(file);
  return places;
}

void Arena::reset() {
  for (Open& open : open_) {
    if (open.shared) {
      map(open.begin, open.end, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
      open = {};
    } else if (open.end - open.begin > kKept) {
      madvise(reinterpret_cast<void*>(open.begin), open.end - open.begin, MADV_DONTNEED);
    }
  }
}

}  // namespace softmetal::simt
