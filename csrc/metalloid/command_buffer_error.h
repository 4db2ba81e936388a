// Metal's errors of command buffers, in words.
#pragma once

#include <string_view>

#include "metalloid/metal.h"

namespace metalloid {

struct CommandBufferError {
  std::string_view name;    // what Python sees as DeviceError.code
  std::string_view advice;  // empty: there is none that always fits
  bool lost;                // the device takes no work of this process any more
};

// Of an error of a command buffer; without a name for codes that are newer than this, or of another domain.
const CommandBufferError& describe_command_buffer_error(const NS::Error* error);

}  // namespace metalloid
