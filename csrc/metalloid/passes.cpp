#include "metalloid/passes.h"

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <unordered_map>

#include "metalloid/hazards.h"

namespace metalloid {

namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kLeastLiveBytes = uint64_t{64} << 20;
// Where one allocation is used more often than this, looking for pairs in it would take too long.
constexpr size_t kMostUses = 64;
constexpr int kFusionRounds = 4;

// Calls visit(storage, end) for all memory that a node needs, whether or not its uses tell of it.
template <class Visit>
void for_each_storage(const Node& node, const Visit& visit) {
  for (const MemoryUse& use : node.uses) visit(use.storage, use.end);
  for (const NodeArgument& argument : node.arguments) {
    if (argument.buffer)
      visit(argument.buffer->storage(), argument.buffer->offset() + argument.buffer->nbytes());
  }
}

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Takes out the marked nodes. An explicit barrier before one of them moves to the next that stays.
void erase_marked(std::vector<Node>& nodes, const std::vector<bool>& marked) {
  size_t kept = 0;
  bool barrier = false;
  for (size_t i = 0; i < nodes.size(); ++i) {
    barrier |= nodes[i].barrier;
    if (marked[i]) continue;
    nodes[i].barrier = std::exchange(barrier, false);
    if (kept != i) nodes[kept] = std::move(nodes[i]);
    ++kept;
  }
  nodes.erase(nodes.begin() + static_cast<std::ptrdiff_t>(kept), nodes.end());
}

}  // namespace

uint64_t remove_dead(std::vector<Node>& nodes, const InternalStorages& internal) {
  // Backwards: the bytes of the graph's own buffers that a later node reads.
  std::unordered_map<const Storage*, RangeSet> wanted;
  std::vector<bool> dead(nodes.size());
  uint64_t removed = 0;
  for (size_t i = nodes.size(); i-- > 0;) {
    const Node& node = nodes[i];
    bool live = !node.pure;
    for (const MemoryUse& use : node.uses) {
      if (!use.writes || use.empty()) continue;
      live |= !internal.contains(use.storage) || wanted[use.storage].overlaps(use.begin, use.end);
    }
    if (!live) {
      dead[i] = true;
      ++removed;
      continue;
    }
    for (const MemoryUse& use : node.uses) {
      if (use.overwrites() && internal.contains(use.storage)) wanted[use.storage].remove(use.begin, use.end);
    }
    for (const MemoryUse& use : node.uses) {
      if (use.reads && !use.empty() && internal.contains(use.storage))
        wanted[use.storage].add(use.begin, use.end);
    }
  }
  if (removed) erase_marked(nodes, dead);
  return removed;
}

// Fusion --------------------------------------------------------------------------------------------

namespace {

// Keeps what an operation encodes.
class NodeRecorder final : public Encoder {
 public:
  explicit NodeRecorder(Device& device) : Encoder(device) {}

  void check_encoding(const char*) const override {}
  bool encoding() const override { return true; }
  void dispatch(const Operation& operation, const Pipeline& pipeline,
                std::initializer_list<Argument> arguments, Extent threadgroups, Extent threads) override {
    nodes.push_back(make_node(operation, pipeline, arguments, threadgroups, threads));
  }
  void dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                const Extent& threadgroup, const Declared& declared) override {
    nodes.push_back(make_node(kernel, values, grid, threadgroup, declared));
  }
  void barrier() override {}
  void push_group(std::string_view) override {}
  void pop_group() override {}

  std::vector<Node> nodes;
};

// Who uses which bytes, by storage and in order.
class UseIndex {
 public:
  struct Entry {
    uint32_t node;
    MemoryUse use;
  };

  explicit UseIndex(const std::vector<Node>& nodes) {
    fixed_before_.reserve(nodes.size() + 1);
    fixed_before_.push_back(0);
    for (uint32_t i = 0; i < nodes.size(); ++i) {
      for (const MemoryUse& use : nodes[i].uses) {
        if (!use.empty()) entries_[use.storage].push_back({i, use});
      }
      fixed_before_.push_back(fixed_before_.back() + nodes[i].fixed());
    }
  }

