#pragma once

#include "NSObject.hpp"

namespace NS {

// File URLs only.
class URL : public Copying<URL> {
 public:
  static URL* fileURLWithPath(const class String* pPath);
  static URL* alloc();

  URL* init();
  URL* init(const class String* pString);
  URL* initFileURLWithPath(const class String* pPath);

  const char* fileSystemRepresentation() const;
};

}  // namespace NS
