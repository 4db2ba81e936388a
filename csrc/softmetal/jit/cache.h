// Compiled libraries on disk: one file each, in a folder that nobody else may write to.
#pragma once

#include <string>

#include "metalloid/private_folder.h"

namespace softmetal::jit {

using metalloid::Descriptor;

class Cache {
 public:
  // Makes the folder when there is none. An empty name keeps nothing.
  explicit Cache(const std::string& directory);

  bool usable() const { return static_cast<bool>(folder_); }
  const std::string& problem() const { return problem_; }  // why it is not usable

  // Where to load the entry from, for as long as this object lives; empty when there is none that is whole.
  std::string find(const std::string& key) const;
  // Keeps a copy of `file`. Does without when there is no room.
  void keep(const std::string& key, const std::string& file) const;

 private:
  std::string directory_, problem_;
  Descriptor folder_;
};

}  // namespace softmetal::jit
