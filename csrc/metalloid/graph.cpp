#include "metalloid/graph.h"

#include <algorithm>
#include <utility>

#include "ops/fusions.h"

namespace metalloid {

namespace {

// What any operation reads at once.
constexpr uint64_t kVectorBytes = 16;

bool inside(const MemoryUse& use, const Buffer& buffer) {
  return use.storage == buffer.storage() && use.begin >= buffer.offset() &&
         use.end <= buffer.offset() + buffer.nbytes();
}

Buffer moved(const Buffer& view, const Buffer& from, const Buffer& to) {
  return Buffer(StorageRef(to.storage()), to.offset() + (view.offset() - from.offset()), view.shape(),
                view.dtype());
}

MemoryUse moved(const MemoryUse& use, const Buffer& from, const Buffer& to) {
  const uint64_t begin = to.offset() + (use.begin - from.offset());
  return {to.storage(), begin, begin + (use.end - use.begin), use.reads, use.writes, use.id};
}

// Puts other storages, by their numbers, in the place of some; null: none.
void replace(std::vector<Node>& nodes, const std::vector<StorageRef>& by) {
  for (Node& node : nodes) {
    for (NodeArgument& argument : node.arguments) {
      if (!argument.buffer) continue;
      for (const MemoryUse& use : node.uses) {
        if (use.storage != argument.buffer->storage() || !by[use.id]) continue;
        argument.buffer =
            Buffer(by[use.id], argument.buffer->offset(), argument.buffer->shape(), argument.buffer->dtype());
        break;
      }
    }
    for (StorageRef& storage : node.declared) {
      for (const MemoryUse& use : node.uses) {
        if (use.storage != storage.get() || !by[use.id]) continue;
        storage = by[use.id];
        break;
      }
    }
    for (MemoryUse& use : node.uses) {
      if (by[use.id]) use.storage = by[use.id].get();
    }
  }
}

}  // namespace

Graph::Turn::Turn(Graph& graph) : busy_(graph.busy_) {
  if (busy_.exchange(true, std::memory_order_acquire)) {
    throw Error("Graph: used by two threads at once, needs one thread at a time; clone() makes another");
  }
}

// Recording -----------------------------------------------------------------------------------------

void Graph::check_encoding(const char* operation) const {
  if (state_ == State::recording) return;
  throw Error(text(operation, ": the graph is ", state_ == State::finished ? "finished" : "discarded",
                   ", needs one that still records; Device.record() makes one"));
}

void Graph::check_finished(const char* operation) const {
  if (state_ == State::finished) return;
  throw Error(text(operation, ": the graph ", state_ == State::recording ? "still records" : "was discarded",
                   ", needs one whose recording has ended"));
}

void Graph::record(Node&& node) {
  if (recorded_.size() == UINT32_MAX) throw Error("Graph: it has 2^32 dispatches, needs fewer");
  node.origins = {static_cast<uint32_t>(recorded_.size())};
  for (MemoryUse& use : node.uses) use.id = id_of(use.storage);
  if (!node.label.empty() && !labels_.emplace(node.label, node.origins.front()).second) {
    throw ValidationError(text("dispatch of ", node.pipeline->name, ": label \"", node.label,
                               "\" names another node of the graph, needs one of its own"));
  }
  node.barrier = std::exchange(barrier_, false);
  node.group = group_;
  recorded_.push_back(std::move(node));
}

uint32_t Graph::id_of(Storage* storage) {
  auto [found, added] = ids_.try_emplace(storage, id_count_);
  id_count_ += added;
  return found->second;
}

void Graph::dispatch(const Operation& operation, const Pipeline& pipeline,
                     std::initializer_list<Argument> arguments, Extent threadgroups, Extent threads) {
  Turn turn(*this);
  check_encoding(operation.name);
  record(make_node(operation, pipeline, arguments, threadgroups, threads));
}

void Graph::dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                     const Extent& threadgroup, const Declared& declared) {
  Turn turn(*this);
  if (state_ != State::recording) check_encoding(("dispatch of " + kernel.name()).c_str());
  check_dispatch(kernel, values, grid, threadgroup, declared);
  if (grid.size.x == 0 || grid.size.y == 0 || grid.size.z == 0) return;
  record(make_node(kernel, values, grid, threadgroup, declared));
}

void Graph::barrier() {
  Turn turn(*this);
  check_encoding("Graph.barrier");
  barrier_ = !recorded_.empty();
}

