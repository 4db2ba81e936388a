#include "softmetal/simt/settings.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace softmetal::simt {

namespace {

void complain(const char* name, const char* value, const char* needs) {
  std::fprintf(stderr, "softmetal: %s is \"%s\", needs %s\n", name, value, needs);
}

bool read_switch(const char* name, bool otherwise) {
  const char* value = std::getenv(name);
  if (!value || !*value) return otherwise;
  for (const char* yes : {"1", "on", "true", "yes"})
    if (std::strcmp(value, yes) == 0) return true;
  for (const char* no : {"0", "off", "false", "no"})
    if (std::strcmp(value, no) == 0) return false;
  complain(name, value, "on or off");
  return otherwise;
}

Settings read_environment() {
  Settings settings;
  settings.enabled = read_switch("METALLOID_CHECK", settings.enabled);
  settings.non_finite = read_switch("METALLOID_CHECK_NAN", settings.non_finite);
  if (const char* value = std::getenv("METALLOID_SEED"); value && *value) {
    char* end = nullptr;
    const uint64_t seed = std::strtoull(value, &end, 0);
    if (*end == '\0' && *value != '-')
      settings.seed = seed;
    else
      complain("METALLOID_SEED", value, "a number from 0 to 2^64 - 1");
  }
  if (const char* value = std::getenv("METALLOID_TIME_LIMIT"); value && *value) {
    char* end = nullptr;
    const double limit = std::strtod(value, &end);
    if (*end == '\0' && limit >= 0 && std::isfinite(limit))
      settings.time_limit = limit;
    else
      complain("METALLOID_TIME_LIMIT", value, "seconds, 0 for no limit");
  }
  return settings;
}

std::mutex& mutex() {
  static std::mutex* const mutex = new std::mutex;
  return *mutex;
}

Settings& current() {
  static Settings settings = read_environment();
  return settings;
}

}  // namespace

Settings settings() {
  std::lock_guard lock(mutex());
  return current();
}

void set_settings(const Settings& settings) {
  std::lock_guard lock(mutex());
  current() = settings;
}

}  // namespace softmetal::simt
