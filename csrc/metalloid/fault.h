// What a checked device found kernels doing wrong.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "metalloid/error.h"
#include "metalloid/forked.h"
#include "metalloid/metal.h"

namespace metalloid {

struct Fault {
  // One of the two sides.
  struct Side {
    std::array<uint64_t, 3> threadgroup{};
    std::array<uint64_t, 3> thread{};  // in its threadgroup
    uint64_t simdgroup = 0;
    uint64_t lane = 0;
    uint64_t dispatch = 0;  // place in the command buffer
    std::string file;
    uint64_t line = 0;
    std::string code;  // that line
    std::string action;
  };

  std::string kind;  // "threadgroup-race", "out-of-bounds", ...
  std::string kernel;
  std::string label;          // of the command buffer, debug groups and the dispatch, separated by slashes
  std::string variable;       // argument or threadgroup variable; empty when it is none
  std::string address_space;  // "device", "constant", "threadgroup" or empty
  int64_t offset = 0;         // bytes from the start of the variable
  int64_t element = 0;
  uint64_t bytes = 0;
  uint64_t count = 1;
  uint64_t seed = 0;
  bool fatal = false;  // ended the dispatch
  std::vector<Side> sides;
  std::string message;  // one line
  std::string text;     // all of it
};

using Faults = std::vector<Fault>;

class KernelFault : public Error {
 public:
  KernelFault(const std::string& message, Faults faults) : Error(message), faults_(std::move(faults)) {}
  const Faults& faults() const { return faults_; }

 private:
  Faults faults_;
};

// The faults in the error of a command buffer; none when it failed for another reason.
Faults faults_of(const NS::Error* error);

// The encoder that a command buffer failed in, with its debug groups, or those that may be it; empty where
// Metal does not tell.
std::string encoders_of(const NS::Error* error);

// What becomes of the faults that a device finds.
enum class CheckMode : uint8_t { raise, warn, collect, off };
inline constexpr std::string_view kCheckModes[] = {"raise", "warn", "collect", "off"};

struct Failure;

// The faults that nobody has been told of. Safe to use from any thread.
class FaultLog {
 public:
  CheckMode mode() const { return mode_.load(std::memory_order_relaxed); }
  void set_mode(CheckMode mode) { mode_.store(mode, std::memory_order_relaxed); }

  // Does with the faults what the mode says; false if they are to be raised.
  bool take(const Faults& faults);

  Faults collected() const;
  void clear();
  // Those to warn of, once. Costs one load when there are none.
  Faults warnings();

  // The failure after which the device takes no work any more: the first, as others follow from it.
  void lose(std::shared_ptr<const Failure> failure);
  // Throws DeviceError, which names `operation`, if there was one, or the process is a
  // forked child of the one that has the device. Costs two loads if not.
  void check_alive(const char* operation) const {
    refuse_forked(operation);
    if (lost_.load(std::memory_order_acquire)) [[unlikely]]
      refuse(operation);
  }

 private:
  [[noreturn]] void refuse(const char* operation) const;

  static constexpr size_t kMost = 10000;

  std::atomic<CheckMode> mode_{CheckMode::raise};
  std::atomic<bool> any_warning_{false};
  mutable std::mutex mutex_;
  Faults collected_, warnings_;
  std::atomic<bool> lost_{false};
  std::shared_ptr<const Failure> loss_;
};

}  // namespace metalloid
