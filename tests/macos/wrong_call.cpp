// Calls that Apple's metal-cpp does not have. tools/macos/check_sources.py compiles this as it is, which must
// work, and with METALLOID_WRONG_CALLS, which must give the error beside each call and no other.
#include "metalloid/metal.h"

#include <charconv>

namespace metalloid {

void right_calls(MTL::Device* device, MTL::ComputeCommandEncoder* encoder, const MTL::Buffer* buffer) {
  device->newBuffer(NS::UInteger{16}, MTL::ResourceStorageModeShared)->release();
  encoder->setBuffer(buffer, 0, 1);
  encoder->dispatchThreads(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
}

#ifdef METALLOID_WRONG_CALLS
void wrong_calls(MTL::Device* device, MTL::ComputeCommandEncoder* encoder, const MTL::Buffer* buffer) {
  encoder->setBuffer(buffer, 0);                      // error: no matching member function
  encoder->setBuffer(device, 0, 1);                   // error: no matching member function
  encoder->dispatchThreads(MTL::Size(1, 1, 1), 32);   // error: no viable conversion from 'int'
  encoder->dispatchThread(MTL::Size(1, 1, 1));        // error: no member named 'dispatchThread'
  MTL::Texture* texture = device->newBuffer(16, {});  // error: cannot initialize a variable
  static_cast<void>(texture);
}

// Not Metal's, but as silent a trap: libc++ has it from macOS 26 on.
double no_number(const char* begin, const char* end) {
  double number = 0;
  std::from_chars(begin, end, number);  // error: call to deleted function 'from_chars'
  return number;
}
#endif

}  // namespace metalloid
