#include "metalloid/trace.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <limits>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "metalloid/device.h"
#include "metalloid/error.h"
#include "metalloid/queue.h"
#include "metalloid/system.h"

namespace metalloid::trace {

namespace {

// As many as Metal puts into one sample buffer.
constexpr uint32_t kSamples = 4096;
// Events: one on the host and one on the device.
constexpr uint64_t kOfDispatch = 2;
constexpr uint64_t kOfCommandBuffer = 2;

Time now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::atomic<std::string (*)()> thread_namer{nullptr};
std::atomic<uint64_t> session_ids{0};

std::string name_of_this_thread() {
  if (auto* namer = thread_namer.load()) {
    if (std::string name = namer(); !name.empty()) return name;
  }
  char name[64] = "";
  pthread_getname_np(pthread_self(), name, sizeof(name));
  return name;
}

// The clocks of a device and of the host at one moment.
struct Moment {
  Time device = 0, cpu = 0;
  Time offset = 0;  // from `cpu` to the steady clock
};

Moment moment_of(MTL::Device* device) {
  Moment best;
  Time narrowest = std::numeric_limits<Time>::max();
  for (int i = 0; i < 5; ++i) {
    MTL::Timestamp cpu = 0, gpu = 0;
    const Time before = now();
    device->sampleTimestamps(&cpu, &gpu);
    const Time after = now();
    if (after - before >= narrowest) continue;
    narrowest = after - before;
    best.device = static_cast<Time>(gpu);
    best.cpu = static_cast<Time>(cpu);
    const bool one_clock = best.cpu >= before && best.cpu <= after;
    best.offset = one_clock ? 0 : before + narrowest / 2 - best.cpu;
  }
  return best;
}

// Turns times of a device into those of the host: the two clocks need not run at the same speed.
struct Clocks {
  Moment first, last;

  Time host(Time time) const {
    const Time since = time - first.device;
    const Time device = last.device - first.device, cpu = last.cpu - first.cpu;
    if (device <= 0 || device == cpu) return first.cpu + since + first.offset;
    const double speed = static_cast<double>(cpu) / static_cast<double>(device);
    return first.cpu + static_cast<Time>(static_cast<double>(since) * speed) + first.offset;
  }
};

}  // namespace

// One counter sample buffer, which dispatches of several command buffers share.
class Recording::Samples {
 public:
  static std::shared_ptr<Samples> create(MTL::Device* device) {
    AutoreleaseScope scope;
    if (!device->supportsCounterSampling(MTL::CounterSamplingPointAtStageBoundary)) return {};
    const NS::Array* sets = device->counterSets();
    for (NS::UInteger i = 0; sets && i < sets->count(); ++i) {
      auto* set = sets->object<MTL::CounterSet>(i);
      if (!set->name()->isEqualToString(MTL::CommonCounterSetTimestamp)) continue;
      auto descriptor = NS::TransferPtr(MTL::CounterSampleBufferDescriptor::alloc()->init());
      descriptor->setCounterSet(set);
      descriptor->setStorageMode(MTL::StorageModeShared);
      descriptor->setSampleCount(kSamples);
      descriptor->setLabel(MTLSTR("metalloid trace"));
      auto buffer = NS::TransferPtr(device->newCounterSampleBuffer(descriptor.get(), nullptr));
      return buffer ? std::make_shared<Samples>(std::move(buffer)) : nullptr;
    }
    return {};
  }
  explicit Samples(NS::SharedPtr<MTL::CounterSampleBuffer> buffer) : buffer_(std::move(buffer)) {}

  MTL::CounterSampleBuffer* metal() const { return buffer_.get(); }
  // The places of two samples; false when there are none left.
  bool take(uint32_t& first) {
    if (used_ == kSamples) return false;
    first = used_;
    used_ += 2;
    return true;
  }
  Span resolve(uint32_t first) const {
    AutoreleaseScope scope;
    const NS::Data* data = buffer_->resolveCounterRange(NS::Range(first, 2));
    if (!data || data->length() < 2 * sizeof(MTL::CounterResultTimestamp)) return {};
    const auto* times = static_cast<const MTL::CounterResultTimestamp*>(bytes_of(data));
    if (times[0].timestamp == MTL::CounterErrorValue || times[1].timestamp == MTL::CounterErrorValue)
      return {};
    return {static_cast<Time>(times[0].timestamp), static_cast<Time>(times[1].timestamp)};
  }

 private:
  const NS::SharedPtr<MTL::CounterSampleBuffer> buffer_;
  uint32_t used_ = 0;
};

class Session {
 public:
  explicit Session(uint64_t most) : most_(most) { report_.span.begin = now(); }

