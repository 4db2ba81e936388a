// Memory of other libraries, seen through NumPy.
#pragma once

#include "bindings/bindings.h"

namespace metalloid::bindings {

// A NumPy array over the memory of `obj`, without a copy where there is memory to share: NumPy arrays,
// Buffers, DLPack producers, whatever speaks the buffer protocol or NumPy's own. A list or a number becomes
// a new array if `may_copy`. Throws ValidationError for the rest.
nb::object as_numpy(nb::handle obj, const char* operation, bool may_copy);

// The NumPy array over a buffer, which keeps the memory alive. Waits first.
nb::object numpy_view(const Buffer& buffer);

// A new buffer with the contents of `obj`, converted to `dtype` unless that is None.
Buffer copy_to(Device& device, nb::handle obj, nb::handle dtype);
// The memory of `obj`, which is kept alive.
Buffer share(Device& device, nb::handle obj);
// Overwrites `buffer`, converting elements as NumPy assignment does.
void copy_into(const Buffer& buffer, nb::handle obj);

}  // namespace metalloid::bindings
