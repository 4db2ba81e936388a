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

_MTL_ENUM(NS::Integer, LibraryType){
    LibraryTypeExecutable = 0,
    LibraryTypeDynamic = 1,
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
