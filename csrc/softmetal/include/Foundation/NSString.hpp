#pragma once

#include "NSObject.hpp"

namespace NS {

// UTF-8 and its subset ASCII are what this implementation reads and writes.
_NS_ENUM(NS::UInteger, StringEncoding){
    ASCIIStringEncoding = 1,
    UTF8StringEncoding = 4,
};

using unichar = unsigned short;

class String : public Copying<String> {
 public:
  static String* string();
  static String* string(const String* pString);
  static String* string(const char* pString, StringEncoding encoding);
  static String* alloc();

  String* init();
  String* init(const String* pString);
  String* init(const char* pString, StringEncoding encoding);
  String* init(void* pBytes, UInteger len, StringEncoding encoding, bool freeBuffer);

  // Counted in UTF-16 units, as in Foundation.
  unichar character(UInteger index) const;
  UInteger length() const;

  const char* cString(StringEncoding encoding) const;
  const char* utf8String() const;
  UInteger maximumLengthOfBytes(StringEncoding encoding) const;
  UInteger lengthOfBytes(StringEncoding encoding) const;

  bool isEqualToString(const String* pString) const;
  const char* fileSystemRepresentation() const;
  String* stringByAppendingString(const String* pString) const;
  ComparisonResult caseInsensitiveCompare(const String* pString) const;
};

}  // namespace NS

namespace softmetal {
NS::String* constant_string(const char* text);
}

// One string per place of use, never released.
#define MTLSTR(literal)                                                            \
  ([]() -> NS::String* {                                                           \
    static NS::String* const constant = softmetal::constant_string("" literal ""); \
    return constant;                                                               \
  }())
