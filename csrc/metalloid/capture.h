// Metal's own recording of what a device runs, for Xcode to open.
#pragma once

#include <string>

#include "metalloid/device.h"

namespace metalloid {

// Begins to write what `device` is given from now on to `path`, which ends in .gputrace, must not be there
// yet, and whose folder must. One capture at a time. Throws Error and ValidationError for these, DeviceError
// where the device cannot be captured.
void start_capture(Device& device, const std::string& path);
// Ends it. Throws Error if there is none.
void stop_capture();

}  // namespace metalloid
