// What a user may choose about checked runs.
#pragma once

#include <cstdint>

namespace softmetal::simt {

struct Settings {
  bool enabled = true;
  bool non_finite = false;   // also report where NaN or Inf first appears
  uint64_t seed = 0;         // of the order of threadgroups, SIMD-groups and lanes; 0: as they are numbered
  double time_limit = 10.0;  // seconds that one threadgroup may take; 0: as long as it likes
};

// At first as METALLOID_CHECK (on, off), METALLOID_CHECK_NAN (1), METALLOID_SEED and METALLOID_TIME_LIMIT
// say. Holds for dispatches that begin to run later.
Settings settings();
void set_settings(const Settings& settings);

}  // namespace softmetal::simt
