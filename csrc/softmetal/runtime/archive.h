#pragma once

#include <set>
#include <string>

#include <Metal/Metal.hpp>

#include "softmetal/runtime/device.h"

namespace softmetal {

class PipelineDescriptor;

class ArchiveDescriptor final : public Object {
 public:
  const char* class_name() const override { return "MTL::BinaryArchiveDescriptor"; }
  Object* clone() override;
  Ref<URL> url;
};
SOFTMETAL_BRIDGE(MTL::BinaryArchiveDescriptor, ArchiveDescriptor)

class Archive final : public Object {
 public:
  explicit Archive(Device& owner) : device(owner) {}
  // Empty, or what the file holds.
  static Archive* create(Device& device, const ArchiveDescriptor* descriptor, NS::Error** error);
  const char* class_name() const override { return "MTL::BinaryArchive"; }

  bool add(const PipelineDescriptor* descriptor, NS::Error** error);
  bool has(const PipelineDescriptor& descriptor) const;
  bool write(const std::string& path, NS::Error** error) const;

  Device& device;
  std::string label;

 private:
  std::string read(const std::string& path);  // what is wrong with it

  std::set<std::string> functions_;
};
SOFTMETAL_BRIDGE(MTL::BinaryArchive, Archive)

}  // namespace softmetal
