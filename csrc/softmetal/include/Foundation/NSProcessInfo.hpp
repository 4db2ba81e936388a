#pragma once

#include "NSObject.hpp"

namespace NS {

class ProcessInfo : public Referencing<ProcessInfo> {
 public:
  static ProcessInfo* processInfo();
  class String* operatingSystemVersionString() const;
};

}  // namespace NS
