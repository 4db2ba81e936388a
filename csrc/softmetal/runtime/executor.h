// The seam between the runtime and what runs kernels. The runtime records, checks and orders work; an
// executor decides how finely a dispatch is split and runs the parts.
#pragma once

#include <cstdint>

namespace softmetal {

struct Dispatch;

class Executor {
 public:
  virtual const char* device_name() const = 0;
  virtual uint64_t registry_id() const = 0;

  // Nanoseconds one thread would probably take for the whole dispatch.
  virtual uint64_t estimate_ns(const Dispatch& dispatch) const = 0;
  // How many units a thread should take at a time when `threads` threads share the dispatch.
  virtual uint64_t chunk(const Dispatch& dispatch, unsigned threads) const = 0;
  // Runs the units [begin, end) on the calling thread.
  virtual void run(const Dispatch& dispatch, uint64_t begin, uint64_t end) = 0;

 protected:
  ~Executor() = default;
};

Executor& cpu_executor();

}  // namespace softmetal
