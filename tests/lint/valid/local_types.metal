// Classes in functions and without a name.
#include <metal_stdlib>
using namespace metal;

kernel void local_types(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  struct Slot {
    float value;
    uint key;
  };
  struct Best {
    float value, sum;
    Best operator+(Best b) const { return {max(value, b.value), sum + b.sum}; }
  };
  threadgroup Slot slots[4];
  threadgroup struct {
    float values[64];
    uint count;
  } shared;
  slots[0].value = 1;
  shared.values[0] = slots[0].value;
  shared.count = slots[0].key;
  Best best = {x[i], 1};
  best = best + best;
  array<Best, 4> all;
  all[0] = best;
  x[i] = simd_shuffle(best.value, ushort(i)) + all[0].sum + shared.values[0];
}