  // The node that writes exactly these bytes, where `reader` is the only one that reads any of them, after
  // it; -1 where there is none.
  int64_t only_writer(const MemoryUse& read, uint32_t reader) const {
    const std::vector<Entry>& entries = entries_.at(read.storage);
    if (entries.size() > kMostUses) return -1;
    int64_t writer = -1;
    for (const auto& [node, use] : entries) {
      if (use.end <= read.begin || use.begin >= read.end) continue;
      if (use.begin != read.begin || use.end != read.end) return -1;
      if (use.overwrites() && writer < 0 && node < reader) {
        writer = node;
      } else if (node != reader || use.writes) {
        return -1;
      }
    }
    return writer;
  }

  // Whether what `producer` reads is still the same when `consumer` runs, with no fixed node in between.
  bool can_wait(const Node& node, uint32_t producer, uint32_t consumer) const {
    if (fixed_before_[consumer] != fixed_before_[producer + 1]) return false;
    for (const MemoryUse& input : node.uses) {
      if (!input.reads || input.empty()) continue;
      const std::vector<Entry>& entries = entries_.at(input.storage);
      auto after = std::upper_bound(entries.begin(), entries.end(), producer,
                                    [](uint32_t place, const Entry& entry) { return place < entry.node; });
      for (size_t looked = 0; after != entries.end() && after->node < consumer; ++after) {
        if (++looked > kMostUses) return false;
        if (after->use.writes && after->use.begin < input.end && input.begin < after->use.end) return false;
      }
    }
    return true;
  }

 private:
  std::unordered_map<const Storage*, std::vector<Entry>> entries_;
  std::vector<uint32_t> fixed_before_;
};

// Whether the producer of something that `consumer` reads became one with it.
bool fuse_into(Device& device, std::vector<Node>& nodes, uint32_t consumer, const Fusion& fusion,
               const UseIndex& index, const InternalStorages& internal, std::vector<bool>& gone) {
  for (const MemoryUse& read : nodes[consumer].uses) {
    if (!read.reads || read.empty() || !internal.contains(read.storage)) continue;
    const int64_t found = index.only_writer(read, consumer);
    if (found < 0 || gone[static_cast<size_t>(found)]) continue;
    const auto producer = static_cast<uint32_t>(found);
    const Node& from = nodes[producer];
    if (from.operation != fusion.producer || from.fixed() || !index.can_wait(from, producer, consumer))
      continue;
    NodeRecorder recorder(device);
    try {
      if (!fusion.fuse(from, nodes[consumer], recorder)) continue;
    } catch (const ValidationError&) {
      continue;  // e.g. the output lies partly over an input
    }
    if (recorder.nodes.size() != 1) continue;
    Node& both = recorder.nodes.front();
    // What the producer wrote is not there any more, e.g. where it was its own table of angles as well.
    if (std::any_of(both.uses.begin(), both.uses.end(), [&](const MemoryUse& use) {
          return use.storage == read.storage && use.begin < read.end && read.begin < use.end;
        }))
      continue;
    both.label = std::move(nodes[consumer].label);
    both.group = std::move(nodes[consumer].group);
    both.barrier = nodes[consumer].barrier;
    both.origins = from.origins;
    both.origins.insert(both.origins.end(), nodes[consumer].origins.begin(), nodes[consumer].origins.end());
    nodes[consumer] = std::move(both);
    gone[producer] = true;
    return true;
  }
  return false;
}

}  // namespace

uint64_t fuse(Device& device, std::vector<Node>& nodes, const InternalStorages& internal,
              std::span<const Fusion> fusions) {
  uint64_t total = 0;
  for (int round = 0; round < kFusionRounds; ++round) {
    // Out of date as soon as two nodes are one, but on the safe side: writes stay where they were.
    const UseIndex index(nodes);
    std::vector<bool> gone(nodes.size());
    uint64_t fused = 0;
    for (uint32_t i = 0; i < nodes.size(); ++i) {
      for (const Fusion& fusion : fusions) {
        if (nodes[i].operation != fusion.consumer) continue;
        if (!fuse_into(device, nodes, i, fusion, index, internal, gone)) continue;
        ++fused;
        break;
      }
    }
    if (fused == 0) break;
    erase_marked(nodes, gone);
    total += fused;
  }
  return total;
}

