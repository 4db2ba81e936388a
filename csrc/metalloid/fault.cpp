#include "metalloid/fault.h"

#include <algorithm>
#include <utility>

#include "metalloid/timeline.h"

namespace metalloid {

namespace {

constexpr std::string_view kDomain = "SoftmetalKernelFault";
// Of lists of names in a message.
constexpr size_t kMostText = 1000;

// The entries of one fault.
class Entries {
 public:
  explicit Entries(const NS::Dictionary* dictionary) : dictionary_(dictionary) {}

  std::string string(const std::string& key) const {
    return to_string(dictionary_->object<NS::String>(ns_string(key).get()));
  }
  const NS::Number* number(const std::string& key) const {
    return dictionary_->object<NS::Number>(ns_string(key).get());
  }
  uint64_t natural(const std::string& key) const {
    const NS::Number* value = number(key);
    return value ? value->unsignedLongLongValue() : 0;
  }
  int64_t integer(const std::string& key) const {
    const NS::Number* value = number(key);
    return value ? value->longLongValue() : 0;
  }
  // `suffix` is that of the second side.
  Fault::Side side(const std::string& suffix) const {
    Fault::Side side;
    const char* axes[] = {"_x", "_y", "_z"};
    for (size_t i = 0; i < 3; ++i) {
      side.threadgroup[i] = natural("threadgroup" + suffix + axes[i]);
      side.thread[i] = natural("thread" + suffix + axes[i]);
    }
    side.simdgroup = natural("simdgroup" + suffix);
    side.lane = natural("lane" + suffix);
    side.dispatch = natural("dispatch" + suffix);
    side.file = string("file" + suffix);
    side.line = natural("line" + suffix);
    side.code = string("code" + suffix);
    side.action = string("action" + suffix);
    return side;
  }

 private:
  const NS::Dictionary* dictionary_;
};

Fault fault_of(const Entries& entries) {
  Fault fault;
  fault.kind = entries.string("kind");
  fault.kernel = entries.string("kernel");
  fault.label = entries.string("label");
  fault.variable = entries.string("variable");
  fault.address_space = entries.string("address_space");
  fault.offset = entries.integer("offset");
  fault.element = entries.integer("element");
  fault.bytes = entries.natural("bytes");
  fault.count = std::max<uint64_t>(entries.natural("count"), 1);
  fault.seed = entries.natural("seed");
  fault.fatal = entries.natural("fatal") != 0;
  fault.message = entries.string("message");
  fault.text = entries.string("text");
  fault.sides.push_back(entries.side(""));
  if (entries.natural("has_second")) fault.sides.push_back(entries.side("2"));
  return fault;
}

}  // namespace

Faults faults_of(const NS::Error* error) {
  Faults faults;
  if (!error || to_string(error->domain()) != kDomain) return faults;
  const NS::Dictionary* info = error->userInfo();
  const NS::Array* list = info ? info->object<NS::Array>(ns_string("faults").get()) : nullptr;
  for (NS::UInteger i = 0; list && i < list->count(); ++i) {
    faults.push_back(fault_of(Entries(list->object<NS::Dictionary>(i))));
  }
  return faults;
}

std::string encoders_of(const NS::Error* error) {
  const NS::Dictionary* user = error ? error->userInfo() : nullptr;
  const NS::Array* list = user ? user->object<NS::Array>(MTL::CommandBufferEncoderInfoErrorKey) : nullptr;
  std::string all;
  // Others are named only where it is not known which one it was.
  for (const auto state : {MTL::CommandEncoderErrorStateFaulted, MTL::CommandEncoderErrorStateAffected}) {
    for (NS::UInteger i = 0; list && all.size() < kMostText && i < list->count(); ++i) {
      auto* info = list->object<MTL::CommandBufferEncoderInfo>(i);
      if (info->errorState() != state) continue;
      const std::string label = to_string(info->label());
      all += (all.empty() ? "encoder " : ", encoder ") + (label.empty() ? text(i) : '"' + label + '"');
      std::string groups;
      const NS::Array* names = info->debugSignposts();
      for (NS::UInteger k = 0; names && groups.size() < kMostText && k < names->count(); ++k) {
        groups += (groups.empty() ? "" : ", ") + to_string(names->object<NS::String>(k));
      }
      if (!groups.empty()) all += " (debug groups " + groups + ")";
    }
    if (!all.empty()) break;
  }
  return all;
}

bool FaultLog::take(const Faults& faults) {
  const CheckMode mode = this->mode();
  if (mode == CheckMode::raise) return false;
  if (mode == CheckMode::off) return true;
  std::lock_guard lock(mutex_);
  Faults& list = mode == CheckMode::warn ? warnings_ : collected_;
  size_t room = kMost - std::min(kMost, list.size());
  list.insert(list.end(), faults.begin(), faults.begin() + static_cast<long>(std::min(room, faults.size())));
  if (mode == CheckMode::warn) any_warning_.store(true, std::memory_order_release);
  return true;
}

void FaultLog::lose(std::shared_ptr<const Failure> failure) {
  std::lock_guard lock(mutex_);
  if (!loss_) loss_ = std::move(failure);
  lost_.store(true, std::memory_order_release);
}

void FaultLog::refuse(const char* operation) const {
  std::lock_guard lock(mutex_);
  loss_->raise(text(operation, ": the device was lost when an earlier command buffer failed: "));
}

Faults FaultLog::collected() const {
  std::lock_guard lock(mutex_);
  return collected_;
}

void FaultLog::clear() {
  std::lock_guard lock(mutex_);
  collected_.clear();
}

Faults FaultLog::warnings() {
  if (!any_warning_.load(std::memory_order_acquire)) return {};
  std::lock_guard lock(mutex_);
  any_warning_.store(false, std::memory_order_relaxed);
  return std::exchange(warnings_, {});
}

}  // namespace metalloid
