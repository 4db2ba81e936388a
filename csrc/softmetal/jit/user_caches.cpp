#include <cstdlib>

#include "metalloid/pipeline_cache.h"

namespace metalloid {

// As the XDG Base Directory Specification says.
std::string user_caches() {
  const char* caches = std::getenv("XDG_CACHE_HOME");
  if (caches && *caches) return caches;
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.cache" : "";
}

}  // namespace metalloid
