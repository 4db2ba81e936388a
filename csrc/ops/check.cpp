#include "ops/check.h"

namespace metalloid::ops {

void Check::output(const Buffer* out, const Shape& shape, const char* why_shape, DType type, const char* like,
                   std::initializer_list<Input> inputs) const {
  if (!out) return;
  device("out", *out);
  same_type("out", *out, type, like);
  same_shape("out", out->shape(), shape, why_shape);
  require(!out->readonly(), "out", "memory that may be written", "is read-only");
  for (const Input& input : inputs) {
    if (!input.buffer) continue;
    Overlap found = overlap(*out, *input.buffer);
    if (found == Overlap::none || (found == Overlap::same && input.in_place)) continue;
    const char* needs =
        input.in_place ? ", needs to be the same buffer or separate memory" : ", needs separate memory";
    const char* got = found == Overlap::same ? ": out is the memory of " : ": out overlaps ";
    throw ValidationError(text(operation_, got, input.name, needs));
  }
}

Buffer output_or_new(Encoder& encoder, const Buffer* out, const Shape& shape, DType type,
                     const Operation& operation) {
  return out ? *out : encoder.output(shape, type, operation.name);
}

}  // namespace metalloid::ops
