// What tests of the core share: buffers of one value on the default device.
#pragma once

#include <algorithm>
#include <cmath>

#include "metalloid/device.h"

namespace metalloid {

inline Device& device() { return Device::open(); }

inline float* floats(const Buffer& buffer) { return reinterpret_cast<float*>(buffer.address()); }

inline Buffer filled(const Shape& shape, float value) {
  Buffer buffer = device().empty(shape, DType::float32);
  std::fill_n(floats(buffer), buffer.size(), value);
  return buffer;
}

inline bool all_near(const Buffer& buffer, float value) {
  buffer.wait_to_read();
  return std::all_of(floats(buffer), floats(buffer) + buffer.size(),
                     [&](float v) { return std::abs(v - value) < 1e-4f; });
}

}  // namespace metalloid
