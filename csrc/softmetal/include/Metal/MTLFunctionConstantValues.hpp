#pragma once

#include "MTLDataType.hpp"

namespace MTL {

class FunctionConstantValues : public NS::Copying<FunctionConstantValues> {
 public:
  static FunctionConstantValues* alloc();
  FunctionConstantValues* init();
  void reset();
  void setConstantValue(const void* value, MTL::DataType type, NS::UInteger index);
  void setConstantValue(const void* value, MTL::DataType type, const NS::String* name);
  // A bool takes one byte, a three-component vector the space of four.
  void setConstantValues(const void* values, MTL::DataType type, NS::Range range);
};

}  // namespace MTL
