// What the text of a shader tells of its kernels' arguments and Metal's reflection does not.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace metalloid {

// Reads declarations as they are written, without expanding macros. What it does not find or understand, and
// where there is more than one answer, is not known. Reads when it is first asked, which off the Mac nobody
// does. Safe to ask from any thread.
class SourceArguments {
 public:
  struct Argument {
    std::string kernel;  // the function
    std::string name;
    std::string address_space;      // empty: none is written there
    std::optional<uint32_t> index;  // of [[buffer(index)]] or [[threadgroup(index)]], if that is a number
    bool switched = false;          // by [[function_constant()]]
  };

  SourceArguments() = default;
  explicit SourceArguments(std::string source);

  // Whether a function of that name is a kernel.
  bool has(std::string_view kernel) const;
  // "device", "constant" or "threadgroup"; empty: not known. The kernel may be named by [[host_name()]].
  std::string_view address_space(std::string_view kernel, std::string_view argument) const;
  // The arguments of a kernel that function constants may switch off.
  std::vector<Argument> switched(std::string_view kernel) const;

 private:
  struct Declarations;
  const Declarations& declared() const;

  std::shared_ptr<Declarations> declarations_;  // null: of no source
};

}  // namespace metalloid
