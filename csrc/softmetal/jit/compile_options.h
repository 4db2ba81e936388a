#pragma once

#include <Metal/Metal.hpp>
#include <string>
#include <vector>

#include "softmetal/runtime/foundation.h"

namespace softmetal::jit {

class CompileOptions final : public Object {
 public:
  const char* class_name() const override { return "MTL::CompileOptions"; }
  Object* clone() override;

  // "NAME=value" for each macro, in order of their names; a message when one cannot be defined.
  std::string macros(std::vector<std::string>& defines) const;
  // Zero when there is no such version.
  int metal_version() const;

  Ref<Dictionary> preprocessor_macros;
  MTL::LanguageVersion language_version = MTL::LanguageVersion3_2;
  MTL::MathMode math_mode = MTL::MathModeFast;
  MTL::MathFloatingPointFunctions math_functions = MTL::MathFloatingPointFunctionsFast;
  MTL::LibraryType library_type = MTL::LibraryTypeExecutable;
  MTL::LibraryOptimizationLevel optimization_level = MTL::LibraryOptimizationLevelDefault;
};

}  // namespace softmetal::jit

namespace softmetal {
SOFTMETAL_BRIDGE(MTL::CompileOptions, jit::CompileOptions)
}
