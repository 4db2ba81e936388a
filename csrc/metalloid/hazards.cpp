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

void RangeSet::add_scattered(uint64_t begin, uint64_t end) {
  if (!more_) more_ = std::make_unique<std::map<uint64_t, uint64_t>>();
  if (more_->empty()) more_->emplace(begin_, end_);
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
  if (more_->size() == 1) more_->clear();  // the hull says it all
}

void RangeSet::remove(uint64_t begin, uint64_t end) {
  if (!overlaps(begin, end)) return;
  if (!more_) more_ = std::make_unique<std::map<uint64_t, uint64_t>>();
  if (more_->empty()) more_->emplace(begin_, end_);
  auto at = more_->upper_bound(begin);
  if (at != more_->begin() && std::prev(at)->second > begin) --at;
  while (at != more_->end() && at->first < end) {
    const auto [from, to] = *at;
    at = more_->erase(at);
    if (from < begin) more_->emplace(from, begin);
    if (to > end) at = more_->emplace(end, to).first;
  }
  if (more_->empty()) {
    begin_ = end_ = 0;
    return;
  }
  begin_ = more_->begin()->first;
  end_ = std::prev(more_->end())->second;
  if (more_->size() == 1) more_->clear();
}

size_t HazardTracker::place(const Storage* storage) const {
  // Allocations are far apart; the multiplication spreads what little their addresses differ in.
  const uint64_t hash = (reinterpret_cast<uintptr_t>(storage) >> 4) * 0x9e3779b97f4a7c15u;
  return static_cast<size_t>(hash >> 32) & (entries_.size() - 1);
}

HazardTracker::Entry* HazardTracker::find(const Storage* storage) {
  for (size_t i = place(storage); entries_[i].epoch == epoch_; i = (i + 1) & (entries_.size() - 1)) {
    if (entries_[i].storage == storage) return &entries_[i];
  }
  return nullptr;
}

HazardTracker::Entry& HazardTracker::find_or_make(Storage* storage) {
  if (2 * (used_ + 1) > entries_.size()) grow();
  size_t i = place(storage);
  for (; entries_[i].epoch == epoch_; i = (i + 1) & (entries_.size() - 1)) {
    if (entries_[i].storage == storage) return entries_[i];
  }
  Entry& entry = entries_[i];
  entry.storage = storage;
  entry.epoch = epoch_;
  entry.reads.clear();
  entry.writes.clear();
  ++used_;
  return entry;
}

void HazardTracker::grow() {
  std::vector<Entry> old =
      std::exchange(entries_, std::vector<Entry>(std::max<size_t>(32, 2 * entries_.size())));
  used_ = 0;
  for (Entry& entry : old) {
    if (entry.epoch == epoch_) find_or_make(entry.storage) = std::move(entry);
  }
}

uint64_t HazardTracker::conflicts(std::span<const MemoryUse> uses) {
  if (everything_) return uses.empty() ? 0 : 1;
  if (used_ == 0) return 0;
  uint64_t found = 0;
  for (const MemoryUse& use : uses) {
    if (use.empty()) continue;
    const Entry* entry = find(use.storage);
    if (!entry) continue;
    found += entry->writes.overlaps(use.begin, use.end) ||
             (use.writes && entry->reads.overlaps(use.begin, use.end));
  }
  return found;
}

void HazardTracker::add(std::span<const MemoryUse> uses) {
  for (const MemoryUse& use : uses) {
    if (use.empty()) continue;
    Entry& entry = find_or_make(use.storage);
    (use.writes ? entry.writes : entry.reads).add(use.begin, use.end);
  }
}

}  // namespace metalloid
