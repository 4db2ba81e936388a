#include "metalloid/command_buffer_error.h"

namespace metalloid {

namespace {

struct Row {
  MTL::CommandBufferError code;
  CommandBufferError error;
};

constexpr CommandBufferError kUnknown{"", "", false};

constexpr Row kRows[] = {
    {MTL::CommandBufferErrorInternal, {"internal", "", false}},
    {MTL::CommandBufferErrorTimeout,
     {"timeout", "it kept the GPU longer than the system allows; commit less work at a time", false}},
    {MTL::CommandBufferErrorPageFault,
     {"page_fault",
      "a kernel left the memory of its buffers; run it on the device \"simt\", which says where", false}},
    {MTL::CommandBufferErrorAccessRevoked,
     {"access_revoked",
      "too much of this process's work has failed, and the system runs none of it any more; start a new "
      "process",
      true}},
    {MTL::CommandBufferErrorNotPermitted,
     {"not_permitted", "the system does not let this process use the GPU now, as in the background", false}},
    {MTL::CommandBufferErrorOutOfMemory,
     {"out_of_memory",
      "the device has no memory left for it; drop buffers, call Device.empty_cache(), or commit less work at "
      "a time",
      false}},
    {MTL::CommandBufferErrorInvalidResource,
     {"invalid_resource", "it uses memory that Metal does not know any more", false}},
    {MTL::CommandBufferErrorMemoryless, {"memoryless", "", false}},
    {MTL::CommandBufferErrorDeviceRemoved,
     {"device_removed", "the device is gone; start a new process", true}},
    {MTL::CommandBufferErrorStackOverflow,
     {"stack_overflow", "a kernel calls functions deeper than its stack goes", false}},
};

}  // namespace

const CommandBufferError& describe_command_buffer_error(const NS::Error* error) {
  if (!error || to_string(error->domain()) != "MTLCommandBufferErrorDomain") return kUnknown;
  for (const Row& row : kRows) {
    if (static_cast<NS::Integer>(row.code) == error->code()) return row.error;
  }
  return kUnknown;
}

}  // namespace metalloid
