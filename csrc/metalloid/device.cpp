#include "metalloid/device.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "metalloid/availability.h"
#include "metalloid/forked.h"

namespace metalloid {

namespace {

// Software devices are called "softmetal <name>"; the rest is Metal proper.
std::string short_name(const std::string& description) {
  constexpr std::string_view prefix = "softmetal ";
  return description.starts_with(prefix) ? description.substr(prefix.size()) : "metal";
}

struct Registry {
  std::mutex mutex;
  std::vector<Device*> devices;
};

Registry& registry() {
  static auto* registry = new Registry;  // outlives static destructors, like the devices
  return *registry;
}

// Metal refuses to make what a GPU does not have with an error, or ends the process. Of all that have
// indirect command buffers, those of Macs are of Apple7 or newer; the one of a virtual machine is older.
bool finds_indirect_commands(MTL::Device* device) {
  const char* chosen = std::getenv("METALLOID_INDIRECT");
  if (chosen && std::string_view(chosen) == "0") return false;
  return available(device, Feature::indirect_commands) && device->supportsFamily(MTL::GPUFamilyApple7);
}

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all.empty() ? "none" : all;
}

}  // namespace

std::vector<std::string> Device::names() {
  refuse_forked("devices");
  watch_forks();
  AutoreleaseScope scope;
  std::vector<std::string> names;
  auto all = NS::TransferPtr(MTL::CopyAllDevices());
  for (NS::UInteger i = 0; all && i < all->count(); ++i) {
    std::string name = short_name(to_string(all->object<MTL::Device>(i)->name()));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

Device& Device::open(std::string_view name) {
  refuse_forked("Device");
  watch_forks();
  AutoreleaseScope scope;
  if (std::string problem = software::settings_problem(); !problem.empty())
    throw DeviceError("Device: " + problem);
  std::string wanted(name);
  const char* origin = "";
  if (const char* chosen = std::getenv("METALLOID_DEVICE"); wanted.empty() && chosen && *chosen) {
    wanted = chosen;
    origin = " (from METALLOID_DEVICE)";
  }

  NS::SharedPtr<MTL::Device> metal;
  if (wanted.empty()) {
    metal = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
    if (!metal) throw DeviceError("Device: the system has no Metal device");
    wanted = short_name(to_string(metal->name()));
  }

  std::lock_guard lock(registry().mutex);
  for (Device* device : registry().devices) {
    if (device->name() == wanted) return *device;
  }
  if (!metal) {
    auto all = NS::TransferPtr(MTL::CopyAllDevices());
    for (NS::UInteger i = 0; all && i < all->count() && !metal; ++i) {
      auto* candidate = all->object<MTL::Device>(i);
      if (short_name(to_string(candidate->name())) == wanted) metal = NS::RetainPtr(candidate);
    }
  }
  if (!metal) {
    throw DeviceError(
        text("Device: there is no device \"", wanted, "\"", origin, ", needs one of: ", joined(names())));
  }
  registry().devices.push_back(new Device(wanted, std::move(metal)));
  return *registry().devices.back();
}

void Device::finish_all(std::chrono::milliseconds limit) {
  if (forked()) return;
  std::vector<Device*> devices;
  {
    std::lock_guard lock(registry().mutex);
    devices = registry().devices;
  }
  auto deadline = std::chrono::steady_clock::now() + limit;
  for (Device* device : devices) {
    for (const auto& queue : device->queues()) {
      queue->timeline().wait(queue->timeline().last_committed(), deadline);
    }
    device->keep_pipelines();
  }
}

Device::Device(std::string name, NS::SharedPtr<MTL::Device> metal)
    : name_(std::move(name)),
      metal_(std::move(metal)),
      description_(to_string(metal_->name())),
      gpu_family_(software::gpu_family(metal_.get())),
      indirect_(finds_indirect_commands(metal_.get())),
      checked_(software::is_checked(metal_.get())),
      residency_(metal_.get(), metal_->recommendedMaxWorkingSetSize() / 2),
      pool_(this, metal_.get(), &residency_),
      pipelines_(new std::atomic<const Pipeline*>[BuiltinKernel::count()]()) {
  queue("");
}

Queue& Device::queue(std::string_view label) {
  std::lock_guard lock(queues_mutex_);
  for (const auto& queue : queues()) {
    if (queue->label() == label) return *queue;
  }
  const size_t count = queue_count_.load(std::memory_order_relaxed);
  if (count == kMaxQueues) {
    throw Error(text("Device.queue: \"", label, "\" would be queue ", kMaxQueues + 1,
                     " of the device, needs at most ", kMaxQueues, ", its own included"));
  }
  refuse_forked("Device.queue");
  AutoreleaseScope scope;
  queues_[count] = std::make_unique<Queue>(*this, std::string(label), static_cast<uint32_t>(count), &faults_);
  queue_count_.store(count + 1, std::memory_order_release);
  return *queues_[count];
}

std::array<uint64_t, 3> Device::max_threads_per_threadgroup() const {
  MTL::Size size = metal_->maxThreadsPerThreadgroup();
  return {size.width, size.height, size.depth};
}

uint32_t Device::thread_execution_width() {
  // Metal tells it per pipeline. Any of ours will do that this GPU can run; the simplest come first.
  std::vector<std::string> names = library().kernels();
  std::stable_partition(names.begin(), names.end(),
                        [](const std::string& name) { return name == "add_f32" || name == "mul_f32"; });
  for (const std::string& name : names) {
    try {
      return library().pipeline(name).execution_width;
    } catch (const DeviceError&) {
      if (&name == &names.back()) throw;
    }
  }
  throw DeviceError("Device: the built-in library has no kernels");
}

std::string Device::kernel_variant() {
  std::string label = library().label();
  if (label.empty()) return library().from_source() ? "source" : "metallib";
  return label.substr(0, label.find("; "));
}

std::string Device::shader_compiler() {
  std::string label = library().label();
  if (label.empty()) return library().from_source() ? "Metal, at first use" : "Metal, at build time";
  size_t separator = label.find("; ");
  return separator == std::string::npos ? "" : label.substr(separator + 2);
}

uint64_t Device::allocation_bytes(const Shape& shape, DType dtype, const char* operation) const {
  refuse_forked(operation);
  uint64_t bytes = byte_count(operation, shape, dtype);
  if (bytes > max_buffer_length()) {
    throw ValidationError(text(operation, ": shape ", shape, " of ", dtype, " has ", bytes,
                               " bytes, needs at most ", max_buffer_length(), " (max_buffer_length)"));
  }
  return bytes;
}

Buffer Device::empty(const Shape& shape, DType dtype, const char* operation, Contents contents) {
  StorageRef storage = pool_.allocate(allocation_bytes(shape, dtype, operation));
  if (contents == Contents::undefined) mark_undefined(*storage.get());
  return Buffer(std::move(storage), 0, shape, dtype);
}

Buffer Device::placeholder(const Shape& shape, DType dtype, const char* operation) {
  return Buffer(pool_.placeholder(allocation_bytes(shape, dtype, operation)), 0, shape, dtype);
}

void Device::mark_undefined(Storage& storage) const {
  if (!checked()) return;
  // What Metal has discarded is undefined until somebody writes it; the checks know it by that.
  storage.buffer->setPurgeableState(MTL::PurgeableStateEmpty);
  storage.buffer->setPurgeableState(MTL::PurgeableStateNonVolatile);
}

Buffer Device::zeros(const Shape& shape, DType dtype) {
  Buffer buffer = empty(shape, dtype, "Device.zeros", Contents::any);
  if (buffer.nbytes()) std::memset(buffer.address(), 0, buffer.nbytes());
  return buffer;
}

Buffer Device::wrap(void* address, const Shape& shape, DType dtype, bool readonly,
                    void (*release_owner)(void*), void* owner) {
  refuse_forked("Device.wrap");
  uint64_t bytes = byte_count("Device.wrap", shape, dtype);
  uint64_t page = page_size();
  if (uint64_t past = reinterpret_cast<uintptr_t>(address) % page; past != 0) {
    throw ValidationError(text("Device.wrap: the data starts ", past,
                               " bytes into a page, needs to be aligned to ", page,
                               " bytes (mmap.PAGESIZE); Device.array() copies"));
  }
  if (bytes == 0) {
    throw ValidationError("Device.wrap: the data has 0 bytes, needs at least 1; Device.array() copies");
  }
  if (bytes > max_buffer_length()) {
    throw ValidationError(text("Device.wrap: the data has ", bytes, " bytes, needs at most ",
                               max_buffer_length(), " (max_buffer_length)"));
  }
  return Buffer(pool_.adopt(address, bytes, readonly, release_owner, owner), 0, shape, dtype);
}

Library& Device::library() {
  if (Library* library = loaded_.load(std::memory_order_acquire)) return *library;
  refuse_forked("Device");
  // Loading may compile, which takes long and asks for things that who waits for it here must not hold.
  BlockScope blocked;
  std::lock_guard lock(library_mutex_);
  if (!library_) {
    const std::string path = library_path();
    library_ = Library::load(*this, path);
    pipeline_cache_ = std::make_unique<PipelineCache>(metal(), path);
    pipeline_cache_owner_ = getpid();
    library_->keep_pipelines(*pipeline_cache_);
  }
  loaded_.store(library_.get(), std::memory_order_release);
  return *library_;
}

void Device::keep_pipelines() {
  // A thread that is gone in the child of a fork may have held it.
  std::unique_lock lock(library_mutex_, std::try_to_lock);
  if (lock && pipeline_cache_ && pipeline_cache_owner_ == getpid()) pipeline_cache_->save();
}

const Pipeline& Device::find_pipeline(const BuiltinKernel& kernel, const char* operation) {
  Library& all = library();
  try {
    const Pipeline& pipeline = all.pipeline(kernel.name());
    pipelines_[kernel.slot()].store(&pipeline, std::memory_order_release);
    return pipeline;
  } catch (const DeviceError& e) {
    throw DeviceError(text(operation, ": ", e.what()), e.code());
  }
}

void Device::committed() {
  // Handlers run latest first. Metal may have some of its own, which take locks that our commits need: by now
  // they are registered, so ours come before them.
  static std::once_flag once;
  std::call_once(once, survive_forks);
}

void Device::survive_forks() {
  // A lock that another thread holds during a fork would be held for ever in the child.
  static constexpr auto lock = [] {
    registry().mutex.lock();
    for (Device* device : registry().devices) {
      device->queues_mutex_.lock();
      for (const auto& queue : device->queues()) queue->timeline().commit_mutex().lock();
      device->pool_.mutex().lock();
      device->residency_.mutex().lock();
      for (const auto& queue : device->queues()) {
        queue->timeline().mutex().lock();
        queue->watcher().mutex().lock();
      }
    }
  };
  static constexpr auto unlock = [] {
    for (Device* device : registry().devices) {
      for (const auto& queue : device->queues()) {
        queue->watcher().mutex().unlock();
        queue->timeline().mutex().unlock();
      }
      device->residency_.mutex().unlock();
      device->pool_.mutex().unlock();
      for (const auto& queue : device->queues()) queue->timeline().commit_mutex().unlock();
      device->queues_mutex_.unlock();
    }
    registry().mutex.unlock();
  };
  static constexpr auto unlock_in_child = [] {
    for (Device* device : registry().devices) {
      for (const auto& queue : device->queues()) queue->watcher().forget_thread();
    }
    unlock();
  };
  pthread_atfork(lock, unlock, unlock_in_child);
}

void Device::retire() {
  for (const auto& queue : queues()) queue->timeline().reached(queue->timeline().last_committed());
}

void set_check_settings(const software::CheckSettings& settings) {
  std::lock_guard lock(registry().mutex);
  software::set_check_settings(settings);
  for (Device* device : registry().devices) device->checked_ = software::is_checked(device->metal());
}

void Device::synchronize() {
  for (const auto& queue : queues()) queue->wait(queue->timeline().last_committed());
  for (const auto& queue : queues()) {
    if (auto failure = queue->timeline().untold()) failure->raise("Device.synchronize: ");
  }
}

}  // namespace metalloid
