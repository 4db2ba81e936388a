// What the checker finds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace softmetal::simt {

struct ThreadPlace {
  uint32_t threadgroup[3] = {};
  uint32_t thread[3] = {};  // thread_position_in_threadgroup
  uint32_t simdgroup = 0;
  uint32_t lane = 0;
  uint64_t dispatch = 0;  // place in the command buffer, from 0
};

struct Location {
  std::string file;
  uint32_t line = 0;
  std::string code;  // that line
};

// One of the two sides of a fault.
struct Side {
  ThreadPlace thread;
  Location location;
  std::string action;  // "writes", "reads atomically", "waits", ...
};

struct Fault {
  std::string kind;  // a name of the table in docs/checker.md
  std::string kernel;
  std::string label;          // of the encoder, and its debug groups, separated by slashes
  std::string variable;       // argument or threadgroup variable; empty when it is none
  std::string address_space;  // "device", "constant", "threadgroup" or empty
  int64_t offset = 0;         // bytes from the first bound byte, or from the start of the variable
  int64_t element = 0;
  uint64_t bytes = 0;
  Side first;
  bool has_second = false;
  Side second;          // what it conflicts with
  std::string message;  // one line
  uint64_t count = 1;
  uint64_t seed = 0;
  bool fatal = false;  // ended the dispatch

  std::string text() const;  // all of it, several lines
};

}  // namespace softmetal::simt