void Graph::push_group(std::string_view name) {
  Turn turn(*this);
  check_encoding("Graph.group");
  groups_.push_back(group_);
  group_ += (group_.empty() ? "" : "/") + std::string(name);
}

void Graph::pop_group() {
  Turn turn(*this);
  check_encoding("Graph.group");
  if (groups_.empty()) throw Error("Graph.group: no group is open");
  group_ = std::move(groups_.back());
  groups_.pop_back();
}

void Graph::finish() {
  Turn turn(*this);
  check_encoding("Graph.finish");
  state_ = State::finished;
}

void Graph::discard() {
  Turn turn(*this);
  state_ = State::discarded;
  recorded_.clear();
  optimized_.clear();
  names_.clear();
  labels_.clear();
  program_.reset();
}

// Passes --------------------------------------------------------------------------------------------

void Graph::optimize(const PassOptions& options) {
  Turn turn(*this);
  check_finished("Graph.optimize");
  find_internal();
  options_ = options;
  passes_done_ = false;
  program_.reset();
  prepare();
}

// Nobody but the nodes refers to the memory, and they do not read what they did not write before: a constant
// that the caller made and forgot, or a state that lives from one run to the next, is not the graph's to use.
void Graph::find_internal() {
  if (std::exchange(internal_known_, true)) return;
  const size_t count = id_count_;
  internal_.assign(count, false);
  struct References {
    const Storage* storage = nullptr;
    uint32_t count = 0;
  };
  std::vector<References> ours(count);
  const auto refer = [&](const Storage* storage) {
    References& references = ours[ids_.at(storage)];
    references.storage = storage;
    ++references.count;
  };
  for (const Node& node : recorded_) {
    for (const NodeArgument& argument : node.arguments) {
      if (argument.buffer) refer(argument.buffer->storage());
    }
    for (const StorageRef& storage : node.declared) refer(storage.get());
  }
  // What runs or has run refers to it as well, once.
  if (program_) {
    for (const StorageRef& storage : program_->storages()) {
      if (auto found = ids_.find(storage.get()); found != ids_.end()) ++ours[found->second].count;
    }
  }
  for (size_t id = 0; id < count; ++id) {
    const auto& [storage, references] = ours[id];
    if (!storage || storage->release_owner) continue;
    internal_[id] = storage->references.load(std::memory_order_acquire) == references;
  }
  std::vector<RangeSet> written(count);
  for (const Node& node : recorded_) {
    for (const MemoryUse& use : node.uses) {
      if (!use.reads || use.empty() || !internal_[use.id]) continue;
      if (!written[use.id].covers(use.begin, use.end)) internal_[use.id] = false;
    }
    for (const MemoryUse& use : node.uses) {
      if (use.overwrites() && !use.empty()) written[use.id].add(use.begin, use.end);
    }
  }
}

// Gives the graph's own buffers other places, of which none has memory yet.
void Graph::renew_internal(bool all) {
  std::vector<StorageRef> places(id_count_);
  std::unordered_map<const Storage*, uint32_t> ids;
  for (const auto& [storage, id] : ids_) {
    if (internal_[id] && (all || storage->backed)) {
      places[id] = device_.placeholder(storage->capacity);
      ids.emplace(places[id].get(), id);
    } else {
      ids.emplace(storage, id);
    }
  }
  replace(recorded_, places);
  replace(optimized_, places);
  ids_ = std::move(ids);
}

void Graph::prepare() {
  if (program_) return;
  Places places;
  memory_.reset();
  if (options_) {
    find_internal();
    if (!passes_done_) {
      optimized_ = recorded_;
      counts_ = {};
      if (options_->remove_dead) counts_.removed = remove_dead(optimized_, internal_);
      if (options_->fuse) counts_.fused = fuse(device_, optimized_, internal_, ops::fusions());
      if (options_->reorder) reorder(optimized_, internal_, *options_);
      passes_done_ = true;
    }
    plan_ = options_->plan_memory ? plan_memory(optimized_, internal_) : MemoryPlan{};
    if (plan_.peak > 0 && plan_.peak <= device_.max_buffer_length()) {
      renew_internal(false);
      memory_ = device_.empty({plan_.peak}, DType::uint8, "Graph");
      places.resize(id_count_);
      for (const auto& [id, offset] : plan_.offsets) places[id] = {memory_->storage(), offset};
    } else {
      plan_ = {};
    }
  }
  program_ = std::make_shared<Program>(device_, running(), id_count_, places, memory_);
  find_sites();
}

// Names ---------------------------------------------------------------------------------------------

