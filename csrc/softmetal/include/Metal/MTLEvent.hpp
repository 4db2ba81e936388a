#pragma once

#include <cstdint>
#include <functional>

#include "MTLDefines.hpp"

namespace MTL {

class Device;
class SharedEvent;

using SharedEventNotificationFunction = std::function<void(SharedEvent* pEvent, std::uint64_t value)>;

class Event : public NS::Referencing<Event> {
 public:
  Device* device() const;
  NS::String* label() const;
  void setLabel(const NS::String* label);
};

class SharedEventListener : public NS::Referencing<SharedEventListener> {
 public:
  static SharedEventListener* alloc();
  SharedEventListener* init();
  static SharedEventListener* sharedListener();
};

class SharedEvent : public NS::Referencing<SharedEvent, Event> {
 public:
  void notifyListener(const MTL::SharedEventListener* listener, uint64_t value,
                      const MTL::SharedEventNotificationFunction& function);
  void setSignaledValue(uint64_t signaledValue);
  uint64_t signaledValue() const;
  // The waiting thread runs committed work; true if the value was reached in time.
  bool waitUntilSignaledValue(uint64_t value, uint64_t milliseconds);
};

}  // namespace MTL
