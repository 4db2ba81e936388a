// The device's code of pipelines, kept on disk so that the next process need not compile it.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "metalloid/metal.h"
#include "metalloid/private_folder.h"

namespace metalloid {

// The folder to keep files in: METALLOID_CACHE_DIR, else the user's of this system. Empty: keep nothing.
std::string cache_folder();
// Where this system has the caches of the user; empty where it does not say. csrc/softmetal implements it off
// the Mac, and the build picks.
std::string user_caches();

// A Metal binary archive in the user's cache folder. A file is named after what makes it invalid and by the
// sum of its own bytes, so what is damaged is never shown to Metal. Whatever goes wrong with it costs time
// and nothing else.
class PipelineCache {
 public:
  // Of the functions of the library at `path`.
  PipelineCache(MTL::Device* device, std::string path);
  PipelineCache(const PipelineCache&) = delete;
  PipelineCache& operator=(const PipelineCache&) = delete;

  // As MTL::Device::newComputePipelineState, with an autoreleased reflection; null where the cache is no
  // help.
  NS::SharedPtr<MTL::ComputePipelineState> make(MTL::ComputePipelineDescriptor* descriptor,
                                                MTL::PipelineOption options,
                                                MTL::ComputePipelineReflection** reflection);
  // Writes what is new, and what other processes have written meanwhile, to the file. To be called at the
  // end.
  void save();

  // What has become of the calls of make().
  uint64_t hits() const { return hits_; }
  uint64_t added() const { return added_count_; }

 private:
  void open();
  std::string key() const;
  // The newest file that is whole; deletes those that are not, but not what cannot be read now. Empty: there
  // is none.
  std::string newest() const;
  NS::SharedPtr<MTL::BinaryArchive> load(const std::string& name) const;
  NS::SharedPtr<MTL::BinaryArchive> make_archive(const std::string& file) const;
  bool add(MTL::BinaryArchive* archive, const MTL::ComputePipelineDescriptor* descriptor) const;
  void write();
  // Deletes the files of this cache but `kept`, and those that nobody has used for long.
  void sweep(const std::string& kept) const;
  void remove_partial(const std::string& name) const;

  MTL::Device* const device_;
  const std::string path_;
  std::mutex mutex_;
  bool opened_ = false;
  std::string directory_, prefix_;
  Descriptor folder_;
  std::string loaded_;  // the file
  NS::SharedPtr<MTL::BinaryArchive> archive_;
  std::vector<NS::SharedPtr<MTL::ComputePipelineDescriptor>> added_;  // since it was written
  uint64_t hits_ = 0, added_count_ = 0;
};

}  // namespace metalloid
