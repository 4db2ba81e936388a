#pragma once

#include "NSObject.hpp"

namespace NS {

using ErrorDomain = class String*;
using ErrorUserInfoKey = class String*;

extern const ErrorUserInfoKey LocalizedDescriptionKey;
extern const ErrorUserInfoKey LocalizedFailureReasonErrorKey;

class Error : public Copying<Error> {
 public:
  static Error* error(ErrorDomain domain, Integer code, class Dictionary* pDictionary);
  static Error* alloc();

  Error* init();
  Error* init(ErrorDomain domain, Integer code, class Dictionary* pDictionary);

  Integer code() const;
  ErrorDomain domain() const;
  class Dictionary* userInfo() const;
  class String* localizedDescription() const;
  class String* localizedFailureReason() const;
};

}  // namespace NS
