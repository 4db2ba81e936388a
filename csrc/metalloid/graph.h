// Dispatches recorded once and replayed any number of times.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "metalloid/command_encoder.h"
#include "metalloid/node.h"
#include "metalloid/passes.h"
#include "metalloid/program.h"
#include "metalloid/submission.h"

namespace metalloid {

// Records like a CommandEncoder, until finish(). Belongs to one thread at a time.
class Graph final : public Encoder {
 public:
  explicit Graph(Device& device, std::string label = {}) : Encoder(device), label_(std::move(label)) {}

  const std::string& label() const { return label_; }

  void check_encoding(const char* operation) const override;
  bool encoding() const override { return state_ == State::recording; }
  Buffer output(const Shape& shape, DType dtype, const char* operation) override {
    return device_.placeholder(shape, dtype, operation);
  }
  void dispatch(const Operation& operation, const Pipeline& pipeline,
                std::initializer_list<Argument> arguments, Extent threadgroups, Extent threads) override;
  void dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                const Extent& threadgroup, const Declared& declared = {}) override;
  void barrier() override;
  void push_group(std::string_view name) override;
  void pop_group() override;

  void finish();
  // Forgets what was recorded; the graph cannot be used any more.
  void discard();

  // Runs the passes over what was recorded, and again whenever a change asks for it.
  void optimize(const PassOptions& options);
  bool optimized() const { return options_.has_value(); }

  // Gives a buffer, or a view of one, a name by which rebind() finds it. Arguments that lie inside it go
  // with it; those that reach beyond it stay.
  void name(std::string_view name, const Buffer& buffer);
  std::vector<std::pair<std::string, Buffer>> names() const;
  // From now on the nodes use `buffer` in the place of the one that has the name.
  void rebind(std::string_view name, const Buffer& buffer);
  // Changes inline bytes of a node of somebody's own kernel, found by its label or its place in the
  // recording.
  const Node& find(std::string_view label) const;
  const Node& find(int64_t place) const;
  // `bytes` go `offset` bytes into the inline value for [[buffer(index)]].
  void update(const Node& node, uint8_t index, uint64_t offset, std::span<const std::byte> bytes);

  // Encodes the nodes from `first` up to `last`.
  void encode(CommandEncoder& encoder, uint32_t first, uint32_t last);
  // Commits them to the queue, or the device's own: the first `early` of them at once, so that the device has
  // something to do while the others are encoded. What it returns stands for all of them.
  std::shared_ptr<Submission> submit(uint32_t first, uint32_t last, uint32_t early, Queue* queue);
  // A graph of its own with the same nodes. It shares the memory that is not the graph's alone.
  std::unique_ptr<Graph> clone();

  // As they run.
  // What `look` makes of the nodes, which it must not keep.
  template <class Look>
  auto inspect(const Look& look) {
    Turn turn(*this);
    return look(current_nodes());
  }
  size_t size() {
    return inspect([](const std::vector<Node>& nodes) { return nodes.size(); });
  }
  std::shared_ptr<const Program> program();
  std::vector<std::pair<uint32_t, uint32_t>> edges();
  MemoryPlan memory();
  PassCounts counts();
  size_t recorded_count() const { return recorded_.size(); }

 private:
  enum class State : uint8_t { recording, finished, discarded };
  // Taken for the length of a call; see CommandEncoder.
  class Turn {
   public:
    explicit Turn(Graph& graph);
    ~Turn() { busy_.store(false, std::memory_order_release); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    std::atomic<bool>& busy_;
  };

  // An argument or a use of a node.
  struct Site {
    uint32_t node;
    uint32_t place;
    auto operator<=>(const Site&) const = default;
  };
  struct Named {
    explicit Named(Buffer from) : buffer(std::move(from)) {}

    Buffer buffer;
    // Where the nodes use it, as recorded and as they run.
    std::vector<Site> recorded, running;
    std::vector<Site> recorded_uses, running_uses;
    std::vector<uint32_t> fused;
    bool known = false;  // as recorded
    // A fused node has the same bytes from elsewhere as well.
    bool mixed = false;
  };

  void record(Node&& node);
  const std::vector<Node>& current_nodes();
  uint32_t id_of(Storage* storage);
  void encode_part(CommandEncoder& encoder, uint32_t first, uint32_t last);
  void check_finished(const char* operation) const;
  // Brings the nodes and the program up to date.
  void prepare();
  void find_internal();
  void renew_internal(bool all);
  void find_sites();
  void find_recorded_sites();
  void find_running_sites(Named& named);
  void check_overlaps();
  bool keeps_its_order(const Named& named, const Buffer& to) const;
  void move(std::vector<Node>& nodes, const std::vector<Site>& arguments, const std::vector<Site>& uses,
            const Buffer& from, const Buffer& to);
  Program& changeable();
  // Among the buffers and inline bytes of its step.
  static uint32_t place_in_step(const Node& node, uint32_t argument);
  std::vector<Node>& running() { return options_ ? optimized_ : recorded_; }
  const std::vector<Node>& running() const { return options_ ? optimized_ : recorded_; }

  const std::string label_;
  State state_ = State::recording;
  std::atomic<bool> busy_{false};
  bool barrier_ = false;  // before the next node
  std::vector<std::string> groups_;
  std::string group_;

  std::vector<Node> recorded_;
  std::vector<Node> optimized_;
  std::optional<PassOptions> options_;
  bool passes_done_ = false;
  bool overlaps_unknown_ = false;
  PassCounts counts_;
  MemoryPlan plan_;
  // The storages that the nodes use, or have used, and their numbers.
  std::unordered_map<const Storage*, uint32_t> ids_;
  // How many there are: a storage that is gone may leave its address, but not its number, to another.
  uint32_t id_count_ = 0;
  Internal internal_;
  std::optional<Buffer> memory_;  // that they share
  bool internal_known_ = false;

  std::map<std::string, Named, std::less<>> names_;
  std::unordered_map<std::string, uint32_t> labels_;
  static constexpr uint32_t kGone = ~uint32_t{0};
  std::vector<uint32_t> running_of_;  // by place in the recording
  // What the nodes that run do with each storage.
  std::vector<std::vector<Site>> uses_;
  std::shared_ptr<Program> program_;  // null: to be made
  std::shared_ptr<Submission> last_run_;
};

}  // namespace metalloid