// Order ---------------------------------------------------------------------------------------------

namespace {

// Who wrote which bytes last, and who has read them since.
class LastUses {
 public:
  // Adds to `before` the nodes that have to run before one that uses these bytes, and notes the use.
  void visit(const MemoryUse& use, uint32_t node, std::vector<uint32_t>& before) {
    if (use.empty()) return;
    Segments& segments = storages_[use.storage];
    cut(segments, use.begin);
    cut(segments, use.end);
    uint64_t at = use.begin;
    auto segment = segments.lower_bound(use.begin);
    while (at < use.end) {
      if (segment == segments.end() || segment->first > at) {
        const uint64_t end = segment == segments.end() ? use.end : std::min(segment->first, use.end);
        segment = segments.emplace_hint(segment, at, Segment{end, kNone, {}});
      }
      Segment& of = segment->second;
      if (of.writer != kNone && of.writer != node && (!use.writes || of.readers.empty()))
        before.push_back(of.writer);
      if (use.writes) {
        for (uint32_t reader : of.readers) {
          if (reader != node) before.push_back(reader);
        }
        of.writer = node;
        of.readers.clear();
      } else if (of.readers.empty() || of.readers.back() != node) {
        of.readers.push_back(node);
      }
      at = of.end;
      ++segment;
    }
  }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  struct Segment {
    uint64_t end;
    uint32_t writer;
    std::vector<uint32_t> readers;
  };
  using Segments = std::map<uint64_t, Segment>;

  static void cut(Segments& segments, uint64_t at) {
    auto after = segments.upper_bound(at);
    if (after == segments.begin()) return;
    auto& [begin, segment] = *std::prev(after);
    if (begin == at || segment.end <= at) return;
    Segment rest = segment;
    segment.end = at;
    segments.emplace_hint(after, at, std::move(rest));
  }

  std::unordered_map<const Storage*, Segments> storages_;
};

// Reads before writes: a node that reads and writes the same bytes follows both the last writer and the
// readers.
void visit_node(LastUses& last, const Node& node, uint32_t place, std::vector<uint32_t>& before) {
  before.clear();
  for (const MemoryUse& use : node.uses) {
    if (!use.writes) last.visit(use, place, before);
  }
  for (const MemoryUse& use : node.uses) {
    if (use.writes) last.visit(use, place, before);
  }
  std::sort(before.begin(), before.end());
  before.erase(std::unique(before.begin(), before.end()), before.end());
}

// Bytes of the graph's own buffers while nodes are placed one after another.
class LiveBytes {
 public:
  LiveBytes(const std::vector<Node>& nodes, const InternalStorages& internal) {
    for (const Node& node : nodes) {
      for_each_storage(node, [&](const Storage* storage, uint64_t end) {
        if (!internal.contains(storage)) return;
        Own& own = storages_[storage];
        own.bytes = std::max(own.bytes, end);
        ++own.uses_left;
      });
    }
  }
  // What placing the node would add.
  uint64_t cost(const Node& node) const {
    uint64_t bytes = 0;
    for_each_storage(node, [&](const Storage* storage, uint64_t) {
      auto own = storages_.find(storage);
      if (own != storages_.end() && !own->second.live) bytes += own->second.bytes;
    });
    return bytes;
  }
  void place(const Node& node) {
    for_each_storage(node, [&](const Storage* storage, uint64_t) {
      auto found = storages_.find(storage);
      if (found == storages_.end()) return;
      Own& own = found->second;
      if (!std::exchange(own.live, true)) live_ += own.bytes;
      if (--own.uses_left == 0) ended_ += own.bytes;
    });
    peak_ = std::max(peak_, live_);
  }
  // What was used for the last time is free behind a barrier only.
  void end_wave() { live_ -= std::exchange(ended_, 0); }
  uint64_t live() const { return live_; }
  uint64_t peak() const { return peak_; }

