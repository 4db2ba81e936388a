#include "metalloid/event.h"

#include "metalloid/device.h"
#include "metalloid/forked.h"
#include "metalloid/trace.h"

namespace metalloid {

void check_event_value(const char* operation, uint64_t value) {
  if (value == 0) throw ValidationError(text(operation, ": value is 0, needs 1 to 2^64 - 1"));
}

std::shared_ptr<Event> Event::create(Device& device) {
  refuse_forked("Device.event");
  AutoreleaseScope scope;
  auto event = NS::TransferPtr(device.metal()->newSharedEvent());
  if (!event) throw DeviceError("Device.event: Metal gave no shared event");
  return std::shared_ptr<Event>(new Event(device, std::move(event)));
}

uint64_t Event::value() const {
  refuse_forked("Event.value");
  return event_->signaledValue();
}

void Event::signal(uint64_t value) {
  check_event_value("Event.signal", value);
  refuse_forked("Event.signal");
  {
    AutoreleaseScope scope;
    event_->setSignaledValue(value);
  }
  if (trace::on()) [[unlikely]]
    trace::mark(trace::Mark::Kind::host_signal, value);
}

void Event::wait(uint64_t value, std::optional<double> timeout) const {
  check_event_value("Event.wait", value);
  refuse_forked("Event.wait");
  std::optional<trace::Waiting> traced;
  if (trace::on()) [[unlikely]]
    traced.emplace(trace::Mark::Kind::host_wait, nullptr, value);
  if (!wait_for_value(event_.get(), value, deadline_in("Event.wait", timeout))) {
    throw DeviceError(
        text("Event.wait: value is ", this->value(), " after ", *timeout, " seconds, not yet ", value));
  }
}

}  // namespace metalloid
