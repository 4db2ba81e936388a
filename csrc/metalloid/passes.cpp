#include "metalloid/passes.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <queue>
#include <set>
#include <utility>

#include "metalloid/hazards.h"

namespace metalloid {

namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kLeastLiveBytes = uint64_t{64} << 20;
// Where one allocation is used more often than this, looking for pairs in it would take too long.
constexpr size_t kMostUses = 64;
constexpr int kFusionRounds = 4;

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

uint64_t remove_dead(std::vector<Node>& nodes, const Internal& internal) {
  // Backwards: the bytes of the graph's own buffers that a later node reads.
  std::vector<RangeSet> wanted(internal.size());
  std::vector<bool> dead(nodes.size());
  uint64_t removed = 0;
  for (size_t i = nodes.size(); i-- > 0;) {
    const Node& node = nodes[i];
    bool live = !node.pure;
    for (const MemoryUse& use : node.uses) {
      if (!use.writes || use.empty()) continue;
      live |= !internal[use.id] || wanted[use.id].overlaps(use.begin, use.end);
    }
    if (!live) {
      dead[i] = true;
      ++removed;
      continue;
    }
    for (const MemoryUse& use : node.uses) {
      if (use.overwrites() && internal[use.id]) wanted[use.id].remove(use.begin, use.end);
    }
    for (const MemoryUse& use : node.uses) {
      if (use.reads && !use.empty() && internal[use.id]) wanted[use.id].add(use.begin, use.end);
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
  Buffer output(const Shape& shape, DType dtype, const char* operation) override {
    return device_.placeholder(shape, dtype, operation);
  }
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

  UseIndex(const std::vector<Node>& nodes, size_t storages) : first_(storages + 1) {
    for (const Node& node : nodes) {
      for (const MemoryUse& use : node.uses) first_[use.id] += !use.empty();
    }
    uint32_t total = 0;
    for (uint32_t& count : first_) total += std::exchange(count, total);
    entries_.resize(total);
    std::vector<uint32_t> next(first_);
    fixed_before_.reserve(nodes.size() + 1);
    fixed_before_.push_back(0);
    for (uint32_t i = 0; i < nodes.size(); ++i) {
      for (const MemoryUse& use : nodes[i].uses) {
        if (!use.empty()) entries_[next[use.id]++] = {i, use};
      }
      fixed_before_.push_back(fixed_before_.back() + nodes[i].fixed());
    }
  }

  // The node that writes exactly these bytes, where `reader` is the only one that reads any of them, after
  // it; -1 where there is none.
  int64_t only_writer(const MemoryUse& read, uint32_t reader) const {
    const std::span<const Entry> entries = of(read);
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
      const std::span<const Entry> entries = of(input);
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
  std::span<const Entry> of(const MemoryUse& use) const {
    return {entries_.data() + first_[use.id], entries_.data() + first_[use.id + 1]};
  }

  std::vector<uint32_t> first_;  // of the entries of each storage
  std::vector<Entry> entries_;
  std::vector<uint32_t> fixed_before_;
};

// Whether the producer of something that `consumer` reads became one with it.
bool fuse_into(Device& device, std::vector<Node>& nodes, uint32_t consumer, const Fusion& fusion,
               const UseIndex& index, const Internal& internal, std::vector<bool>& gone) {
  if (nodes[consumer].barrier) return false;  // nothing is taken across it
  for (const MemoryUse& read : nodes[consumer].uses) {
    if (!read.reads || read.empty() || !internal[read.id]) continue;
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
    // All of its memory is that of the two.
    for (MemoryUse& use : both.uses) {
      const auto is_this = [&use](const MemoryUse& other) { return other.storage == use.storage; };
      const bool of_producer = std::any_of(from.uses.begin(), from.uses.end(), is_this);
      use.id = id_in(of_producer ? from : nodes[consumer], use.storage);
    }
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

uint64_t fuse(Device& device, std::vector<Node>& nodes, const Internal& internal,
              std::span<const Fusion> fusions) {
  uint64_t total = 0;
  for (int round = 0; round < kFusionRounds; ++round) {
    // Out of date as soon as two nodes are one, but on the safe side: writes stay where they were.
    const UseIndex index(nodes, internal.size());
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
  explicit LastUses(size_t storages) : storages_(storages) {}

  // Adds to `before` the nodes that have to run before one that uses these bytes, and notes the use.
  void visit(const MemoryUse& use, uint32_t node, std::vector<uint32_t>& before) {
    if (use.empty()) return;
    Segments& segments = storages_[use.id];
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

  std::vector<Segments> storages_;
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
  LiveBytes(const std::vector<Node>& nodes, const Internal& internal) : internal_(internal) {
    own_.resize(internal.size());
    for (const Node& node : nodes) {
      for (const MemoryUse& use : node.uses) {
        own_[use.id].bytes = std::max(own_[use.id].bytes, use.end);
        ++own_[use.id].uses_left;
      }
    }
  }
  // What placing the node would add.
  uint64_t cost(const Node& node) const {
    uint64_t bytes = 0;
    for (const MemoryUse& use : node.uses) {
      if (internal_[use.id] && !own_[use.id].live) bytes += own_[use.id].bytes;
    }
    return bytes;
  }
  void place(const Node& node) {
    for (const MemoryUse& use : node.uses) {
      if (!internal_[use.id]) continue;
      Own& own = own_[use.id];
      if (!std::exchange(own.live, true)) live_ += own.bytes;
      if (--own.uses_left == 0) ended_ += own.bytes;
    }
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
  const Internal& internal_;
  std::vector<Own> own_;
  uint64_t live_ = 0, ended_ = 0, peak_ = 0;
};

// Places the nodes from `first` up to `last`, of which none is fixed, in waves whose nodes are independent.
class WaveOrder {
 public:
  // `uses` are those of the nodes before `first`.
  WaveOrder(const std::vector<Node>& nodes, uint32_t first, uint32_t last, LiveBytes& live, LastUses& uses,
            uint64_t most_bytes, uint32_t depth)
      : nodes_(nodes),
        first_(first),
        last_(last),
        live_(live),
        most_bytes_(most_bytes),
        depth_(depth),
        waits_for_(last - first),
        first_after_(last - first + 1) {
    std::vector<std::pair<uint32_t, uint32_t>> pairs;
    std::vector<uint32_t> before;
    for (uint32_t i = first; i < last; ++i) {
      visit_node(uses, nodes[i], i, before);
      // What is before `first` has been placed.
      before.erase(before.begin(), std::lower_bound(before.begin(), before.end(), first));
      waits_for_[i - first] = static_cast<uint32_t>(before.size());
      for (uint32_t each : before) {
        pairs.emplace_back(each - first, i);
        ++first_after_[each - first];
      }
      if (before.empty()) ready_.push(i);
    }
    uint32_t total = 0;
    for (uint32_t& count : first_after_) total += std::exchange(count, total);
    after_.resize(total);
    std::vector<uint32_t> next(first_after_);
    for (const auto& [from, to] : pairs) after_[next[from]++] = to;
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
        for (uint32_t i = first_after_[node - first_]; i < first_after_[node - first_ + 1]; ++i) {
          if (--waits_for_[after_[i] - first_] == 0) ready_.push(after_[i]);
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
  // The nodes that wait for each: those of node i begin at first_after_[i].
  std::vector<uint32_t> first_after_, after_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ready_;
};

uint64_t count(const std::vector<bool>& flags) {
  return static_cast<uint64_t>(std::count(flags.begin(), flags.end(), true));
}

uint64_t recorded_peak(const std::vector<Node>& nodes, const Internal& internal,
                       const std::vector<bool>& barrier) {
  LiveBytes live(nodes, internal);
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (barrier[i]) live.end_wave();
    live.place(nodes[i]);
  }
  return live.peak();
}

}  // namespace

std::vector<std::pair<uint32_t, uint32_t>> dependencies(const std::vector<Node>& nodes, size_t storages) {
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  LastUses uses(storages);
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

void reorder(std::vector<Node>& nodes, const Internal& internal, const PassOptions& options) {
  const std::vector<bool> barrier = barriers(nodes);
  uint64_t most_bytes = options.max_live_bytes;
  if (most_bytes == 0) most_bytes = std::max(kLeastLiveBytes, 2 * recorded_peak(nodes, internal, barrier));
  LiveBytes live(nodes, internal);
  LastUses uses(internal.size());
  std::vector<uint32_t> order, before;
  order.reserve(nodes.size());
  for (uint32_t first = 0; first < nodes.size();) {
    uint32_t last = first;
    while (last < nodes.size() && !nodes[last].fixed()) ++last;
    if (last > first) {
      WaveOrder(nodes, first, last, live, uses, most_bytes, options.depth).append_to(order);
    } else {
      visit_node(uses, nodes[last], last, before);
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
  uint32_t id;
  uint64_t bytes;
  uint32_t first, last;  // waves
};

}  // namespace

MemoryPlan plan_memory(const std::vector<Node>& nodes, const Internal& internal) {
  const std::vector<bool> barrier = barriers(nodes);
  constexpr uint32_t kNone = ~uint32_t{0};
  std::vector<Lifetime> lifetimes;  // in order of the first use
  std::vector<uint32_t> lifetime_of(internal.size(), kNone);
  uint32_t wave = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    wave += barrier[i];
    for (const MemoryUse& use : nodes[i].uses) {
      if (!internal[use.id]) continue;
      if (lifetime_of[use.id] == kNone) {
        lifetime_of[use.id] = static_cast<uint32_t>(lifetimes.size());
        lifetimes.push_back({use.id, 0, wave, wave});
      }
      Lifetime& lifetime = lifetimes[lifetime_of[use.id]];
      lifetime.bytes = std::max(lifetime.bytes, use.end);
      lifetime.last = wave;
    }
  }
  std::vector<uint32_t> ending(lifetimes.size());  // in order of the last use
  std::iota(ending.begin(), ending.end(), 0);
  std::stable_sort(ending.begin(), ending.end(),
                   [&](uint32_t a, uint32_t b) { return lifetimes[a].last < lifetimes[b].last; });

  MemoryPlan plan;
  plan.buffers = lifetimes.size();
  plan.offsets.reserve(lifetimes.size());
  Layout layout;
  size_t freed = 0;
  for (const Lifetime& lifetime : lifetimes) {
    for (; lifetimes[ending[freed]].last < lifetime.first; ++freed) {
      const uint32_t ended = ending[freed];
      layout.give_back(plan.offsets[ended].offset, std::max(aligned(lifetimes[ended].bytes), kAlignment));
    }
    const uint64_t bytes = std::max(aligned(lifetime.bytes), kAlignment);
    plan.unshared += bytes;
    plan.offsets.push_back({lifetime.id, layout.take(bytes)});
  }
  plan.peak = layout.end();
  return plan;
}

}  // namespace metalloid