  // Once it is closed nothing may lock, as whoever held the lock may be gone with a fork.
  bool closed() const { return closed_.load(std::memory_order_acquire); }
  void close() { closed_.store(true, std::memory_order_release); }

  bool take(uint64_t events) {
    if (used_.fetch_add(events, std::memory_order_relaxed) + events <= most_) return true;
    used_.fetch_sub(events, std::memory_order_relaxed);
    dropped_.fetch_add(events, std::memory_order_relaxed);
    return false;
  }
  bool has_room() const { return used_.load(std::memory_order_relaxed) + kOfDispatch <= most_; }
  void give_back(uint64_t events) { used_.fetch_sub(events, std::memory_order_relaxed); }

  uint32_t string(std::string_view string) {
    std::lock_guard lock(mutex_);
    return string_locked(string);
  }
  uint32_t this_thread() {
    thread_local uint64_t session = 0;
    thread_local uint32_t place = 0;
    if (session == id_) return place;
    std::string name = name_of_this_thread();
    std::lock_guard lock(mutex_);
    report_.threads.push_back({reinterpret_cast<uint64_t>(pthread_self()), std::move(name)});
    session = id_;
    return place = static_cast<uint32_t>(report_.threads.size() - 1);
  }
  uint32_t place_of(const Queue& queue) {
    std::lock_guard lock(mutex_);
    for (uint32_t i = 0; i < report_.queues.size(); ++i) {
      if (report_.queues[i] == &queue) return i;
    }
    MTL::Device* device = queue.device().metal();
    if (!clocks_.contains(device)) clocks_[device].first = moment_of(device);
    report_.queues.push_back(&queue);
    return static_cast<uint32_t>(report_.queues.size() - 1);
  }
  Recording::Sampled samples(MTL::Device* device) {
    std::lock_guard lock(mutex_);
    std::shared_ptr<Recording::Samples>& current = samples_[device];
    Recording::Sampled taken{};
    if (!current || !current->take(taken.first)) {
      current = Recording::Samples::create(device);
      if (!current) return {};
      current->take(taken.first);
    }
    taken.samples = current;
    return taken;
  }

  void add(Mark mark) {
    if (!take(1)) return;
    std::lock_guard lock(mutex_);
    report_.marks.push_back(mark);
  }
  void add(std::shared_ptr<Recording> recording) {
    std::lock_guard lock(mutex_);
    // Nobody would take it in any more, and they would keep each other.
    if (!closed()) pending_.push_back(std::move(recording));
  }
  // Takes in what is complete, unless another thread is at it.
  void resolve() {
    if (std::unique_lock turn(resolving_, std::try_to_lock); turn.owns_lock()) resolve_locked();
  }
  std::vector<std::shared_ptr<Recording>> pending() {
    std::lock_guard lock(mutex_);
    return {pending_.begin(), pending_.end()};
  }

  Report take_report() {
    std::lock_guard turn(resolving_);
    resolve_locked();
    std::lock_guard lock(mutex_);
    for (const auto& each : pending_) append(*each);
    pending_.clear();
    for (auto& [device, clocks] : clocks_) clocks.last = moment_of(device);
    for (CommandBuffer& each : report_.command_buffers) {
      if (each.ran.begin == kNever) continue;
      const Time offset = clocks_of(each).first.offset;
      each.ran = {each.ran.begin + offset, each.ran.end + offset};
    }
    for (Dispatch& each : report_.dispatches) {
      CommandBuffer& buffer = report_.command_buffers[each.command_buffer];
      if (each.ran.begin == kNever) {
        report_.unsampled += buffer.status == CommandBuffer::Status::completed;
        continue;
      }
      const Clocks& clocks = clocks_of(buffer);
      each.ran = {clocks.host(each.ran.begin), clocks.host(each.ran.end)};
      if (buffer.ran.begin == kNever) buffer.ran = each.ran;
      // Two clocks agree to within some microseconds, and one that is told in seconds is rounded.
      buffer.ran = {std::min(buffer.ran.begin, each.ran.begin), std::max(buffer.ran.end, each.ran.end)};
    }
    report_.dropped = dropped_.load();
    report_.span.end = now();
    close();
    return std::move(report_);
  }

