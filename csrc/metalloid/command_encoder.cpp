#include "metalloid/command_encoder.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "metalloid/forked.h"
#include "metalloid/program.h"

namespace metalloid {

namespace {

std::atomic<uint64_t> encoder_ids{0};

// Bytes read and written.
std::pair<uint64_t, uint64_t> bytes_of(std::span<const MemoryUse> uses) {
  uint64_t reads = 0, writes = 0;
  for (const MemoryUse& use : uses) {
    if (use.reads) reads += use.end - use.begin;
    if (use.writes) writes += use.end - use.begin;
  }
  return {reads, writes};
}

}  // namespace

// Taken for the length of a call. Not a lock: an encoder shared by two threads is a mistake, and waiting
// would hide it.
class CommandEncoder::Turn {
 public:
  explicit Turn(CommandEncoder& encoder) : busy_(encoder.busy_) {
    if (busy_.exchange(true, std::memory_order_acquire)) {
      throw Error("CommandEncoder: used by two threads at once, needs one encoder for each thread");
    }
  }
  ~Turn() { busy_.store(false, std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::atomic<bool>& busy_;
};

std::string_view name_of(CommandEncoder::Status status) {
  constexpr std::string_view names[] = {"encoding", "committed", "completed", "error", "discarded"};
  return names[static_cast<size_t>(status)];
}

CommandEncoder::CommandEncoder(Device& device, CommandOptions options)
    : Encoder(device),
      options_(std::move(options)),
      queue_(options_.queue ? *options_.queue : device.queue()),
      tracks_(options_.concurrent && options_.hazards),
      id_(encoder_ids.fetch_add(1, std::memory_order_relaxed) + 1) {
  if (&queue_.device() != &device) {
    throw ValidationError(text("Device.commands: queue is of device ", queue_.device().name(),
                               ", needs one of ", device.name()));
  }
}

CommandEncoder::~CommandEncoder() {
  if (status_.load(std::memory_order_relaxed) == Status::encoding) drop();
}

CommandEncoder::Status CommandEncoder::status() const {
  Status status = status_.load(std::memory_order_acquire);
  if (status != Status::committed) return status;
  switch (submission_->status()) {
    case Submission::Status::completed:
      return Status::completed;
    case Submission::Status::error:
      return Status::error;
    case Submission::Status::committed:
      break;
  }
  return status;
}

std::optional<double> CommandEncoder::gpu_time() const {
  if (status_.load(std::memory_order_acquire) != Status::committed) return std::nullopt;
  return submission_->gpu_time();
}

void CommandEncoder::refuse_encoding(const char* operation) const {
  Status status = status_.load(std::memory_order_acquire);
  throw Error(text(operation, ": the encoder is ",
                   name_of(status == Status::committed ? this->status() : status),
                   ", needs one that is still encoding; Device.commands() makes one"));
}

void CommandEncoder::open_command_buffer() {
  held_.reserve(16);
  command_buffer_ = queue_.begin_command_buffer(!label().empty() || !groups_.empty());
  if (!label().empty()) command_buffer_->setLabel(ns_string(label()).get());
  if (trace::on()) [[unlikely]]
    trace_ = trace::Recording::begin(queue_, label());
}

void CommandEncoder::open() {
  AutoreleaseScope scope;
  if (!command_buffer_) {
    open_command_buffer();
  } else {
    // An encoder begins with nothing bound and after all others.
    forget_bindings();
    memory_set_ = 0;
    // The barriers under a trace are those that there are without.
    if (!trace_ || trace_->take_split()) tracker_.barrier();
  }
  const MTL::DispatchType type = concurrent() ? MTL::DispatchTypeConcurrent : MTL::DispatchTypeSerial;
  encoder_ =
      trace_ ? trace_->encoder(command_buffer_.get(), type) : command_buffer_->computeCommandEncoder(type);
  if (!encoder_) throw DeviceError("Device.commands: Metal gave no compute encoder");
  encoder_->retain();
  encoder_->waitForFence(queue_.fence());
  placed_ = true;
  if (!label().empty()) encoder_->setLabel(ns_string(label()).get());
  for (const std::string& name : groups_) encoder_->pushDebugGroup(ns_string(name).get());
}

void CommandEncoder::hold_first(Storage* storage) {
  held_.emplace_back(storage);
  storage->last_encoder.store(id_, std::memory_order_relaxed);
}

void CommandEncoder::hold(const Kernel& kernel) {
  if (kernel.last_encoder.load(std::memory_order_relaxed) == id_) return;
  kept_.push_back(kernel.shared_from_this());
  kernel.last_encoder.store(id_, std::memory_order_relaxed);
}

void CommandEncoder::set_pipeline(const Pipeline& pipeline) {
  if (pipeline_ == &pipeline) return;
  encoder_->setComputePipelineState(pipeline.state.get());
  pipeline_ = &pipeline;
}

void CommandEncoder::change_buffer(uint8_t index, MTL::Buffer* metal, uint64_t offset, uint64_t length) {
  Bound& bound = bound_[index];
  if (device_.checked()) {
    // How far the view goes, which Metal has no other word for.
    metal->addDebugMarker(MTLSTR("view"), NS::Range(offset, length));
    encoder_->setBuffer(metal, offset, index);
  } else if (bound.buffer != metal) {
    encoder_->setBuffer(metal, offset, index);
  } else if (bound.offset != offset) {
    encoder_->setBufferOffset(offset, index);
  }
  bound = {metal, offset, length};
}

void CommandEncoder::set_bytes(uint8_t index, const void* bytes, uint64_t length) {
  encoder_->setBytes(bytes, length, index);
  bound_[index] = {};
}

void CommandEncoder::set_memory(uint8_t index, uint64_t length) {
  if (memory_[index] == length) return;
  encoder_->setThreadgroupMemoryLength(length, index);
  memory_[index] = length;
  memory_set_ |= uint32_t{1} << index;
}

void CommandEncoder::unset_memory(uint32_t indices) {
  for (uint32_t rest = indices; rest; rest &= rest - 1) {
    const int index = std::countr_zero(rest);
    encoder_->setThreadgroupMemoryLength(0, static_cast<NS::UInteger>(index));
    memory_[static_cast<size_t>(index)] = 0;
  }
  memory_set_ &= ~indices;
}

void CommandEncoder::order(std::span<const MemoryUse> uses) {
  if (tracker_.note(uses)) put_barrier();
}

void CommandEncoder::put_barrier() {
  encoder_->memoryBarrier(MTL::BarrierScopeBuffers);
  ++barriers_;
  if (trace_) [[unlikely]]
    trace_->barrier();
}

void CommandEncoder::traced(const trace::Encoded& dispatch, std::string_view group) {
  AutoreleaseScope scope;
  trace_->dispatch(dispatch, groups_, group);
  const std::string_view name = dispatch.label.empty() ? dispatch.name : dispatch.label;
  encoder_->setLabel(ns_string(std::string(name)).get());
  end_encoder();
}

void CommandEncoder::dispatch(const Operation& operation, const Pipeline& pipeline,
                              std::initializer_list<Argument> arguments, Extent threadgroups,
                              Extent threads) {
  Turn turn(*this);
  check_encoding(operation.name);
  begin();
  MemoryUse uses[kBuffers];
  size_t count = 0;
  uint32_t memory = 0;
  set_pipeline(pipeline);
  for (const Argument& argument : arguments) {
    switch (argument.kind) {
      case Argument::Kind::buffer: {
        const auto& buffer = *static_cast<const Buffer*>(argument.object);
        hold(buffer.storage());  // first, because it may run out of memory
        set_buffer(argument.index, buffer);
        uses[count++] = use_of(buffer, argument.access);
        break;
      }
      case Argument::Kind::bytes:
        set_bytes(argument.index, argument.object, argument.length);
        break;
      case Argument::Kind::threadgroup_memory:
        set_memory(argument.index, argument.length);
        memory |= uint32_t{1} << argument.index;
        break;
    }
  }
  clear_memory(memory);
  if (tracks_) order({uses, count});
  encoder_->dispatchThreadgroups(MTL::Size(threadgroups.x, threadgroups.y, threadgroups.z),
                                 MTL::Size(threads.x, threads.y, threads.z));
  ++dispatches_;
  if (trace_) [[unlikely]] {
    const auto [reads, writes] = bytes_of({uses, count});
    traced({operation.name, pipeline.name, {}, threadgroups, threads, false, reads, writes});
  }
}

void CommandEncoder::dispatch(const Kernel& kernel, std::span<const Value> values, const Grid& grid,
                              const Extent& threadgroup, const Declared& declared) {
  Turn turn(*this);
  refuse_forked("dispatch");
  if (status_.load(std::memory_order_relaxed) != Status::encoding) {
    refuse_encoding(("dispatch of " + kernel.name()).c_str());
  }
  check_dispatch(kernel, values, grid, threadgroup, declared);
  const auto& [x, y, z] = grid.size;
  if (x == 0 || y == 0 || z == 0) {
    ++dispatches_;
    return;
  }
  begin();
  const std::vector<KernelArgument>& arguments = kernel.arguments();
  // First, because it may run out of memory.
  hold(kernel);
  for (const Value& value : values) {
    if (value.kind == Value::Kind::buffer || value.kind == Value::Kind::reinterpreted) {
      hold(static_cast<const Buffer*>(value.object)->storage());
    }
  }
  for (const auto& list : {declared.reads, declared.writes}) {
    if (!list) continue;
    for (const Buffer* buffer : *list) hold(buffer->storage());
  }
  if (tracks_) order(uses_of(kernel, values, declared, uses_));
  set_pipeline(kernel.pipeline());
  uint32_t memory = 0;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (!arguments[i].active) continue;
    const Value& value = values[i];
    const auto index = static_cast<uint8_t>(arguments[i].index);
    switch (value.kind) {
      case Value::Kind::buffer:
      case Value::Kind::reinterpreted:
        set_buffer(index, *static_cast<const Buffer*>(value.object));
        break;
      case Value::Kind::bytes:
        set_bytes(index, value.object, value.length);
        break;
      case Value::Kind::memory:
        set_memory(index, padded_memory(value.length));
        memory |= uint32_t{1} << index;
        break;
      case Value::Kind::none:
        break;
    }
  }
  clear_memory(memory);
  // Faults name their debug groups.
  const bool named = !declared.label.empty();
  if (named) encoder_->pushDebugGroup(ns_string(std::string(declared.label)).get());
  const MTL::Size size(x, y, z), threads(threadgroup.x, threadgroup.y, threadgroup.z);
  if (grid.unit == Grid::Unit::threads) {
    encoder_->dispatchThreads(size, threads);
  } else {
    encoder_->dispatchThreadgroups(size, threads);
  }
  if (named) encoder_->popDebugGroup();
  ++dispatches_;
  if (trace_) [[unlikely]] {
    const auto [reads, writes] = bytes_of(uses_of(kernel, values, declared, uses_));
    traced({kernel.name(), kernel.name(), declared.label, grid.size, threadgroup,
            grid.unit == Grid::Unit::threads, reads, writes});
  }
}

void CommandEncoder::barrier() {
  Turn turn(*this);
  check_encoding("CommandEncoder.barrier");
  if (encoder_) encoder_->memoryBarrier(MTL::BarrierScopeBuffers);
  tracker_.barrier();
  ++barriers_;
  if (trace_) [[unlikely]]
    trace_->barrier();
}

void CommandEncoder::forget_bindings() {
  pipeline_ = nullptr;
  bound_.fill({});
  memory_.fill(0);
}

void CommandEncoder::replay(const std::shared_ptr<const Program>& program, uint32_t first, uint32_t last) {
  Turn turn(*this);
  check_encoding("Graph.encode");
  if (first == last) return;
  AutoreleaseScope scope;
  begin();
  kept_.push_back(program);
  used_.emplace_back(program->storages());
  if (tracks_ && !tracker_.idle()) {
    put_barrier();
    tracker_.barrier();
  }
  const std::vector<const MTL::Resource*>& resources = program->resources();
  bool told = false;
  for (uint32_t place = first; place < last;) {
    uint32_t begin = 0, count = 0;
    // What a command buffer of Metal's holds cannot be timed one by one.
    const MTL::IndirectCommandBuffer* commands = trace_ ? nullptr : program->commands(place, begin, count);
    if (!commands) {
      // What stands before the first is not the program's to order.
      replay_step(*program, place, place > first && program->steps()[place].barrier);
      ++place;
      continue;
    }
    if (!std::exchange(told, true)) {
      clear_memory(0);
      device_.residency().apply();
      if (!resources.empty()) {
        encoder_->useResources(resources.data(), resources.size(),
                               MTL::ResourceUsageRead | MTL::ResourceUsageWrite);
      }
    }
    // A barrier inside a command buffer of Metal's does not reach into the one before.
    if (place > first) encoder_->memoryBarrier(MTL::BarrierScopeBuffers);
    count = std::min(count, last - place);
    encoder_->executeCommandsInBuffer(commands, NS::Range(begin, count));
    dispatches_ += count;
    barriers_ += program->barriers(place + (place == first), place + count);
    place += count;
  }
  if (told) forget_bindings();
  if (tracks_) tracker_.note_everything();
}

void CommandEncoder::replay_step(const Program& program, uint32_t place, bool barrier) {
  const Program::Step& step = program.steps()[place];
  begin();
  if (barrier) put_barrier();
  set_pipeline(*step.pipeline);
  for (uint32_t i = step.first_binding; i < step.first_binding + step.bindings; ++i) {
    const Program::Binding& binding = program.bindings()[i];
    if (binding.storage) {
      set_buffer(binding.index, *binding.storage, binding.offset, binding.length);
    } else {
      set_bytes(binding.index, program.constants() + binding.offset, binding.length);
    }
  }
  uint32_t memory = 0;
  for (uint32_t i = step.first_memory; i < step.first_memory + step.memories; ++i) {
    set_memory(program.memories()[i].index, program.memories()[i].length);
    memory |= uint32_t{1} << program.memories()[i].index;
  }
  clear_memory(memory);
  const bool named = device_.checked();
  if (named) {
    const std::string& group = step.group;
    encoder_->pushDebugGroup(ns_string(group.empty() ? step.name : group + "/" + step.name).get());
  }
  const MTL::Size grid(step.grid.x, step.grid.y, step.grid.z);
  const MTL::Size threads(step.threads.x, step.threads.y, step.threads.z);
  if (step.by_threads) {
    encoder_->dispatchThreads(grid, threads);
  } else {
    encoder_->dispatchThreadgroups(grid, threads);
  }
  if (named) encoder_->popDebugGroup();
  ++dispatches_;
  if (trace_) [[unlikely]] {
    traced({step.name,
            step.pipeline->name,
            {},
            step.grid,
            step.threads,
            step.by_threads,
            step.reads,
            step.writes},
           step.group);
  }
}

void CommandEncoder::push_group(std::string_view name) {
  Turn turn(*this);
  check_encoding("CommandEncoder.push_group");
  groups_.emplace_back(name);
  if (encoder_) encoder_->pushDebugGroup(ns_string(groups_.back()).get());
}

void CommandEncoder::pop_group() {
  Turn turn(*this);
  check_encoding("CommandEncoder.pop_group");
  if (groups_.empty()) throw Error("CommandEncoder.pop_group: no group is open, needs push_group() first");
  groups_.pop_back();
  if (encoder_) encoder_->popDebugGroup();
}

void CommandEncoder::end_encoder() {
  for (size_t i = 0; i < groups_.size(); ++i) encoder_->popDebugGroup();
  encoder_->updateFence(queue_.fence());
  encoder_->endEncoding();
  encoder_->release();
  encoder_ = nullptr;
}

void CommandEncoder::encode_nothing() {
  MTL::ComputeCommandEncoder* encoder = command_buffer_->computeCommandEncoder();
  if (!encoder) throw DeviceError("Device.commands: Metal gave no compute encoder");
  encoder->waitForFence(queue_.fence());
  encoder->updateFence(queue_.fence());
  encoder->endEncoding();
  placed_ = true;
}

void CommandEncoder::check_event(const char* operation, const Event& event, uint64_t value) const {
  check_encoding(operation);
  check_event_value(operation, value);
  if (&event.device() != &device_) {
    throw ValidationError(text(operation, ": event is of device ", event.device().name(),
                               ", needs one of the encoder's device ", device_.name()));
  }
}

void CommandEncoder::signal(Event& event, uint64_t value) {
  Turn turn(*this);
  check_event("CommandEncoder.signal", event, value);
  AutoreleaseScope scope;
  kept_.push_back(event.shared_from_this());
  if (!command_buffer_) open_command_buffer();
  if (encoder_) end_encoder();
  take_place();
  command_buffer_->encodeSignalEvent(event.metal(), value);
  if (trace_) [[unlikely]]
    trace_->event(trace::Mark::Kind::signal, value);
}

void CommandEncoder::wait_for(Event& event, uint64_t value) {
  Turn turn(*this);
  check_event("CommandEncoder.wait_for", event, value);
  AutoreleaseScope scope;
  kept_.push_back(event.shared_from_this());
  if (!command_buffer_) open_command_buffer();
  if (encoder_) end_encoder();
  command_buffer_->encodeWait(event.metal(), value);
  placed_ = false;
  if (trace_) [[unlikely]]
    trace_->event(trace::Mark::Kind::wait_for, value);
}

void CommandEncoder::close(Status status) {
  if (forked()) [[unlikely]] {
    encoder_ = nullptr;
    command_buffer_.detach();
    if (!kept_.empty()) new auto(std::exchange(kept_, {}));
  }
  if (encoder_) end_encoder();
  if (command_buffer_) {
    command_buffer_.reset();
    queue_.drop_command_buffer();
  }
  trace_.reset();
  used_.clear();
  held_.clear();
  kept_.clear();
  status_.store(status, std::memory_order_release);
}

std::shared_ptr<Submission> CommandEncoder::commit() {
  Turn turn(*this);
  check_encoding("CommandEncoder.commit");
  uint64_t serial = 0;
  if (command_buffer_) {
    device_.faults().check_alive("CommandEncoder.commit");
    AutoreleaseScope scope;
    if (encoder_) end_encoder();
    take_place();
    if (trace_) kept_.push_back(trace_->commits());
    used_.emplace_back(held_);
    serial = queue_.commit(command_buffer_, used_, std::move(kept_));
    if (trace_) trace_->committed(command_buffer_, serial);
  }
  submission_ = std::make_shared<Submission>(queue_, label(), std::move(command_buffer_), serial);
  // The serial in the storages protects them now.
  close(Status::committed);
  return submission_;
}

void CommandEncoder::discard() {
  Turn turn(*this);
  if (status_.load(std::memory_order_relaxed) == Status::encoding) drop();
}

void CommandEncoder::drop() {
  AutoreleaseScope scope;
  close(Status::discarded);
}

void CommandEncoder::wait(std::optional<double> timeout) {
  Status status = status_.load(std::memory_order_acquire);
  if (status != Status::committed) {
    throw Error(
        text("CommandEncoder.wait: the encoder is ", name_of(status), ", needs one that is committed"));
  }
  submission_->wait(timeout, "CommandEncoder.wait");
}

}  // namespace metalloid
