#include "softmetal/jit/cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>
#include <vector>

#include "softmetal/jit/sha256.h"

namespace softmetal::jit {
namespace {

// What follows the shared object in its file: proof that all of it is there. The loader looks no further than
// the object's own headers say.
struct Seal {
  char magic[16] = {'s', 'o', 'f', 't', 'm', 'e', 't', 'a', 'l', ' ', 's', 'e', 'a', 'l', '1', '\n'};
  Sha256::Digest digest{};
};

constexpr const char* kPartial = ".partial-";
constexpr time_t kAbandoned = 3600;  // seconds after which nobody writes to a partial file any more

bool read_all(int fd, void* data, size_t bytes, off_t offset) {
  auto* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t count = pread(fd, at, bytes, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    at += count, bytes -= static_cast<size_t>(count), offset += count;
  }
  return true;
}

bool write_all(int fd, const void* data, size_t bytes) {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t count = write(fd, at, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    at += count, bytes -= static_cast<size_t>(count);
  }
  return true;
}

// Feeds the first `bytes` of a file to `use`, piece by piece; false when they are not all there.
template <class Use>
bool for_pieces(int fd, size_t bytes, Use use) {
  std::vector<char> piece(std::min<size_t>(bytes, 1 << 16));
  for (size_t done = 0; done < bytes;) {
    const size_t count = std::min(piece.size(), bytes - done);
    if (!read_all(fd, piece.data(), count, static_cast<off_t>(done)) || !use(piece.data(), count))
      return false;
    done += count;
  }
  return true;
}

bool is_whole(int fd, off_t size) {
  const Seal expected;
  Seal seal;
  const off_t bytes = size - static_cast<off_t>(sizeof seal);
  if (bytes <= 0 || !read_all(fd, &seal, sizeof seal, bytes)) return false;
  if (std::memcmp(seal.magic, expected.magic, sizeof seal.magic) != 0) return false;
  Sha256 hash;
  const bool read = for_pieces(fd, static_cast<size_t>(bytes), [&](const char* data, size_t count) {
    hash.update(data, count);
    return true;
  });
  return read && hash.digest() == seal.digest;
}

// Removes what writers left behind that were killed.
void sweep(int folder) {
  const int listed = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* entries = listed < 0 ? nullptr : fdopendir(listed);
  if (!entries) {
    if (listed >= 0) close(listed);
    return;
  }
  const time_t now = time(nullptr);
  while (const dirent* entry = readdir(entries)) {
    struct stat status;
    if (std::strncmp(entry->d_name, kPartial, std::strlen(kPartial)) == 0 &&
        fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        now - status.st_mtime > kAbandoned)
      unlinkat(folder, entry->d_name, 0);
  }
  closedir(entries);
}

}  // namespace

Cache::Cache(const std::string& directory) : directory_(directory) {
  const std::string why =
      directory_.empty() ? "no folder is set" : metalloid::open_private_folder(directory_, folder_);
  if (!why.empty()) problem_ = directory_.empty() ? why : "\"" + directory_ + "\" " + why;
}

std::string Cache::find(const std::string& key) const {
  if (!folder_) return {};
  const std::string name = key + ".so";
  const Descriptor file(openat(folder_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status;
  if (!file || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || !metalloid::only_ours(status))
    return {};
  if (!is_whole(file.get(), status.st_size)) return {};
  // Through the descriptor, so that this is the folder that was looked at, whatever its name means by now.
  const std::string through = "/proc/self/fd/" + std::to_string(folder_.get()) + "/" + name;
  return access(through.c_str(), R_OK) == 0 ? through : directory_ + "/" + name;
}

void Cache::keep(const std::string& key, const std::string& file) const {
  if (!folder_) return;
  const Descriptor from(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (!from || fstat(from.get(), &status) != 0) return;
  sweep(folder_.get());
  static std::atomic<unsigned> count{0};
  const std::string partial =
      kPartial + std::to_string(getpid()) + "-" + std::to_string(count++) + "-" + key.substr(0, 16);
  const Descriptor to(
      openat(folder_.get(), partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!to) return;
  Sha256 hash;
  bool written = for_pieces(from.get(), static_cast<size_t>(status.st_size), [&](const char* data, size_t n) {
    hash.update(data, n);
    return write_all(to.get(), data, n);
  });
  Seal seal;
  seal.digest = hash.digest();
  written = written && write_all(to.get(), &seal, sizeof seal);
  // All at once, for whoever else reads or writes the entry now.
  if (!written || renameat(folder_.get(), partial.c_str(), folder_.get(), (key + ".so").c_str()) != 0)
    unlinkat(folder_.get(), partial.c_str(), 0);
}

}  // namespace softmetal::jit
