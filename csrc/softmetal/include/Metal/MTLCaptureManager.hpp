#pragma once

#include "MTLDefines.hpp"

namespace MTL {

_MTL_ENUM(NS::Integer, CaptureError){
    CaptureErrorNotSupported = 1,
    CaptureErrorAlreadyCapturing = 2,
    CaptureErrorInvalidDescriptor = 3,
};

_MTL_ENUM(NS::Integer, CaptureDestination){
    CaptureDestinationDeveloperTools = 1,
    CaptureDestinationGPUTraceDocument = 2,
};

class CaptureDescriptor : public NS::Copying<CaptureDescriptor> {
 public:
  static CaptureDescriptor* alloc();
  NS::Object* captureObject() const;
  CaptureDestination destination() const;
  CaptureDescriptor* init();
  NS::URL* outputURL() const;
  void setCaptureObject(NS::Object* captureObject);
  void setDestination(MTL::CaptureDestination destination);
  void setOutputURL(const NS::URL* outputURL);
};

// There is no GPU to capture: no destination is supported.
class CaptureManager : public NS::Referencing<CaptureManager> {
 public:
  bool isCapturing() const;
  static CaptureManager* sharedCaptureManager();
  bool startCapture(const MTL::CaptureDescriptor* descriptor, NS::Error** error);
  void stopCapture();
  bool supportsDestination(MTL::CaptureDestination destination);
};

}  // namespace MTL
