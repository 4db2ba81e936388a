// Host values as arguments of kernels.
#pragma once

#include <vector>

#include "bindings/bindings.h"
#include "metalloid/kernel.h"

namespace metalloid::bindings {

// A Buffer whose element type is not compared with the kernel's.
struct Reinterpreted {
  Buffer buffer;
};

// The length of a [[threadgroup(n)]] argument.
struct ThreadgroupMemory {
  uint64_t bytes;
};

// A Python or NumPy number; false if `obj` is none.
bool number_from(nb::handle obj, Number& out);

// Encoder.dispatch().
void dispatch(nb::handle encoder, nb::handle kernel, nb::handle threads, nb::handle threadgroups,
              nb::handle grid, nb::handle threadgroup, nb::handle args, nb::handle reads, nb::handle writes,
              nb::handle label);

// What dispatch() would bind for a value of an argument that takes inline bytes. Throws ValidationError.
struct InlineValue {
  uint8_t index;
  std::vector<std::byte> bytes;
};
InlineValue inline_value(const Kernel& kernel, nb::handle argument, nb::handle value);

// Looks up what dispatch() compares types with. To be called when all classes are bound.
void init_dispatch();

}  // namespace metalloid::bindings
