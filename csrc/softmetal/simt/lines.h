// From addresses in a shared object to lines of source, by its DWARF 4 debugging information.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace softmetal::simt {

struct Frame {
  std::string file;
  uint32_t line = 0;
  std::string function;  // unqualified; empty where the information has no name
};

class Lines {
 public:
  // Reads the whole file; finds nothing in one that does not exist or makes no sense.
  explicit Lines(const std::string& shared_object);

  // What the instruction at `address`, counted from the load address, belongs to: the innermost place first,
  // then the calls that were inlined around it.
  std::vector<Frame> find(uint64_t address) const;

 private:
  friend class DwarfReader;

  static constexpr uint32_t kNone = UINT32_MAX;

  struct Row {
    uint64_t address;
    uint32_t file;  // into files_
    uint32_t line;
    bool end;  // the first address past a sequence
  };
  // A function, or a call of one that was inlined.
  struct Scope {
    uint64_t low, high;
    uint32_t depth;
    uint32_t name;  // into names_
    uint32_t call_file = kNone, call_line = 0;
    bool inlined = false;
  };

  std::vector<Row> rows_;  // by address
  std::vector<Scope> scopes_;
  std::vector<std::string> files_, names_;
};

}  // namespace softmetal::simt
