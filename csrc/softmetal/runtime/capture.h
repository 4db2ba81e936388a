#pragma once

#include <atomic>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/foundation.h"

namespace softmetal {

class CaptureDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::CaptureDescriptor"; }
  Object* clone() override;
  Ref<Object> object;
  Ref<URL> url;
  MTL::CaptureDestination destination = MTL::CaptureDestinationDeveloperTools;
};
SOFTMETAL_BRIDGE(MTL::CaptureDescriptor, CaptureDescriptor)

class CaptureManager final : public Object {
 public:
  CaptureManager() { make_immortal(); }
  static CaptureManager& get();
  const char* class_name() const override { return "MTL::CaptureManager"; }

  bool start(const CaptureDescriptor* descriptor, NS::Error** error);

  std::atomic<bool> pretends{false};
  std::atomic<bool> capturing{false};
};
SOFTMETAL_BRIDGE(MTL::CaptureManager, CaptureManager)

}  // namespace softmetal
