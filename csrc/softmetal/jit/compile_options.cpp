#include "softmetal/jit/compile_options.h"

#include <algorithm>
#include <cctype>

namespace softmetal::jit {

Object* CompileOptions::clone() {
  auto* made = new CompileOptions;
  made->preprocessor_macros = preprocessor_macros;
  made->language_version = language_version;
  made->math_mode = math_mode;
  made->math_functions = math_functions;
  made->library_type = library_type;
  made->optimization_level = optimization_level;
  return made;
}

// A name, perhaps with parameters in parentheses.
static bool is_macro_name(const std::string& name) {
  const auto in_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  const auto end = std::find_if_not(name.begin(), name.end(), in_name);
  if (end == name.begin() || std::isdigit(static_cast<unsigned char>(name[0]))) return false;
  return end == name.end() || (*end == '(' && name.back() == ')' && name.find('\n') == std::string::npos);
}

std::string CompileOptions::macros(std::vector<std::string>& defines) const {
  if (!preprocessor_macros) return {};
  for (const auto& [key, value] : preprocessor_macros->items) {
    const auto* name = dynamic_cast<const String*>(key.get());
    const std::string shown = key->describe();
    if (!name || !is_macro_name(name->value))
      return text("macro \"%s\" has no name that can be defined", shown.c_str());
    const auto* words = dynamic_cast<const String*>(value.get());
    const auto* number = dynamic_cast<const Value*>(value.get());
    if (!words && (!number || number->kind == Value::Kind::Pointer))
      return text("macro \"%s\" is given a %s, needs an NS::String or NS::Number", shown.c_str(),
                  value->class_name());
    const std::string meaning = value->describe();
    if (meaning.find_first_of(std::string("\n\0", 2)) != std::string::npos)
      return text("macro \"%s\" is given more than one line, needs one", shown.c_str());
    defines.push_back(name->value + "=" + meaning);
  }
  std::sort(defines.begin(), defines.end());
  return {};
}

int CompileOptions::metal_version() const {
  const auto major = static_cast<int>(language_version >> 16),
             minor = static_cast<int>(language_version & 0xffff);
  static constexpr int kLastMinor[] = {-1, 2, 4, 2, 0};
  const bool known = major >= 1 && major <= 4 && minor <= kLastMinor[major];
  return known ? major * 100 + minor * 10 : 0;
}

}  // namespace softmetal::jit

namespace MTL {

using softmetal::face;
using softmetal::impl;

CompileOptions* CompileOptions::alloc() { return face(new softmetal::jit::CompileOptions); }
CompileOptions* CompileOptions::init() { return this; }
bool CompileOptions::fastMathEnabled() const { return impl(this)->math_mode != MathModeSafe; }
LanguageVersion CompileOptions::languageVersion() const { return impl(this)->language_version; }
LibraryType CompileOptions::libraryType() const { return impl(this)->library_type; }
MathFloatingPointFunctions CompileOptions::mathFloatingPointFunctions() const {
  return impl(this)->math_functions;
}
MathMode CompileOptions::mathMode() const { return impl(this)->math_mode; }
LibraryOptimizationLevel CompileOptions::optimizationLevel() const { return impl(this)->optimization_level; }
NS::Dictionary* CompileOptions::preprocessorMacros() const {
  return face(impl(this)->preprocessor_macros.get());
}
void CompileOptions::setFastMathEnabled(bool fastMathEnabled) {
  impl(this)->math_mode = fastMathEnabled ? MathModeFast : MathModeSafe;
  impl(this)->math_functions =
      fastMathEnabled ? MathFloatingPointFunctionsFast : MathFloatingPointFunctionsPrecise;
}
void CompileOptions::setLanguageVersion(MTL::LanguageVersion languageVersion) {
  impl(this)->language_version = languageVersion;
}
void CompileOptions::setLibraryType(MTL::LibraryType libraryType) { impl(this)->library_type = libraryType; }
void CompileOptions::setMathFloatingPointFunctions(
    MTL::MathFloatingPointFunctions mathFloatingPointFunctions) {
  impl(this)->math_functions = mathFloatingPointFunctions;
}
void CompileOptions::setMathMode(MTL::MathMode mathMode) { impl(this)->math_mode = mathMode; }
void CompileOptions::setOptimizationLevel(MTL::LibraryOptimizationLevel optimizationLevel) {
  impl(this)->optimization_level = optimizationLevel;
}
void CompileOptions::setPreprocessorMacros(const NS::Dictionary* preprocessorMacros) {
  impl(this)->preprocessor_macros = impl(preprocessorMacros);
}

}  // namespace MTL