 private:
  void resolve_locked() {
    std::vector<std::shared_ptr<Recording>> done;
    {
      std::lock_guard lock(mutex_);
      const auto is_pending = [](const auto& each) { return !each->complete(); };
      const auto first = std::stable_partition(pending_.begin(), pending_.end(), is_pending);
      done.assign(first, pending_.end());
      pending_.erase(first, pending_.end());
    }
    for (const auto& each : done) each->resolve();
    std::lock_guard lock(mutex_);
    for (const auto& each : done) append(*each);
  }
  uint32_t string_locked(std::string_view string) {
    auto found = strings_.find(std::string(string));
    if (found != strings_.end()) return found->second;
    const auto place = static_cast<uint32_t>(report_.strings.size());
    report_.strings.emplace_back(string);
    strings_.emplace(string, place);
    return place;
  }
  const Clocks& clocks_of(const CommandBuffer& buffer) const {
    return clocks_.at(report_.queues[buffer.queue]->device().metal());
  }
  void append(Recording& recording) {
    const auto place = static_cast<uint32_t>(report_.command_buffers.size());
    report_.command_buffers.push_back(recording.info_);
    for (Dispatch& each : recording.dispatches_) {
      each.command_buffer = place;
      report_.dispatches.push_back(each);
    }
    report_.marks.insert(report_.marks.end(), recording.marks_.begin(), recording.marks_.end());
    recording.events_ = 0;
  }

