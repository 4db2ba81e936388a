// Metal, and the two things that every user of metal-cpp needs beside it.
#pragma once

#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <string>

namespace metalloid {

// Objects that Metal autoreleases inside the scope go away at its end; no thread of ours has a pool of its
// own.
class AutoreleaseScope {
 public:
  AutoreleaseScope() : pool_(NS::AutoreleasePool::alloc()->init()) {}
  ~AutoreleaseScope() { pool_->release(); }
  AutoreleaseScope(const AutoreleaseScope&) = delete;
  AutoreleaseScope& operator=(const AutoreleaseScope&) = delete;

 private:
  NS::AutoreleasePool* pool_;
};

inline NS::SharedPtr<NS::String> ns_string(const std::string& utf8) {
  return NS::TransferPtr(NS::String::alloc()->init(utf8.c_str(), NS::UTF8StringEncoding));
}

// The text of a string that may be null.
inline std::string to_string(const NS::String* string) {
  const char* utf8 = string ? string->utf8String() : nullptr;
  return utf8 ? utf8 : "";
}

}  // namespace metalloid
