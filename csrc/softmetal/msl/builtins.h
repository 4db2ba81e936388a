// The attributes of Metal's kernel arguments.
#pragma once

#include <string_view>

namespace softmetal::msl {

struct Builtin {
  std::string_view name;
  bool position;      // may be a vector of up to three components; else a scalar
  bool in_group;      // its value needs to know the threadgroup
  bool in_simdgroup;  // its value needs to know the SIMD-group or quadgroup
};

// The builtin of that attribute, or null.
const Builtin* find_builtin(std::string_view name);

// Why an attribute that Metal has cannot be used here, or null for one that Metal does not have.
const char* unsupported_attribute(std::string_view name);

// What a type of the standard library that cannot be used here is, or null.
const char* unsupported_type(std::string_view name);

}  // namespace softmetal::msl
