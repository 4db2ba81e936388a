// A folder on disk that nobody else may write to, for what the process will trust when it reads it back.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

namespace metalloid {

// A file descriptor that is closed with it.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

inline bool only_ours(const struct stat& status) {
  return status.st_uid == geteuid() && !(status.st_mode & (S_IWGRP | S_IWOTH));
}

// Opens the folder, which is made with what leads to it when there is none; else says what is wrong with it.
inline std::string open_private_folder(const std::string& directory, Descriptor& opened) {
  const std::filesystem::path path(directory);
  std::error_code failed;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), failed);
  if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return std::string("cannot be made: ") + std::strerror(errno);
  // A link is fine when it is ours; somebody else's could lead anywhere tomorrow.
  struct stat status;
  if (lstat(directory.c_str(), &status) != 0 || status.st_uid != geteuid()) return "belongs to another user";
  Descriptor folder(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return std::string("cannot be opened: ") + std::strerror(errno);
  if (fstat(folder.get(), &status) != 0 || status.st_uid != geteuid()) return "belongs to another user";
  if (!only_ours(status)) return "can be written to by other users, needs mode 0700";
  opened = std::move(folder);
  return {};
}

// Whether others could put another folder in its place; else empty.
inline std::string parent_problem(const std::string& directory) {
  std::filesystem::path path(directory);
  if (!path.has_filename()) path = path.parent_path();
  struct stat status;
  if (stat(path.parent_path().c_str(), &status) != 0)
    return std::string("has no folder: ") + std::strerror(errno);
  const bool theirs = (status.st_mode & (S_IWGRP | S_IWOTH)) && !(status.st_mode & S_ISVTX);
  return theirs ? "is in a folder that other users can write to" : "";
}

}  // namespace metalloid
