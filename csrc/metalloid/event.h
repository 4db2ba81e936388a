// Numbers that a device and the host raise and wait for: what orders the work of different queues.
#pragma once

#include <cstdint>
#include <memory>

#include "metalloid/forked.h"
#include "metalloid/metal.h"
#include "metalloid/timeline.h"

namespace metalloid {

class Device;

// Safe to use from any thread. Values should only grow.
class Event : public std::enable_shared_from_this<Event> {
 public:
  static std::shared_ptr<Event> create(Device& device);
  ~Event() { abandon_if_forked(event_); }

  Device& device() const { return device_; }
  uint64_t value() const;
  // Throws ValidationError for a value of 0, which every event has from the start.
  void signal(uint64_t value);
  // Waits until it has `value` or a larger one. Throws DeviceError if `timeout` seconds pass first.
  void wait(uint64_t value, std::optional<double> timeout = std::nullopt) const;
  MTL::SharedEvent* metal() const { return event_.get(); }

 private:
  Event(Device& device, NS::SharedPtr<MTL::SharedEvent> event) : device_(device), event_(std::move(event)) {}

  Device& device_;
  NS::SharedPtr<MTL::SharedEvent> event_;
};

// Throws ValidationError, which names `operation`, for a value that no event can be raised to.
void check_event_value(const char* operation, uint64_t value);

}  // namespace metalloid