// Once for each name, and before anything is bound in its place: after that other nodes may use the same
// bytes without going along.
void Graph::find_recorded_sites() {
  std::unordered_map<const Storage*, std::vector<Named*>> wanted;
  for (auto& [name, named] : names_) {
    if (!std::exchange(named.known, true)) wanted[named.buffer.storage()].push_back(&named);
  }
  if (wanted.empty()) return;
  for (uint32_t i = 0; i < recorded_.size(); ++i) {
    const Node& node = recorded_[i];
    for (uint32_t k = 0; k < node.arguments.size(); ++k) {
      const std::optional<Buffer>& view = node.arguments[k].buffer;
      if (!view) continue;
      auto found = wanted.find(view->storage());
      if (found == wanted.end()) continue;
      for (Named* named : found->second) {
        if (inside(use_of(*view, Access::read), named->buffer)) {
          named->recorded.push_back({i, k});
          break;
        }
      }
    }
    // What a node is declared to touch goes along with the argument that it is given. Without one it stays.
    for (uint32_t k = 0; k < node.uses.size(); ++k) {
      auto found = wanted.find(node.uses[k].storage);
      if (found == wanted.end()) continue;
      for (Named* named : found->second) {
        const bool given = !named->recorded.empty() && named->recorded.back().node == i;
        if (given && inside(node.uses[k], named->buffer)) named->recorded_uses.push_back({i, k});
      }
    }
  }
}

// Where the nodes that run have what is named. Those that are as recorded have it in the same places; in a
// fused one it is found by its bytes, unless something else has them too.
void Graph::find_running_sites(Named& named) {
  named.running.clear();
  named.running_uses.clear();
  named.mixed = false;
  for (const auto& [from, to] :
       {std::pair{&named.recorded, &named.running}, std::pair{&named.recorded_uses, &named.running_uses}}) {
    for (const Site& site : *from) {
      const uint32_t node = running_of_[site.node];
      if (node == kGone) continue;
      if (running()[node].origins.size() == 1) {
        to->push_back({node, site.place});
      } else if (named.fused.empty() || named.fused.back() != node) {
        named.fused.push_back(node);
      }
    }
  }
  std::sort(named.fused.begin(), named.fused.end());
  named.fused.erase(std::unique(named.fused.begin(), named.fused.end()), named.fused.end());
  for (uint32_t i : named.fused) {
    const Node& node = running()[i];
    for (uint32_t origin : node.origins) {
      for (uint32_t k = 0; k < recorded_[origin].arguments.size(); ++k) {
        const std::optional<Buffer>& view = recorded_[origin].arguments[k].buffer;
        if (!view || overlap(*view, named.buffer) == Overlap::none) continue;
        const auto is_this = [&](const Site& site) { return site.node == origin && site.place == k; };
        named.mixed |= std::none_of(named.recorded.begin(), named.recorded.end(), is_this);
      }
    }
    for (uint32_t k = 0; k < node.arguments.size(); ++k) {
      const std::optional<Buffer>& view = node.arguments[k].buffer;
      if (view && inside(use_of(*view, Access::read), named.buffer)) named.running.push_back({i, k});
    }
    for (uint32_t k = 0; k < node.uses.size(); ++k) {
      if (inside(node.uses[k], named.buffer)) named.running_uses.push_back({i, k});
    }
  }
  named.fused.clear();
  std::sort(named.running_uses.begin(), named.running_uses.end());
}

void Graph::find_sites() {
  find_recorded_sites();
  running_of_.assign(recorded_.size(), kGone);
  for (uint32_t i = 0; i < running().size(); ++i) {
    for (uint32_t origin : running()[i].origins) running_of_[origin] = i;
  }
  uses_.assign(names_.empty() ? 0 : id_count_, {});
  if (names_.empty()) return;
  for (auto& [name, named] : names_) find_running_sites(named);
  for (uint32_t i = 0; i < running().size(); ++i) {
    for (uint32_t k = 0; k < running()[i].uses.size(); ++k) uses_[running()[i].uses[k].id].push_back({i, k});
  }
}

