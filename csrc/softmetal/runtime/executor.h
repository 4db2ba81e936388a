// The seam between the runtime and what runs kernels. The runtime records, checks and orders work; an
// executor decides how finely a dispatch is split and runs the parts.
#pragma once

#include <cstdint>

#include "softmetal/runtime/foundation.h"
#include "softmetal/runtime/kernel_abi.h"

namespace softmetal {

class CommandBuffer;
struct Dispatch;

class Executor {
 public:
  virtual const char* device_name() const = 0;
  virtual uint64_t registry_id() const = 0;

  // What the libraries of its device call.
  virtual const SoftmetalHooks& hooks() const = 0;
  // Whether those have to be checked ones, and dispatches to say what their arguments are bound to.
  virtual bool checks() const { return false; }
  // Whether dispatches are run one at a time, each as a whole, and only by the runtime's own threads, so that
  // one that takes for ever holds up nobody who waits with a time limit.
  virtual bool only_workers() const { return false; }

  // Nanoseconds one thread would probably take for the whole dispatch.
  virtual uint64_t estimate_ns(const Dispatch& dispatch) const = 0;
  // How many units a thread should take at a time when `threads` threads share the dispatch.
  virtual uint64_t chunk(const Dispatch& dispatch, unsigned threads) const = 0;
  // Runs the units [begin, end) on the calling thread.
  virtual void run(const Dispatch& dispatch, uint64_t begin, uint64_t end) = 0;

  // What came of a dispatch: an error takes the place of the command buffer's error, and a fatal one ends the
  // command buffer.
  struct Outcome {
    Ref<Error> error;
    bool fatal = false;
  };
  // Called after each dispatch, on the thread that ran it, where only_workers().
  virtual Outcome finish(const Dispatch&, const CommandBuffer&) { return {}; }

  // Nobody wants the contents of this memory of a buffer any more.
  virtual void discard(char*, uint64_t) {}

 protected:
  ~Executor() = default;
};

Executor& cpu_executor();
Executor& simt_executor();

}  // namespace softmetal
