#include "metalloid/capture.h"

#include <filesystem>
#include <mutex>
#include <system_error>

#include "metalloid/forked.h"

namespace metalloid {

namespace {

constexpr auto kDocument = MTL::CaptureDestinationGPUTraceDocument;

std::mutex mutex;
bool on = false;

void check_path(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path wanted(path);
  std::error_code failed;
  if (wanted.extension() != ".gputrace") {
    throw ValidationError(text("capture: path is \"", path, "\", needs one that ends in .gputrace"));
  }
  const fs::path folder = fs::absolute(wanted, failed).parent_path();
  if (!fs::is_directory(folder, failed)) {
    throw ValidationError(
        text("capture: the folder of path, \"", folder.string(), "\", is not there, needs one that is"));
  }
  if (fs::symlink_status(wanted, failed).type() != fs::file_type::not_found) {
    throw ValidationError(text("capture: path is \"", path, "\", which is there already, needs a new one"));
  }
}

}  // namespace

void start_capture(Device& device, const std::string& path) {
  AutoreleaseScope scope;
  check_path(path);
  refuse_forked("capture");
  std::lock_guard lock(mutex);
  MTL::CaptureManager* manager = MTL::CaptureManager::sharedCaptureManager();
  if (on || (manager && manager->isCapturing())) {
    throw Error("capture: another capture is on, needs that to end first");
  }
  if (!manager || !manager->supportsDestination(kDocument)) {
    if (device.name() != "metal") {
      throw DeviceError(text("capture: device is \"", device.name(), "\", and captures are made of Metal ",
                             "devices; metalloid.trace() tells what ran when on this one"));
    }
    throw DeviceError(
        "capture: Metal does not let this process be captured, needs MTL_CAPTURE_ENABLED=1 in its "
        "environment when it starts, or MetalCaptureEnabled in the Info.plist of its application");
  }
  auto descriptor = NS::TransferPtr(MTL::CaptureDescriptor::alloc()->init());
  descriptor->setCaptureObject(device.metal());
  descriptor->setDestination(kDocument);
  std::error_code failed;
  const std::string absolute = std::filesystem::absolute(path, failed).string();
  descriptor->setOutputURL(NS::URL::fileURLWithPath(ns_string(absolute).get()));
  NS::Error* error = nullptr;
  if (!manager->startCapture(descriptor.get(), &error)) {
    throw DeviceError(text("capture: ", describe(error, "Metal gave no reason")));
  }
  on = true;
}

void stop_capture() {
  AutoreleaseScope scope;
  std::lock_guard lock(mutex);
  if (!on) throw Error("capture: there is none to stop, needs one that was started");
  on = false;
  MTL::CaptureManager* manager = MTL::CaptureManager::sharedCaptureManager();
  // Metal may have ended it by itself.
  if (manager->isCapturing()) manager->stopCapture();
}

}  // namespace metalloid
