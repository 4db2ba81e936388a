#include "softmetal/msl/translate.h"

namespace softmetal::msl {
namespace {

std::string json(const std::string& text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (code < 32) {
      out += std::string("\\u00") + kHex[code >> 4] + kHex[code & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace

std::string reflection_json(const std::vector<KernelReflection>& kernels) {
  std::string out = "[";
  const char* kernel_separator = "\n";
  for (const KernelReflection& k : kernels) {
    out += kernel_separator + std::string("  {\"name\": ") + json(k.name) +
           ", \"function\": " + json(k.function) + ", \"mode\": " + json(k.mode) +
           ", \"max_threads_per_threadgroup\": " + json(k.max_threads_per_threadgroup) +
           ", \"uses_threadgroup\": " + (k.uses_threadgroup ? "true" : "false") + ", \"builtins\": [";
    const char* comma = "";
    for (const std::string& builtin : k.builtins) {
      out += comma + json(builtin);
      comma = ", ";
    }
    out +=
        "], \"file\": " + json(k.file) + ", \"line\": " + std::to_string(k.line) + ",\n   \"arguments\": [";
    const char* separator = "\n";
    for (const ArgumentReflection& a : k.arguments) {
      out += separator + std::string("     {\"name\": ") + json(a.name) + ", \"kind\": " + json(a.kind) +
             ", \"index\": " + json(a.index) + ", \"type\": " + json(a.type_name) +
             ", \"address_space\": " + json(a.address_space) + ", \"access\": " + json(a.access) +
             ", \"is_reference\": " + (a.is_reference ? "true" : "false");
      if (!a.active_constant.empty()) out += ", \"active_constant\": " + json(a.active_constant);
      out += "}";
      separator = ",\n";
    }
    out += "],\n   \"constants\": [";
    separator = "\n";
    for (const ConstantReflection& c : k.constants) {
      out += separator + std::string("     {\"name\": ") + json(c.name) + ", \"index\": " + json(c.index) +
             ", \"type\": " + json(c.type_name) + ", \"required\": " + (c.required ? "true" : "false") + "}";
      separator = ",\n";
    }
    out += "]}";
    kernel_separator = ",\n";
  }
  return out + "\n]\n";
}

}  // namespace softmetal::msl