void Graph::name(std::string_view name, const Buffer& buffer) {
  Turn turn(*this);
  if (state_ == State::discarded) check_finished("Graph.name");
  if (name.empty()) throw ValidationError("Graph.name: name is empty, needs a name");
  if (&buffer.device() != &device_) {
    throw ValidationError(text("Graph.name: buffer is on device ", buffer.device().name(),
                               ", needs to be on the graph's device ", device_.name()));
  }
  for (const auto& [other, named] : names_) {
    if (other == name) throw ValidationError(text("Graph.name: \"", name, "\" is a name already"));
    const uint64_t begin = std::max(named.buffer.offset(), buffer.offset());
    const uint64_t end =
        std::min(named.buffer.offset() + named.buffer.nbytes(), buffer.offset() + buffer.nbytes());
    if (named.buffer.storage() == buffer.storage() && begin < end) {
      throw ValidationError(
          text("Graph.name: \"", name, "\" shares memory with \"", other, "\", needs memory of its own"));
    }
  }
  names_.emplace(name, Named(buffer));
  if (program_) find_sites();
}

std::vector<std::pair<std::string, Buffer>> Graph::names() const {
  std::vector<std::pair<std::string, Buffer>> all;
  for (const auto& [name, named] : names_) all.emplace_back(name, named.buffer);
  return all;
}

// Whether no node has to wait for another after the change that did not before.
bool Graph::keeps_its_order(const Named& named, const Buffer& to) const {
  auto found = ids_.find(to.storage());
  if (found == ids_.end()) return true;
  for (const Site& site : named.running_uses) {
    const MemoryUse& use = running()[site.node].uses[site.place];
    const MemoryUse then = moved(use, named.buffer, to);
    for (const Site& at : uses_[found->second]) {
      const MemoryUse& other = running()[at.node].uses[at.place];
      if (use.empty() || other.empty() || !(use.writes || other.writes)) continue;
      const bool now = other.begin < then.end && then.begin < other.end;
      const bool before = other.storage == use.storage && other.begin < use.end && use.begin < other.end;
      // What goes along overlaps afterwards what it has overlapped.
      if (now && !before && !std::binary_search(named.running_uses.begin(), named.running_uses.end(), at))
        return false;
    }
  }
  return true;
}

void Graph::move(std::vector<Node>& nodes, const std::vector<Site>& arguments, const std::vector<Site>& uses,
                 const Buffer& from, const Buffer& to) {
  const uint32_t id = id_of(to.storage());
  for (const Site& site : arguments) {
    std::optional<Buffer>& view = nodes[site.node].arguments[site.place].buffer;
    view = moved(*view, from, to);
  }
  for (const Site& site : uses) {
    Node& node = nodes[site.node];
    node.uses[site.place] = moved(node.uses[site.place], from, to);
    node.uses[site.place].id = id;
    if (node.declared.empty()) continue;
    std::vector<StorageRef> declared;
    for (const MemoryUse& use : node.uses) declared.emplace_back(use.storage);
    node.declared = std::move(declared);
  }
}

Program& Graph::changeable() {
  // What was committed holds it; what the device has finished does so until somebody looks.
  if (program_.use_count() > 1) device_.retire();
  if (program_.use_count() > 1) program_ = std::make_shared<Program>(std::as_const(*program_));
  // Whoever let go of it is done with it: giving back a reference waits for that, as asking for the count
  // does not.
  std::shared_ptr<Program>(program_).reset();
  return *program_;
}