  const uint64_t id_ = session_ids.fetch_add(1) + 1;
  const uint64_t most_;
  std::atomic<bool> closed_{false};
  std::atomic<uint64_t> used_{0}, dropped_{0};
  std::mutex resolving_;  // to be locked first
  std::mutex mutex_;
  Report report_;
  std::unordered_map<std::string, uint32_t> strings_;
  std::unordered_map<MTL::Device*, Clocks> clocks_;
  std::unordered_map<MTL::Device*, std::shared_ptr<Recording::Samples>> samples_;
  std::deque<std::shared_ptr<Recording>> pending_;
};

namespace {

// Outlives static destructors, like the devices. The lock is for changing it.
struct Current {
  std::mutex mutex;
  std::shared_ptr<Session> session;
};
Current& current() {
  static auto* current = new Current;
  return *current;
}

std::shared_ptr<Session> open_session() {
  if (!on()) return {};
  std::lock_guard lock(current().mutex);
  return current().session;
}

void survive_forks() {
  // The child's work is not the parent's to tell of. What the session holds stays: its locks may be held.
  pthread_atfork([] { current().mutex.lock(); }, [] { current().mutex.unlock(); },
                 [] {
                   active.store(false);
                   if (current().session) {
                     current().session->close();
                     new std::shared_ptr<Session>(std::move(current().session));
                   }
                   current().mutex.unlock();
                 });
}

}  // namespace

void set_thread_namer(std::string (*namer)()) { thread_namer.store(namer); }

void start(uint64_t most) {
  static std::once_flag once;
  std::call_once(once, survive_forks);
  auto session = std::make_shared<Session>(most);
  std::lock_guard lock(current().mutex);
  if (current().session) throw Error("trace: one is on already, needs that to end first");
  current().session = std::move(session);
  active.store(true);
}

void finish(std::chrono::milliseconds patience) {
  std::shared_ptr<Session> session = open_session();
  if (!session) return;
  for (const auto& each : session->pending()) {
    if (!each->queue_.timeline().wait(each->info_.serial, std::chrono::steady_clock::now() + patience))
      return;
  }
}

Report stop() {
  std::shared_ptr<Session> session;
  {
    std::lock_guard lock(current().mutex);
    session = std::exchange(current().session, {});
    if (!session) throw Error("trace: none is on");
    active.store(false);
  }
  return session->take_report();
}

void mark(Mark::Kind kind, uint64_t value) {
  std::shared_ptr<Session> session = open_session();
  if (!session) return;
  const Time time = now();
  session->add(Mark{kind, session->this_thread(), Report::kNone, value, {time, time}});
}

Waiting::Waiting(Mark::Kind kind, const Queue* queue, uint64_t value)
    : kind_(kind), queue_(queue), value_(value), begin_(on() ? now() : kNever) {}

Waiting::~Waiting() {
  if (begin_ == kNever) return;
  std::shared_ptr<Session> session = open_session();
  if (!session) return;
  const uint32_t queue = queue_ ? session->place_of(*queue_) : Report::kNone;
  session->add(Mark{kind_, session->this_thread(), queue, value_, {begin_, now()}});
}

std::shared_ptr<Recording> Recording::begin(Queue& queue, const std::string& label) {
  std::shared_ptr<Session> session = open_session();
  // What has no room for its command buffer runs as if there were no trace.
  if (!session || !session->take(kOfCommandBuffer)) return {};
  const uint32_t string = session->string(label);
  return std::make_shared<Recording>(std::move(session), queue, string);
}

Recording::Recording(std::shared_ptr<Session> session, Queue& queue, uint32_t label)
    : session_(std::move(session)), queue_(queue), events_(kOfCommandBuffer) {
  info_.label = label;
  info_.reason = session_->string("");
  info_.queue = session_->place_of(queue);
  info_.status = CommandBuffer::Status::unfinished;
}

Recording::~Recording() { session_->give_back(events_); }

MTL::ComputeCommandEncoder* Recording::encoder(MTL::CommandBuffer* buffer, MTL::DispatchType type) {
  encoding_ = now();
  next_ = {};
  if (!session_->closed() && session_->has_room()) next_ = session_->samples(queue_.device().metal());
  auto pass = NS::TransferPtr(MTL::ComputePassDescriptor::alloc()->init());
  pass->setDispatchType(type);
  if (next_.samples) {
    if (used_.empty() || used_.back() != next_.samples) used_.push_back(next_.samples);
    auto* attachment = pass->sampleBufferAttachments()->object(0);
    attachment->setSampleBuffer(next_.samples->metal());
    attachment->setStartOfEncoderSampleIndex(next_.first);
    attachment->setEndOfEncoderSampleIndex(next_.first + 1);
  }
  return buffer->computeCommandEncoder(pass.get());
}

void Recording::dispatch(const Encoded& encoded, std::span<const std::string> groups,
                         std::string_view group) {
  const Time end = now();
  if (session_->closed() || !session_->take(kOfDispatch)) return;
  events_ += kOfDispatch;
  std::string all;
  for (const std::string& each : groups) all.append(all.empty() ? "" : "/").append(each);
  if (!group.empty()) all.append(all.empty() ? "" : "/").append(group);
  Dispatch& made = dispatches_.emplace_back();
  made.name = session_->string(encoded.name);
  made.kernel = session_->string(encoded.kernel);
  made.label = session_->string(encoded.label);
  made.group = session_->string(all);
  made.thread = session_->this_thread();
  made.grid = encoded.grid;
  made.threads = encoded.threads;
  made.by_threads = encoded.by_threads;
  made.barrier = std::exchange(barrier_, false);
  made.reads = encoded.reads;
  made.writes = encoded.writes;
  made.encoded = {encoding_, end};
  sampled_.push_back(std::exchange(next_, {}));
}

void Recording::barrier() {
  barrier_ = true;
  note(Mark::Kind::barrier, 0);
}

void Recording::event(Mark::Kind kind, uint64_t value) {
  split_ = true;
  note(kind, value);
}

void Recording::note(Mark::Kind kind, uint64_t value) {
  if (session_->closed() || !session_->take(1)) return;
  events_ += 1;
  const Time time = now();
  marks_.push_back({kind, session_->this_thread(), info_.queue, value, {time, time}});
}

std::shared_ptr<const void> Recording::commits() {
  info_.committed.begin = now();
  return std::make_shared<std::vector<std::shared_ptr<Samples>>>(std::move(used_));
}

void Recording::committed(const NS::SharedPtr<MTL::CommandBuffer>& buffer, uint64_t serial) {
  info_.committed.end = now();
  if (session_->closed()) return;
  info_.thread = session_->this_thread();
  info_.serial = serial;
  buffer_ = buffer;
  session_->add(shared_from_this());
  session_->resolve();
}

bool Recording::complete() const { return queue_.timeline().seen(info_.serial); }

void Recording::resolve() {
  AutoreleaseScope scope;
  buffer_->waitUntilCompleted();
  info_.status = CommandBuffer::Status::completed;
  if (buffer_->status() == MTL::CommandBufferStatusError) {
    info_.status = CommandBuffer::Status::error;
    std::shared_ptr<const Failure> failure = queue_.timeline().failure(info_.serial);
    info_.reason = session_->string(failure ? failure->reason : "no reason given");
  }
  if (buffer_->GPUStartTime() > 0) {
    info_.ran = {static_cast<Time>(buffer_->GPUStartTime() * 1e9),
                 static_cast<Time>(buffer_->GPUEndTime() * 1e9)};
  }
  for (size_t i = 0; i < dispatches_.size(); ++i) {
    if (sampled_[i].samples) dispatches_[i].ran = sampled_[i].samples->resolve(sampled_[i].first);
  }
  sampled_.clear();
  buffer_.reset();
}

}  // namespace metalloid::trace
