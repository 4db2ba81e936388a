#pragma once

#include "MTLDefines.hpp"

namespace MTL {

class FunctionConstantValues;

class FunctionDescriptor : public NS::Copying<FunctionDescriptor> {
 public:
  static FunctionDescriptor* alloc();
  FunctionConstantValues* constantValues() const;
  static FunctionDescriptor* functionDescriptor();
  FunctionDescriptor* init();
  NS::String* name() const;
  void setConstantValues(const MTL::FunctionConstantValues* constantValues);
  void setName(const NS::String* name);
  void setSpecializedName(const NS::String* specializedName);
  NS::String* specializedName() const;
};

}  // namespace MTL
