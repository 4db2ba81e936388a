// Runs kernels as a GPU does, 32 lanes to a SIMD-group, one dispatch at a time, and checks what they do.
#include <algorithm>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "softmetal/runtime/command.h"
#include "softmetal/runtime/device.h"
#include "softmetal/runtime/executor.h"
#include "softmetal/runtime/library.h"
#include "softmetal/runtime/scheduler.h"
#include "softmetal/simt/checker.h"
#include "softmetal/simt/engine.h"
#include "softmetal/simt/report.h"
#include "softmetal/simt/settings.h"
#include "softmetal/simt/shadow.h"

namespace softmetal {

namespace {

class SimtExecutor final : public Executor {
 public:
  const char* device_name() const override { return "softmetal simt"; }
  uint64_t registry_id() const override { return 2; }
  const SoftmetalHooks& hooks() const override { return simt::Checker::hooks(); }
  bool checks() const override { return true; }
  bool only_workers() const override { return true; }

  uint64_t estimate_ns(const Dispatch&) const override { return UINT32_MAX; }
  uint64_t chunk(const Dispatch& dispatch, unsigned) const override { return dispatch.units; }

  void run(const Dispatch& dispatch, uint64_t, uint64_t) override {
    const simt::Settings settings = simt::settings();
    Result& result = this_thread();
    result = {};
    const std::lock_guard lock(mutex_);
    try {
      if (settings.enabled)
        result.faults =
            simt::Checker::get().run(dispatch, *dispatch.pipeline->function->library->table, settings);
      else
        run_unchecked(dispatch, settings);
    } catch (const std::bad_alloc&) {
      result.out_of_memory = true;
    }
  }

  Outcome finish(const Dispatch& dispatch, const CommandBuffer& buffer) override {
    Result result = std::exchange(this_thread(), {});
    if (result.out_of_memory) {
      const std::string message = text(
          "there is no memory to check kernel \"%s\", whose buffers have %zu bytes (METALLOID_CHECK=off runs "
          "it unchecked)",
          dispatch.pipeline->kernel.name, static_cast<size_t>(dispatch.bound_bytes));
      return {Ref<Error>::adopt(
                  new Error("MTLCommandBufferErrorDomain", MTL::CommandBufferErrorOutOfMemory, message)),
              true};
    }
    if (result.faults.empty()) return {};
    bool fatal = false;
    for (const simt::Fault& fault : result.faults) fatal |= fault.fatal;
    const Ref<Error> before = Scheduler::get().error_of(buffer);
    return {simt::fault_error(before.get(), std::move(result.faults)), fatal};
  }

  void discard(char* address, uint64_t bytes) override { simt::poison(address, bytes); }

 private:
  // What came of the dispatch that the calling thread ran last.
  struct Result {
    std::vector<simt::Fault> faults;
    bool out_of_memory = false;
  };
  static Result& this_thread() {
    static thread_local Result result;
    return result;
  }

  void run_unchecked(const Dispatch& dispatch, const simt::Settings& settings) {
    const SoftmetalKernel& kernel = dispatch.pipeline->kernel;
    if (kernel.prepare) kernel.prepare(&dispatch.launch);
    constexpr size_t kLine = 64;
    // Not as many bytes as they have: they lie apart, where the kernel was compiled to be checked.
    size_t variable_bytes = kernel.static_threadgroup_bytes;
    for (const SoftmetalVariable* each = kernel.variables; each; each = each->next)
      variable_bytes = std::max<size_t>(variable_bytes, size_t{each->offset} + each->bytes);
    memory_.resize(dispatch.threadgroup_memory + variable_bytes + 2 * kLine);
    const auto start = (reinterpret_cast<uintptr_t>(memory_.data()) + kLine - 1) & ~uintptr_t{kLine - 1};
    auto* arguments = reinterpret_cast<char*>(start);
    auto* variables = arguments + (dispatch.threadgroup_memory + kLine - 1) / kLine * kLine;
    const simt::Run run{&kernel, &dispatch.launch, arguments, variables, nullptr, settings.seed};
    const simt::Order order(dispatch.units, settings.seed);
    for (uint64_t i = 0; i < dispatch.units; ++i) simt::run_threadgroup(run, order[i]);
  }

  std::mutex mutex_;
  std::vector<char> memory_;
};

}  // namespace

Executor& simt_executor() {
  static auto* const executor = new SimtExecutor;  // its threads may still be inside when the process exits
  return *executor;
}

}  // namespace softmetal
