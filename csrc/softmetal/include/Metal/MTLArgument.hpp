#pragma once

#include "MTLDataType.hpp"

namespace MTL {

_MTL_ENUM(NS::Integer, BindingType){
    BindingTypeBuffer = 0,
    BindingTypeThreadgroupMemory = 1,
};

_MTL_ENUM(NS::UInteger, ArgumentType){
    ArgumentTypeBuffer = 0,
    ArgumentTypeThreadgroupMemory = 1,
};

_MTL_ENUM(NS::UInteger, BindingAccess){
    BindingAccessReadOnly = 0,  BindingAccessReadWrite = 1,  BindingAccessWriteOnly = 2,
    ArgumentAccessReadOnly = 0, ArgumentAccessReadWrite = 1, ArgumentAccessWriteOnly = 2,
};

class Type : public NS::Referencing<Type> {
 public:
  DataType dataType() const;
};

class StructMember : public NS::Referencing<StructMember> {
 public:
  DataType dataType() const;
  NS::String* name() const;
  NS::UInteger offset() const;
};

class StructType : public NS::Referencing<StructType, Type> {
 public:
  StructMember* memberByName(const NS::String* name);
  NS::Array* members() const;
};

class PointerType : public NS::Referencing<PointerType, Type> {
 public:
  BindingAccess access() const;
  NS::UInteger alignment() const;
  NS::UInteger dataSize() const;
  StructType* elementStructType();
  DataType elementType() const;
};

class Argument : public NS::Referencing<Argument> {
 public:
  BindingAccess access() const;
  NS::UInteger bufferAlignment() const;
  NS::UInteger bufferDataSize() const;
  DataType bufferDataType() const;
  PointerType* bufferPointerType() const;
  StructType* bufferStructType() const;
  NS::UInteger index() const;
  bool isActive() const;
  NS::String* name() const;
  NS::UInteger threadgroupMemoryAlignment() const;
  NS::UInteger threadgroupMemoryDataSize() const;
  ArgumentType type() const;
};

class Binding : public NS::Referencing<Binding> {
 public:
  BindingAccess access() const;
  NS::UInteger index() const;
  bool isArgument() const;
  bool isUsed() const;
  NS::String* name() const;
  BindingType type() const;
};

class BufferBinding : public NS::Referencing<BufferBinding, Binding> {
 public:
  NS::UInteger bufferAlignment() const;
  NS::UInteger bufferDataSize() const;
  DataType bufferDataType() const;
  PointerType* bufferPointerType() const;
  StructType* bufferStructType() const;
};

class ThreadgroupBinding : public NS::Referencing<ThreadgroupBinding, Binding> {
 public:
  NS::UInteger threadgroupMemoryAlignment() const;
  NS::UInteger threadgroupMemoryDataSize() const;
};

}  // namespace MTL