 private:
  struct Own {
    uint64_t bytes = 0;
    uint64_t uses_left = 0;
    bool live = false;
  };
  std::unordered_map<const Storage*, Own> storages_;
  uint64_t live_ = 0, ended_ = 0, peak_ = 0;
};

// Places the nodes from `first` up to `last`, of which none is fixed, in waves whose nodes are independent.
class WaveOrder {
 public:
  WaveOrder(const std::vector<Node>& nodes, uint32_t first, uint32_t last, LiveBytes& live,
            uint64_t most_bytes, uint32_t depth)
      : nodes_(nodes), first_(first), last_(last), live_(live), most_bytes_(most_bytes), depth_(depth) {
    waits_for_.resize(last - first);
    before_.resize(last - first);
    LastUses uses;
    std::vector<uint32_t> before;
    for (uint32_t i = first; i < last; ++i) {
      visit_node(uses, nodes[i], i, before);
      waits_for_[i - first] = static_cast<uint32_t>(before.size());
      for (uint32_t each : before) before_[each - first].push_back(i);
      if (before.empty()) ready_.push(i);
    }
  }

  void append_to(std::vector<uint32_t>& order) {
    std::vector<bool> done(last_ - first_);
    uint32_t oldest = first_;
    while (oldest < last_) {
      const std::vector<uint32_t> wave = next_wave(oldest);
      for (uint32_t node : wave) {
        order.push_back(node);
        done[node - first_] = true;
      }
      live_.end_wave();
      for (uint32_t node : wave) {
        for (uint32_t after : before_[node - first_]) {
          if (--waits_for_[after - first_] == 0) ready_.push(after);
        }
      }
      while (oldest < last_ && done[oldest - first_]) ++oldest;
    }
  }

 private:
  std::vector<uint32_t> next_wave(uint32_t oldest) {
    std::vector<uint32_t> wave, later;
    while (!ready_.empty() && ready_.top() - oldest < depth_) {
      const uint32_t node = ready_.top();
      ready_.pop();
      // The oldest comes whatever it takes: it is ready always, so that every wave has a node.
      if (node != oldest && live_.live() + live_.cost(nodes_[node]) > most_bytes_) {
        later.push_back(node);
        continue;
      }
      live_.place(nodes_[node]);
      wave.push_back(node);
    }
    for (uint32_t node : later) ready_.push(node);
    return wave;
  }

  const std::vector<Node>& nodes_;
  const uint32_t first_, last_;
  LiveBytes& live_;
  const uint64_t most_bytes_;
  const uint32_t depth_;
  std::vector<uint32_t> waits_for_;
  std::vector<std::vector<uint32_t>> before_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ready_;
};

uint64_t count(const std::vector<bool>& flags) {
  return static_cast<uint64_t>(std::count(flags.begin(), flags.end(), true));
}

uint64_t recorded_peak(const std::vector<Node>& nodes, const InternalStorages& internal,
                       const std::vector<bool>& barrier) {
  LiveBytes live(nodes, internal);
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (barrier[i]) live.end_wave();
    live.place(nodes[i]);
  }
  return live.peak();
}

}  // namespace

std::vector<std::pair<uint32_t, uint32_t>> dependencies(const std::vector<Node>& nodes) {
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  LastUses uses;
  std::vector<uint32_t> before;
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    visit_node(uses, nodes[i], i, before);
    for (uint32_t each : before) pairs.emplace_back(each, i);
  }
  return pairs;
}

std::vector<bool> barriers(const std::vector<Node>& nodes) {
  std::vector<bool> before(nodes.size());
  HazardTracker tracker;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].barrier) tracker.barrier();
    before[i] = tracker.note(nodes[i].uses) || nodes[i].barrier;
  }
  return before;
}

void reorder(std::vector<Node>& nodes, const InternalStorages& internal, const PassOptions& options) {
  const std::vector<bool> barrier = barriers(nodes);
  uint64_t most_bytes = options.max_live_bytes;
  if (most_bytes == 0) most_bytes = std::max(kLeastLiveBytes, 2 * recorded_peak(nodes, internal, barrier));
  LiveBytes live(nodes, internal);
  std::vector<uint32_t> order;
  order.reserve(nodes.size());
  for (uint32_t first = 0; first < nodes.size();) {
    uint32_t last = first;
    while (last < nodes.size() && !nodes[last].fixed()) ++last;
    if (last > first) {
      WaveOrder(nodes, first, last, live, most_bytes, options.depth).append_to(order);
    } else {
      live.place(nodes[last]);
      order.push_back(last++);
    }
    first = last;
  }
  std::vector<Node> ordered;
  ordered.reserve(nodes.size());
  for (uint32_t place : order) ordered.push_back(std::move(nodes[place]));
  if (count(barriers(ordered)) < count(barrier)) {
    nodes = std::move(ordered);
  } else {
    for (size_t i = 0; i < order.size(); ++i) nodes[order[i]] = std::move(ordered[i]);
  }
}

