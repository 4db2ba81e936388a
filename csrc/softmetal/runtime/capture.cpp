#include "softmetal/runtime/capture.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "softmetal/runtime/softmetal.h"

namespace softmetal {

Object* CaptureDescriptor::clone() {
  auto* made = new CaptureDescriptor;
  made->object = object;
  made->url = url;
  made->destination = destination;
  return made;
}

CaptureManager& CaptureManager::get() {
  static auto* const manager = new CaptureManager;
  return *manager;
}

void pretend_captures(bool on) { CaptureManager::get().pretends.store(on); }

bool CaptureManager::start(const CaptureDescriptor* descriptor, NS::Error** error) {
  const auto refuse = [&](MTL::CaptureError code, const std::string& why) {
    fail(error, "MTLCaptureErrorDomain", code, "startCapture: " + why);
    return false;
  };
  if (!pretends) return refuse(MTL::CaptureErrorNotSupported, "there is no GPU to capture");
  if (!descriptor || !descriptor->object || !descriptor->url ||
      descriptor->destination != MTL::CaptureDestinationGPUTraceDocument)
    return refuse(MTL::CaptureErrorInvalidDescriptor,
                  "descriptor lacks a captureObject, an outputURL or a document as destination");
  if (capturing.exchange(true)) return refuse(MTL::CaptureErrorAlreadyCapturing, "a capture is on already");
  if (mkdir(descriptor->url->path.c_str(), 0777) == 0) return true;
  const int reason = errno;
  capturing.store(false);
  return refuse(MTL::CaptureErrorInvalidDescriptor,
                "\"" + descriptor->url->path + "\" cannot be made: " + std::strerror(reason));
}

}  // namespace softmetal

namespace MTL {

using softmetal::face;
using softmetal::impl;

CaptureDescriptor* CaptureDescriptor::alloc() { return face(new softmetal::CaptureDescriptor); }
NS::Object* CaptureDescriptor::captureObject() const { return face(impl(this)->object.get()); }
CaptureDestination CaptureDescriptor::destination() const { return impl(this)->destination; }
CaptureDescriptor* CaptureDescriptor::init() { return this; }
NS::URL* CaptureDescriptor::outputURL() const { return face(impl(this)->url.get()); }
void CaptureDescriptor::setCaptureObject(NS::Object* captureObject) {
  impl(this)->object = impl(captureObject);
}
void CaptureDescriptor::setDestination(MTL::CaptureDestination destination) {
  impl(this)->destination = destination;
}
void CaptureDescriptor::setOutputURL(const NS::URL* outputURL) { impl(this)->url = impl(outputURL); }

bool CaptureManager::isCapturing() const { return impl(this)->capturing; }
CaptureManager* CaptureManager::sharedCaptureManager() { return face(&softmetal::CaptureManager::get()); }
bool CaptureManager::startCapture(const MTL::CaptureDescriptor* descriptor, NS::Error** error) {
  return impl(this)->start(impl(descriptor), error);
}
void CaptureManager::stopCapture() {
  if (!impl(this)->capturing.exchange(false))
    softmetal::report_misuse("CaptureManager::stopCapture: no capture is on, needs startCapture first");
}
bool CaptureManager::supportsDestination(MTL::CaptureDestination destination) {
  return impl(this)->pretends && destination == CaptureDestinationGPUTraceDocument;
}

}  // namespace MTL
