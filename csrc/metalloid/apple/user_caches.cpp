#include <cstdlib>

#include "metalloid/pipeline_cache.h"

namespace metalloid {

std::string user_caches() {
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/Library/Caches" : "";
}

}  // namespace metalloid
