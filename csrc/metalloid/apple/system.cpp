#include "metalloid/system.h"

#include "metalloid/compile.h"
#include "metalloid/error.h"

namespace metalloid {

namespace {

// Never made; metal-cpp keeps sending to its own classes.
struct Sends : NS::Object {
  template <class Result>
  static Result send(const void* object, const char* selector) {
    return sendMessage<Result>(object, sel_registerName(selector));
  }
};

}  // namespace

const void* bytes_of(const NS::Data* data) { return Sends::send<const void*>(data, "bytes"); }

Language language() {
  AutoreleaseScope scope;
  const NS::OperatingSystemVersion version = NS::ProcessInfo::processInfo()->operatingSystemVersion();
  const long major = version.majorVersion, minor = version.minorVersion;
  return {newest_language(major), text("macOS ", major, '.', minor)};
}

bool survives_forks() { return false; }

}  // namespace metalloid
