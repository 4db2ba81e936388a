#pragma once

#include "MTLDataType.hpp"

namespace MTL {

class Device;
class Function;
class FunctionConstantValues;
class FunctionDescriptor;

_MTL_ENUM(NS::UInteger, FunctionType){
    FunctionTypeVertex = 1,       FunctionTypeFragment = 2, FunctionTypeKernel = 3, FunctionTypeVisible = 5,
    FunctionTypeIntersection = 6, FunctionTypeMesh = 7,     FunctionTypeObject = 8,
};

_MTL_ENUM(NS::UInteger, LanguageVersion){
    LanguageVersion1_0 = 65536,  LanguageVersion1_1 = 65537,  LanguageVersion1_2 = 65538,
    LanguageVersion2_0 = 131072, LanguageVersion2_1 = 131073, LanguageVersion2_2 = 131074,
    LanguageVersion2_3 = 131075, LanguageVersion2_4 = 131076, LanguageVersion3_0 = 196608,
    LanguageVersion3_1 = 196609, LanguageVersion3_2 = 196610, LanguageVersion4_0 = 262144,
};

_MTL_ENUM(NS::Integer, LibraryType){
    LibraryTypeExecutable = 0,
    LibraryTypeDynamic = 1,
};

_MTL_ENUM(NS::Integer, LibraryOptimizationLevel){
    LibraryOptimizationLevelDefault = 0,
    LibraryOptimizationLevelSize = 1,
};

_MTL_ENUM(NS::Integer, MathMode){
    MathModeSafe = 0,
    MathModeRelaxed = 1,
    MathModeFast = 2,
};

_MTL_ENUM(NS::Integer, MathFloatingPointFunctions){
    MathFloatingPointFunctionsFast = 0,
    MathFloatingPointFunctionsPrecise = 1,
};

_MTL_ENUM(NS::UInteger, LibraryError){
    LibraryErrorUnsupported = 1,    LibraryErrorInternal = 2,         LibraryErrorCompileFailure = 3,
    LibraryErrorCompileWarning = 4, LibraryErrorFunctionNotFound = 5, LibraryErrorFileNotFound = 6,
};

class FunctionConstant : public NS::Referencing<FunctionConstant> {
 public:
  NS::UInteger index() const;
  NS::String* name() const;
  bool required() const;
  DataType type() const;
};

class Function : public NS::Referencing<Function> {
 public:
  Device* device() const;
  NS::Dictionary* functionConstantsDictionary() const;
  FunctionType functionType() const;
  NS::String* label() const;
  NS::String* name() const;
  void setLabel(const NS::String* label);
};

class CompileOptions : public NS::Copying<CompileOptions> {
 public:
  static CompileOptions* alloc();
  bool fastMathEnabled() const;
  CompileOptions* init();
  LanguageVersion languageVersion() const;
  LibraryType libraryType() const;
  MathFloatingPointFunctions mathFloatingPointFunctions() const;
  MathMode mathMode() const;
  LibraryOptimizationLevel optimizationLevel() const;
  NS::Dictionary* preprocessorMacros() const;
  void setFastMathEnabled(bool fastMathEnabled);
  void setLanguageVersion(MTL::LanguageVersion languageVersion);
  // Only executable libraries can be made.
  void setLibraryType(MTL::LibraryType libraryType);
  // The functions are as accurate as the precise ones in any case.
  void setMathFloatingPointFunctions(MTL::MathFloatingPointFunctions mathFloatingPointFunctions);
  // Infinities and NaN are kept in any case, so Relaxed and Fast are the same.
  void setMathMode(MTL::MathMode mathMode);
  // A hint that is not taken.
  void setOptimizationLevel(MTL::LibraryOptimizationLevel optimizationLevel);
  // NS::String to NS::String or NS::Number.
  void setPreprocessorMacros(const NS::Dictionary* preprocessorMacros);
};

class Library : public NS::Referencing<Library> {
 public:
  Device* device() const;
  NS::Array* functionNames() const;
  NS::String* label() const;
  Function* newFunction(const NS::String* functionName);
  Function* newFunction(const NS::String* name, const MTL::FunctionConstantValues* constantValues,
                        NS::Error** error);
  Function* newFunction(const MTL::FunctionDescriptor* descriptor, NS::Error** error);
  void setLabel(const NS::String* label);
  LibraryType type() const;
};

}  // namespace MTL
