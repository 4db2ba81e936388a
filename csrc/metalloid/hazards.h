// Which dispatches must not overlap: what was read and written since the last barrier.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace metalloid {

struct Storage;

// Bytes of an allocation that a dispatch touches.
struct MemoryUse {
  Storage* storage;
  uint64_t begin;
  uint64_t end;
  bool reads;
  bool writes;
  uint32_t id;  // of the storage, among those of a graph; without a default, as encoders have arrays of these

  // Neither read nor written, as far as anybody says: only there.
  bool empty() const { return begin >= end || !(reads || writes); }
  // All bytes, whatever was there before.
  bool overwrites() const { return writes && !reads; }
};

// A union of half-open ranges.
class RangeSet {
 public:
  void clear() {
    begin_ = end_ = 0;
    if (more_) [[unlikely]]
      more_.reset();
  }
  bool overlaps(uint64_t begin, uint64_t end) const {
    if (begin >= end_ || end <= begin_) return false;
    return !more_ || overlaps_scattered(begin, end);
  }
  void add(uint64_t begin, uint64_t end) {
    if (begin_ == end_) {
      begin_ = begin;
      end_ = end;
    } else if (!more_ && begin <= end_ && end >= begin_) {
      begin_ = begin < begin_ ? begin : begin_;
      end_ = end > end_ ? end : end_;
    } else {
      add_scattered(begin, end);
    }
  }
  bool covers(uint64_t begin, uint64_t end) const {
    if (begin < begin_ || end > end_) return false;
    return !more_ || covers_scattered(begin, end);
  }
  // Takes away what lies inside.
  void remove(uint64_t begin, uint64_t end);
  bool empty() const { return begin_ == end_; }

 private:
  bool overlaps_scattered(uint64_t begin, uint64_t end) const;
  bool covers_scattered(uint64_t begin, uint64_t end) const;
  void add_scattered(uint64_t begin, uint64_t end);
  void scatter();
  void gather();

  // The hull; of several ranges that do not touch, those are in more_, by where they begin.
  uint64_t begin_ = 0, end_ = 0;
  std::unique_ptr<std::map<uint64_t, uint64_t>> more_;
};

// A barrier orders everything before it and everything after it, so only what came since the last one counts.
// The cost of a dispatch depends on its own ranges, not on how many dispatches there were.
class HazardTracker {
 public:
  // Whether a dispatch that touches `uses` needs a barrier before it: then everything earlier is forgotten.
  // In any case it is noted.
  bool note(std::span<const MemoryUse> uses);
  // Forgets everything, as if nothing had been dispatched.
  void barrier() { ++epoch_, used_ = 0, everything_ = false; }
  // As if a dispatch had written all memory.
  void note_everything() { everything_ = true; }
  bool idle() const { return used_ == 0 && !everything_; }
  // Ranges that were found to overlap an earlier one.
  uint64_t conflict_count() const { return conflicts_; }

 private:
  struct Entry {
    Storage* storage = nullptr;
    uint64_t epoch = 0;
    RangeSet reads, writes;
  };

  // The entry of a storage, or the free one that is to become it.
  Entry& find(const Storage* storage);
  bool is_free(const Entry& entry) const { return entry.epoch != epoch_; }
  void add(const MemoryUse& use, Entry& entry);
  void grow();

  // Open addressing. What an earlier epoch left counts as free, so that a barrier costs one addition.
  std::vector<Entry> entries_;
  uint64_t epoch_ = 1;
  size_t used_ = 0;
  size_t mask_ = 0;  // one less than there are entries
  bool everything_ = false;
  uint64_t conflicts_ = 0;
};

}  // namespace metalloid