// Memory --------------------------------------------------------------------------------------------

namespace {

// Hands out parts of one allocation that grows as needed, best fit first.
class Layout {
 public:
  uint64_t take(uint64_t bytes) {
    auto fit = by_size_.lower_bound({bytes, 0});
    if (fit != by_size_.end()) {
      const auto [size, offset] = *fit;
      erase(offset, size);
      if (size > bytes) insert(offset + bytes, size - bytes);
      return offset;
    }
    // A free end grows.
    uint64_t offset = end_;
    if (!by_offset_.empty()) {
      const auto [last, size] = *by_offset_.rbegin();
      if (last + size == end_) {
        offset = last;
        erase(last, size);
      }
    }
    end_ = offset + bytes;
    return offset;
  }

  void give_back(uint64_t offset, uint64_t bytes) {
    auto after = by_offset_.lower_bound(offset);
    if (after != by_offset_.end() && offset + bytes == after->first) {
      bytes += after->second;
      erase(after->first, after->second);
    }
    after = by_offset_.lower_bound(offset);
    if (after != by_offset_.begin()) {
      const auto [before, size] = *std::prev(after);
      if (before + size == offset) {
        erase(before, size);
        offset = before;
        bytes += size;
      }
    }
    insert(offset, bytes);
  }

  uint64_t end() const { return end_; }

 private:
  void insert(uint64_t offset, uint64_t size) {
    by_offset_.emplace(offset, size);
    by_size_.emplace(size, offset);
  }
  void erase(uint64_t offset, uint64_t size) {
    by_offset_.erase(offset);
    by_size_.erase({size, offset});
  }

  std::map<uint64_t, uint64_t> by_offset_;
  std::set<std::pair<uint64_t, uint64_t>> by_size_;
  uint64_t end_ = 0;
};

struct Lifetime {
  const Storage* storage;
  uint64_t bytes;
  uint32_t first, last;  // waves
};

}  // namespace

MemoryPlan plan_memory(const std::vector<Node>& nodes, const InternalStorages& internal) {
  const std::vector<bool> barrier = barriers(nodes);
  std::vector<Lifetime> lifetimes;  // in order of the first use
  std::unordered_map<const Storage*, size_t> known;
  uint32_t wave = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    wave += barrier[i];
    for_each_storage(nodes[i], [&](const Storage* storage, uint64_t end) {
      if (!internal.contains(storage)) return;
      auto [place, added] = known.try_emplace(storage, lifetimes.size());
      if (added) lifetimes.push_back({storage, 0, wave, wave});
      Lifetime& lifetime = lifetimes[place->second];
      lifetime.bytes = std::max(lifetime.bytes, end);
      lifetime.last = wave;
    });
  }
  std::vector<std::vector<uint32_t>> ending(size_t{wave} + 1);
  for (uint32_t i = 0; i < lifetimes.size(); ++i) ending[lifetimes[i].last].push_back(i);

  MemoryPlan plan;
  plan.buffers = lifetimes.size();
  plan.offsets.reserve(lifetimes.size());
  Layout layout;
  uint32_t freed = 0;  // waves whose buffers were given back
  for (const Lifetime& lifetime : lifetimes) {
    for (; freed < lifetime.first; ++freed) {
      for (uint32_t ended : ending[freed])
        layout.give_back(plan.offsets[ended].second, std::max(aligned(lifetimes[ended].bytes), kAlignment));
    }
    const uint64_t bytes = std::max(aligned(lifetime.bytes), kAlignment);
    plan.unshared += bytes;
    plan.offsets.emplace_back(lifetime.storage, layout.take(bytes));
  }
  plan.peak = layout.end();
  return plan;
}

}  // namespace metalloid
