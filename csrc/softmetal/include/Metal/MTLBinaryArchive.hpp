#pragma once

#include "MTLDefines.hpp"

namespace MTL {

class ComputePipelineDescriptor;
class Device;

_MTL_ENUM(NS::UInteger, BinaryArchiveError){
    BinaryArchiveErrorNone = 0,
    BinaryArchiveErrorInvalidFile = 1,
    BinaryArchiveErrorUnexpectedElement = 2,
    BinaryArchiveErrorCompilationFailure = 3,
    BinaryArchiveErrorInternalError = 4,
};

extern const NS::ErrorDomain BinaryArchiveDomain;

class BinaryArchiveDescriptor : public NS::Copying<BinaryArchiveDescriptor> {
 public:
  static BinaryArchiveDescriptor* alloc();
  BinaryArchiveDescriptor* init();
  void setUrl(const NS::URL* url);
  NS::URL* url() const;
};

// Pipelines are made without a compiler here, so an archive has the identities of its functions and no code.
class BinaryArchive : public NS::Referencing<BinaryArchive> {
 public:
  bool addComputePipelineFunctions(const MTL::ComputePipelineDescriptor* descriptor, NS::Error** error);
  Device* device() const;
  NS::String* label() const;
  bool serializeToURL(const NS::URL* url, NS::Error** error);
  void setLabel(const NS::String* label);
};

}  // namespace MTL
