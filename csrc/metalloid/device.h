// A GPU, or what stands in for one.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metalloid/buffer.h"
#include "metalloid/fault.h"
#include "metalloid/library.h"
#include "metalloid/pipeline_cache.h"
#include "metalloid/queue.h"
#include "metalloid/residency.h"
#include "metalloid/software.h"
#include "metalloid/storage.h"

namespace metalloid {

struct CompileRequest;

// What new memory holds. A checked device reports kernels that read what nobody wrote.
enum class Contents : uint8_t { undefined, any };

// There is one object per device, made when it is first opened and never destroyed, so buffers,
// encoders and threads may all keep a reference. Everything here is safe to call from any thread.
class Device {
 public:
  // The names that open() takes.
  static std::vector<std::string> names();
  // `name` empty: what METALLOID_DEVICE says, else the system's default device. Throws DeviceError.
  static Device& open(std::string_view name = {});
  // Waits, for a bounded time, until every device that was opened is idle, and keeps what the next process
  // can use.
  static void finish_all(std::chrono::milliseconds limit);

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const std::string& name() const { return name_; }
  const std::string& description() const { return description_; }
  uint64_t max_buffer_length() const { return metal_->maxBufferLength(); }
  uint64_t max_threadgroup_memory_length() const { return metal_->maxThreadgroupMemoryLength(); }
  std::array<uint64_t, 3> max_threads_per_threadgroup() const;
  uint32_t thread_execution_width();
  // The newest of Apple's GPU families that it has or imitates, such as "apple8"; empty: none.
  const std::string& gpu_family() const { return gpu_family_; }
  // Whether Metal may be asked for indirect command buffers, and pipelines for them.
  bool has_indirect_commands() const { return indirect_; }
  bool has_unified_memory() const { return metal_->hasUnifiedMemory(); }
  // The built-in library's label, "<variant>; <compiler>", where it has one; Metal's have none.
  std::string kernel_variant();
  std::string shader_compiler();

  // Uninitialised, zeroed and shared memory. Throw ValidationError and DeviceError.
  Buffer empty(const Shape& shape, DType dtype, const char* operation = "Device.empty",
               Contents contents = Contents::undefined);
  // What empty() gives, but the memory comes when somebody asks for it.
  Buffer placeholder(const Shape& shape, DType dtype, const char* operation);
  StorageRef placeholder(uint64_t bytes) { return pool_.placeholder(bytes); }
  // For the checks of a checked device: nobody has written the memory.
  void mark_undefined(Storage& storage) const;
  Buffer zeros(const Shape& shape, DType dtype);
  Buffer wrap(void* address, const Shape& shape, DType dtype, bool readonly, void (*release_owner)(void*),
              void* owner);
  uint64_t allocated_size() const { return pool_.used_bytes(); }
  uint64_t pooled_size() const { return pool_.cached_bytes(); }
  void empty_cache() { pool_.empty_cache(); }

  Library& library();
  // Of the built-in kernels; null before they are loaded. Not for threads that might load them.
  PipelineCache* pipeline_cache() { return pipeline_cache_.get(); }
  // Kernels of somebody's own. Throws CompileError; see compile.h.
  std::shared_ptr<Library> compile(const CompileRequest& request);

  // Whether kernels are checked, and what becomes of the faults.
  bool checked() const { return checked_.load(std::memory_order_relaxed); }
  FaultLog& faults() { return faults_; }

  // Throws DeviceError, which names `operation`, where the device cannot run the kernel.
  const Pipeline& pipeline(const BuiltinKernel& kernel, const char* operation) {
    const Pipeline* pipeline = pipelines_[kernel.slot()].load(std::memory_order_acquire);
    return pipeline ? *pipeline : find_pipeline(kernel, operation);
  }

  // Waits for everything committed so far.
  // Throws KernelFault for faults of earlier work that nobody has waited for.
  void synchronize();
  // Lets go of what the device has finished with.
  void retire();
  // Takes back the memory that was freed while work used it.
  void collect() { pool_.collect(); }
  // Which of its memory needs no mention where it is replayed.
  Residency& residency() { return residency_; }
  MTL::Device* metal() const { return metal_.get(); }

  // The device's own queue, and one of that label, made when it is first asked for. Throws Error when there
  // are too many.
  Queue& queue() { return *queues_[0]; }
  Queue& queue(std::string_view label);
  std::span<const std::unique_ptr<Queue>> queues() const {
    return {queues_.data(), queue_count_.load(std::memory_order_acquire)};
  }
  // To be called after every commit.
  void committed();

 private:
  Device(std::string name, NS::SharedPtr<MTL::Device> metal);
  void keep_pipelines();
  static void survive_forks();
  friend void set_check_settings(const software::CheckSettings& settings);
  uint64_t allocation_bytes(const Shape& shape, DType dtype, const char* operation) const;
  const Pipeline& find_pipeline(const BuiltinKernel& kernel, const char* operation);

  const std::string name_;
  const NS::SharedPtr<MTL::Device> metal_;
  const std::string description_;
  const std::string gpu_family_;
  const bool indirect_;
  std::atomic<bool> checked_;
  FaultLog faults_;
  Residency residency_;
  StoragePool pool_;
  std::mutex queues_mutex_;
  std::array<std::unique_ptr<Queue>, kMaxQueues> queues_;
  std::atomic<size_t> queue_count_{0};
  std::mutex library_mutex_;
  std::unique_ptr<PipelineCache> pipeline_cache_;
  pid_t pipeline_cache_owner_ = 0;  // the process that writes it
  std::unique_ptr<Library> library_;
  std::atomic<Library*> loaded_{nullptr};
  std::unique_ptr<std::atomic<const Pipeline*>[]> pipelines_;
};

// Of all checked devices.
void set_check_settings(const software::CheckSettings& settings);

}  // namespace metalloid