void Graph::rebind(std::string_view name, const Buffer& to) {
  Turn turn(*this);
  check_finished("Graph.rebind");
  auto found = names_.find(name);
  if (found == names_.end()) {
    std::string known;
    for (const auto& [each, named] : names_) known += (known.empty() ? "" : ", ") + each;
    throw ValidationError(text("Graph.rebind: the graph has no buffer named \"", name,
                               "\", needs one of: ", known.empty() ? "none" : known));
  }
  prepare();
  Named& named = found->second;
  const Buffer from = named.buffer;
  const auto refuse = [&](const auto&... what) {
    throw ValidationError(text("Graph.rebind: the buffer for \"", name, "\" ", what...));
  };
  if (&to.device() != &device_) {
    refuse("is on device ", to.device().name(), ", needs to be on the graph's device ", device_.name());
  }
  if (to.dtype() != from.dtype()) refuse("is ", to.dtype(), ", needs ", from.dtype());
  if (!(to.shape() == from.shape())) refuse("has shape ", to.shape(), ", needs ", from.shape());
  if ((to.offset() - from.offset()) % kVectorBytes != 0) {
    refuse("has offset ", to.offset(), ", needs one that differs from ", from.offset(), " by a multiple of ",
           kVectorBytes);
  }
  for (const Site& site : named.recorded) {
    const Node& node = recorded_[site.node];
    const NodeArgument& argument = node.arguments[site.place];
    if (argument.access != Access::read && to.readonly()) {
      refuse("is read-only, needs memory that ", node.name(), " may write");
    }
    if (!node.kernel) continue;
    const MemoryUse bound = use_of(*argument.buffer, Access::read);
    const auto goes_along = [&](const MemoryUse& use) {
      return inside(use, from) && use.begin <= bound.begin && use.end >= bound.end;
    };
    if (std::none_of(node.uses.begin(), node.uses.end(), goes_along)) {
      refuse("goes to ", node.name(),
             ", which was declared to touch more than has the name, needs a name for "
             "all of that");
    }
    const uint64_t offset = moved(*argument.buffer, from, to).offset();
    for (const KernelArgument& wanted : node.kernel->arguments()) {
      if (wanted.kind != KernelArgument::Kind::buffer || wanted.index != argument.index) continue;
      if (offset % wanted.alignment != 0) {
        refuse("puts argument ", wanted.name, " of ", node.name(), " at offset ", offset,
               ", needs a multiple of ", wanted.alignment);
      }
    }
  }
  if (to.storage() == from.storage() && to.offset() == from.offset()) return;

  const bool quick = !named.mixed && keeps_its_order(named, to);
  // First, because both may run out of memory.
  to.storage()->memory();
  Program* const program = quick ? &changeable() : nullptr;
  move(recorded_, named.recorded, named.recorded_uses, from, to);
  // What is bound from outside is nobody's but the caller's.
  if (internal_known_) internal_.resize(id_count_);
  named.buffer = to;
  if (!quick) {
    // Other nodes depend on each other now, so everything is decided anew.
    overlaps_unknown_ = true;
    passes_done_ = false;
    program_.reset();
    return;
  }
  if (options_) move(optimized_, named.running, named.running_uses, from, to);
  for (const Site& site : named.running) {
    const Node& node = running()[site.node];
    const Buffer& view = *node.arguments[site.place].buffer;
    program->set_buffer(site.node, place_in_step(node, site.place), view.storage(), view.offset());
  }
  uses_.resize(id_count_);
  if (to.storage() == from.storage() || named.running_uses.empty()) return;
  std::vector<Site>& left = uses_[ids_.at(from.storage())];
  std::vector<Site>& joined = uses_[ids_.at(to.storage())];
  std::erase_if(left, [&](const Site& each) {
    return std::binary_search(named.running_uses.begin(), named.running_uses.end(), each);
  });
  joined.insert(joined.end(), named.running_uses.begin(), named.running_uses.end());
  program->replace_storage(to.storage(), left.empty() ? from.storage() : nullptr);
}

uint32_t Graph::place_in_step(const Node& node, uint32_t argument) {
  uint32_t place = 0;
  for (uint32_t i = 0; i < argument; ++i) {
    place += node.arguments[i].kind != Argument::Kind::threadgroup_memory;
  }
  return place;
}

const Node& Graph::find(std::string_view label) const {
  auto found = labels_.find(std::string(label));
  if (found == labels_.end()) {
    throw ValidationError(text("Graph.update: no node has the label \"", label,
                               "\", needs one that dispatch(label=) was given"));
  }
  return recorded_[found->second];
}

const Node& Graph::find(int64_t place) const {
  if (place < 0 || place >= static_cast<int64_t>(recorded_.size())) {
    throw std::out_of_range(
        text("Graph.update: node is ", place, ", needs 0 to ", recorded_.size(), " - 1 (as recorded)"));
  }
  return recorded_[static_cast<size_t>(place)];
}

