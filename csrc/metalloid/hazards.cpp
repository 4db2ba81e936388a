#include "metalloid/hazards.h"

#include <algorithm>
#include <utility>

namespace metalloid {

bool RangeSet::overlaps_scattered(uint64_t begin, uint64_t end) const {
  auto after = more_->lower_bound(end);
  return after != more_->begin() && std::prev(after)->second > begin;
}

bool RangeSet::covers_scattered(uint64_t begin, uint64_t end) const {
  auto after = more_->upper_bound(begin);
  return after != more_->begin() && std::prev(after)->second >= end;
}

void RangeSet::scatter() {
  if (more_) return;
  more_ = std::make_unique<std::map<uint64_t, uint64_t>>();
  more_->emplace(begin_, end_);
}

// Of a single range the hull says all.
void RangeSet::gather() {
  if (more_->size() == 1) more_.reset();
}

void RangeSet::add_scattered(uint64_t begin, uint64_t end) {
  scatter();
  begin_ = std::min(begin_, begin);
  end_ = std::max(end_, end);
  auto next = more_->upper_bound(begin);
  if (next != more_->begin() && std::prev(next)->second >= begin) {
    --next;
    begin = next->first;
  }
  while (next != more_->end() && next->first <= end) {
    end = std::max(end, next->second);
    next = more_->erase(next);
  }
  more_->emplace_hint(next, begin, end);
  gather();
}

void RangeSet::remove(uint64_t begin, uint64_t end) {
  if (!overlaps(begin, end)) return;
  scatter();
  auto at = more_->upper_bound(begin);
  if (at != more_->begin() && std::prev(at)->second > begin) --at;
  while (at != more_->end() && at->first < end) {
    const auto [from, to] = *at;
    at = more_->erase(at);
    if (from < begin) more_->emplace(from, begin);
    if (to > end) at = more_->emplace(end, to).first;
  }
  if (more_->empty()) return clear();
  begin_ = more_->begin()->first;
  end_ = std::prev(more_->end())->second;
  gather();
}

inline HazardTracker::Entry& HazardTracker::find(const Storage* storage) {
  // Allocations are far apart; the multiplication spreads what little their addresses differ in.
  const uint64_t hash = (reinterpret_cast<uintptr_t>(storage) >> 4) * 0x9e3779b97f4a7c15u;
  Entry* const entries = entries_.data();
  for (size_t i = hash >> 32 & mask_;; i = (i + 1) & mask_) {
    if (is_free(entries[i]) || entries[i].storage == storage) return entries[i];
  }
}

inline void HazardTracker::add(const MemoryUse& use, Entry& entry) {
  if (is_free(entry)) {
    entry.storage = use.storage;
    entry.epoch = epoch_;
    entry.reads.clear();
    entry.writes.clear();
    ++used_;
  }
  (use.writes ? entry.writes : entry.reads).add(use.begin, use.end);
}

bool HazardTracker::note(std::span<const MemoryUse> uses) {
  while (2 * (used_ + uses.size()) >= mask_) grow();
  uint64_t found = everything_ && !uses.empty();
  if (used_ > 0) {
    for (const MemoryUse& use : uses) {
      const Entry& entry = find(use.storage);
      if (is_free(entry) || use.empty()) continue;
      found += entry.writes.overlaps(use.begin, use.end) ||
               (use.writes && entry.reads.overlaps(use.begin, use.end));
    }
  }
  if (found) {
    conflicts_ += found;
    barrier();
  }
  for (const MemoryUse& use : uses) {
    if (!use.empty()) add(use, find(use.storage));
  }
  return found > 0;
}

void HazardTracker::grow() {
  std::vector<Entry> old =
      std::exchange(entries_, std::vector<Entry>(std::max<size_t>(64, 2 * entries_.size())));
  mask_ = entries_.size() - 1;
  for (Entry& entry : old) {
    if (!is_free(entry)) find(entry.storage) = std::move(entry);
  }
}

}  // namespace metalloid
