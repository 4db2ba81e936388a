// The subset of Apple's Foundation that Metal's compute API needs, with
// Apple's names, signatures and ownership rules: what new*, alloc and copy* return is
// the caller's to release, everything else is autoreleased or borrowed.
#pragma once

#include <cstddef>
#include <cstdint>

#define _NS_ENUM(type, name) enum name : type
#define _NS_OPTIONS(type, name) \
  using name = type;            \
  enum : name
#define _NS_PACKED __attribute__((packed))

using CFTimeInterval = double;

namespace NS {

using TimeInterval = double;
using Integer = std::intptr_t;
using UInteger = std::uintptr_t;

const Integer IntegerMax = INTPTR_MAX;
const Integer IntegerMin = INTPTR_MIN;
const UInteger UIntegerMax = UINTPTR_MAX;

_NS_ENUM(Integer, ComparisonResult){
    OrderedAscending = -1L,
    OrderedSame,
    OrderedDescending,
};

const Integer NotFound = IntegerMax;

struct Range {
  static Range Make(UInteger loc, UInteger len) { return Range(loc, len); }

  Range(UInteger loc, UInteger len) : location(loc), length(len) {}

  bool Equal(const Range& range) const { return location == range.location && length == range.length; }
  bool LocationInRange(UInteger loc) const { return loc >= location && loc - location < length; }
  UInteger Max() const { return location + length; }

  UInteger location;
  UInteger length;
} _NS_PACKED;

}  // namespace NS