void Graph::update(const Node& recorded, uint8_t index, uint64_t offset, std::span<const std::byte> bytes) {
  Turn turn(*this);
  check_finished("Graph.update");
  prepare();
  Program& program = changeable();  // first, because it may run out of memory
  Node& node = recorded_[recorded.origins.front()];
  const auto change = [&](Node& in) {
    for (uint32_t i = 0; i < in.arguments.size(); ++i) {
      NodeArgument& argument = in.arguments[i];
      if (argument.kind != Argument::Kind::bytes || argument.index != index) continue;
      if (offset + bytes.size() > argument.bytes.size()) break;
      std::copy(bytes.begin(), bytes.end(), argument.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
      return i;
    }
    throw ValidationError(text("Graph.update: argument ", +index, " of ", in.name(),
                               " is no inline value of ", bytes.size(), " bytes"));
  };
  const uint32_t argument = change(node);
  const uint32_t place = running_of_[node.origins.front()];
  if (place == kGone) return;  // nobody reads what it computes
  if (options_) {
    if (optimized_[place].origins.size() > 1) {
      passes_done_ = false;
      program_.reset();
      return;
    }
    change(optimized_[place]);
  }
  program.set_bytes(place, place_in_step(node, argument), node.arguments[argument].bytes);
}

// Operations write what they read in place or not at all. Not before it runs, because buffers that trade
// places are bound one after the other.
void Graph::check_overlaps() {
  if (!overlaps_unknown_) return;
  for (const Node& node : recorded_) {
    if (!node.operation) continue;
    for (const MemoryUse& written : node.uses) {
      if (!written.writes) continue;
      for (const MemoryUse& use : node.uses) {
        if (use.storage != written.storage || use.end <= written.begin || written.end <= use.begin) continue;
        const bool same = use.begin == written.begin && use.end == written.end;
        if (same && (node.operation->in_place || use.writes)) continue;
        throw ValidationError(
            text("Graph.encode: ", node.name(), " has an output that lies ", same ? "" : "partly ",
                 "over one of its inputs since rebind(), needs one that ",
                 node.operation->in_place ? "is an input or " : "", "shares no memory with any"));
      }
    }
  }
  overlaps_unknown_ = false;
}

// Running -------------------------------------------------------------------------------------------

void Graph::encode(CommandEncoder& encoder, uint32_t first, uint32_t last) {
  Turn turn(*this);
  encode_part(encoder, first, last);
}

std::shared_ptr<Submission> Graph::submit(uint32_t first, uint32_t last, uint32_t early, Queue* queue) {
  Turn turn(*this);
  check_finished("Graph.commit");
  Queue& on = queue ? *queue : device_.queue();
  if (&on.device() != &device_) {
    throw ValidationError(text("Graph.commit: queue is of device ", on.device().name(),
                               ", needs one of the graph's device ", device_.name()));
  }
  // Two runs share the graph's own memory, and nothing else orders two queues.
  if (last_run_ && &last_run_->queue() != &on) last_run_->wait_until_done();
  std::shared_ptr<Submission> before;
  if (early > 0 && first < last && early < last - first) {
    CommandEncoder encoder(device_, {label_, true, true, &on});
    encode_part(encoder, first, first + early);
    first += early;
    last_run_ = before = encoder.commit();
  }
  CommandEncoder encoder(device_, {label_, true, true, &on});
  encode_part(encoder, first, last);
  last_run_ = encoder.commit();
  if (before) last_run_->include(std::move(before));
  return last_run_;
}

void Graph::encode_part(CommandEncoder& encoder, uint32_t first, uint32_t last) {
  check_finished("Graph.encode");
  if (&encoder.device() != &device_) {
    throw ValidationError(text("Graph.encode: the encoder is of device ", encoder.device().name(),
                               ", needs one of the graph's device ", device_.name()));
  }
  prepare();
  check_overlaps();
  if (first > last || last > running().size()) {
    throw std::out_of_range(
        text("Graph.encode: nodes ", first, " to ", last, ", needs some of 0 to ", running().size()));
  }
  encoder.replay(program_, first, last);
}

const std::vector<Node>& Graph::current_nodes() {
  if (state_ == State::recording) return recorded_;
  check_finished("Graph.nodes");
  prepare();
  return running();
}

std::shared_ptr<const Program> Graph::program() {
  Turn turn(*this);
  check_finished("Graph");
  prepare();
  return program_;
}

std::vector<std::pair<uint32_t, uint32_t>> Graph::edges() {
  return inspect([this](const std::vector<Node>& nodes) { return dependencies(nodes, id_count_); });
}

MemoryPlan Graph::memory() {
  Turn turn(*this);
  check_finished("Graph.memory");
  prepare();
  return plan_;
}

PassCounts Graph::counts() {
  Turn turn(*this);
  check_finished("Graph");
  prepare();
  return counts_;
}

std::unique_ptr<Graph> Graph::clone() {
  Turn turn(*this);
  check_finished("Graph.clone");
  find_internal();
  auto made = std::make_unique<Graph>(device_, label_);
  made->state_ = state_;
  made->recorded_ = recorded_;
  made->options_ = options_;
  for (const auto& [name, named] : names_) made->names_.emplace(name, named);
  made->labels_ = labels_;
  made->ids_ = ids_;
  made->id_count_ = id_count_;
  made->internal_ = internal_;
  made->internal_known_ = true;
  made->renew_internal(true);
  return made;
}

}  // namespace metalloid
