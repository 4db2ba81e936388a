#include "metalloid/pipeline_cache.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/file.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <string_view>
#include <thread>

#include "metalloid/error.h"

#ifndef METALLOID_VERSION
#define METALLOID_VERSION "unknown"
#endif

namespace metalloid {

namespace {

constexpr std::string_view kStart = "pipelines-", kEnd = ".metalarchive", kPartial = ".partial-pipelines-";
constexpr off_t kMostBytes = off_t{64} << 20;
constexpr size_t kMostFiles = 8;              // of all devices, versions and libraries
constexpr std::time_t kAbandoned = 3600;      // seconds after which nobody writes to a partial file any more
constexpr std::chrono::seconds kPatience{2};  // for another process that writes

// FNV-1a: against accidents. Who could forge a file here is the user.
class Sum {
 public:
  void update(const void* data, size_t bytes) {
    const auto* at = static_cast<const unsigned char*>(data);
    for (size_t i = 0; i < bytes; ++i) value_ = (value_ ^ at[i]) * 0x100000001b3;
  }
  void field(const std::string& text) { update(text.c_str(), text.size() + 1); }
  std::string hex() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value_));
    return digits;
  }

 private:
  uint64_t value_ = 0xcbf29ce484222325;
};

std::string identity_of(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return path;
  return text(path, ' ', status.st_size, ' ', status.st_mtime);
}

// The sum of a file that is ours and of a sensible size. If there is none, `error` says whether the system
// failed, or it is 0.
std::optional<std::string> sum_of(int folder, const std::string& name, int& error) {
  error = 0;
  const Descriptor file(openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status;
  if (!file || fstat(file.get(), &status) != 0) {
    error = errno;
    return {};
  }
  if (!S_ISREG(status.st_mode) || !only_ours(status)) return {};
  if (status.st_size == 0 || status.st_size > kMostBytes) return {};
  Sum sum;
  std::vector<char> piece(1 << 16);
  for (;;) {
    const ssize_t count = read(file.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      error = errno;
      return {};
    }
    if (count == 0) return sum.hex();
    sum.update(piece.data(), static_cast<size_t>(count));
  }
}

// Whether a file that could not be read for this reason may be whole.
bool may_pass(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO || error == EACCES;
}

struct File {
  std::string name;
  std::time_t used;
};

// Those whose names begin and end so, the one used last first.
std::vector<File> files_in(int folder, std::string_view start, std::string_view end) {
  std::vector<File> files;
  const int listed = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* entries = listed < 0 ? nullptr : fdopendir(listed);
  if (!entries) {
    if (listed >= 0) close(listed);
    return files;
  }
  while (const dirent* entry = readdir(entries)) {
    const std::string_view name = entry->d_name;
    struct stat status;
    if (name.starts_with(start) && name.ends_with(end) &&
        fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0)
      files.push_back({std::string(name), status.st_mtime});
  }
  closedir(entries);
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) {
    return a.used != b.used ? a.used > b.used : a.name < b.name;
  });
  return files;
}

// Held while one process writes; the folder itself is what is locked.
class Turn {
 public:
  explicit Turn(const std::string& directory)
      : folder_(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (folder_ && flock(folder_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EINTR && (errno != EWOULDBLOCK || std::chrono::steady_clock::now() > deadline)) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    taken_ = static_cast<bool>(folder_);
  }
  bool taken() const { return taken_; }

 private:
  Descriptor folder_;
  bool taken_ = false;
};

// Said in so many words, or worth it: where a pipeline is not compiled, nothing is saved.
bool is_wanted(const MTL::Device* device) {
  const char* chosen = std::getenv("METALLOID_PIPELINE_CACHE");
  if (chosen && *chosen) return std::string_view(chosen) != "0";
  return device->maximumConcurrentCompilationTaskCount() > 0;
}

}  // namespace

std::string cache_folder() {
  std::string folder;
  if (const char* chosen = std::getenv("METALLOID_CACHE_DIR")) {
    folder = chosen;
  } else if (folder = user_caches(); !folder.empty()) {
    folder += "/metalloid";
  }
  std::error_code failed;
  return folder.empty() ? folder : std::filesystem::absolute(folder, failed).string();
}

PipelineCache::PipelineCache(MTL::Device* device, std::string path)
    : device_(device), path_(std::move(path)) {}

std::string PipelineCache::key() const {
  Dl_info binary{};
  dladdr(reinterpret_cast<const void*>(&cache_folder), &binary);
  Sum sum;
  sum.field(METALLOID_VERSION);
  sum.field(identity_of(binary.dli_fname ? binary.dli_fname : ""));
  sum.field(identity_of(path_));
  sum.field(to_string(device_->name()));
  sum.field(to_string(device_->architecture()->name()));
  sum.field(to_string(NS::ProcessInfo::processInfo()->operatingSystemVersionString()));
  return sum.hex();
}

void PipelineCache::open() {
  opened_ = true;
  if (!is_wanted(device_)) return;
  directory_ = cache_folder();
  if (directory_.empty() || !open_private_folder(directory_, folder_).empty()) return;
  if (!parent_problem(directory_).empty()) return;
  prefix_ = std::string(kStart) + key() + "-";
  loaded_ = newest();
  archive_ = load(loaded_);
}

std::string PipelineCache::newest() const {
  for (const File& file : files_in(folder_.get(), prefix_, kEnd)) {
    int error = 0;
    const std::optional<std::string> sum = sum_of(folder_.get(), file.name, error);
    if (sum && file.name == prefix_ + *sum + std::string(kEnd)) return file.name;
    if (!may_pass(error)) unlinkat(folder_.get(), file.name.c_str(), 0);
  }
  return {};
}

NS::SharedPtr<MTL::BinaryArchive> PipelineCache::make_archive(const std::string& file) const {
  auto descriptor = NS::TransferPtr(MTL::BinaryArchiveDescriptor::alloc()->init());
  if (!file.empty()) descriptor->setUrl(NS::URL::fileURLWithPath(ns_string(file).get()));
  NS::Error* error = nullptr;
  return NS::TransferPtr(device_->newBinaryArchive(descriptor.get(), &error));
}

NS::SharedPtr<MTL::BinaryArchive> PipelineCache::load(const std::string& name) const {
  if (!name.empty()) {
    if (NS::SharedPtr<MTL::BinaryArchive> archive = make_archive(directory_ + "/" + name)) {
      utimensat(folder_.get(), name.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);  // used now
      return archive;
    }
    unlinkat(folder_.get(), name.c_str(), 0);
  }
  return make_archive({});
}

bool PipelineCache::add(MTL::BinaryArchive* archive, const MTL::ComputePipelineDescriptor* descriptor) const {
  NS::Error* error = nullptr;
  return archive->addComputePipelineFunctions(descriptor, &error);
}

NS::SharedPtr<MTL::ComputePipelineState> PipelineCache::make(MTL::ComputePipelineDescriptor* descriptor,
                                                             MTL::PipelineOption options,
                                                             MTL::ComputePipelineReflection** reflection) {
  std::lock_guard lock(mutex_);
  if (!opened_) open();
  if (!archive_) return {};
  bool found = false;
  const auto find = [&] {
    NS::Error* error = nullptr;
    *reflection = nullptr;
    descriptor->setBinaryArchives(NS::Array::array(archive_.get()));
    auto state = NS::TransferPtr(device_->newComputePipelineState(
        descriptor, options | MTL::PipelineOptionFailOnBinaryArchiveMiss, reflection, &error));
    descriptor->setBinaryArchives(nullptr);
    found = static_cast<bool>(state);
    // Without its reflection a pipeline is of no use here.
    if (!*reflection) state.reset();
    return state;
  };
  auto state = find();
  if (state) {
    ++hits_;
  } else if (!found && add(archive_.get(), descriptor)) {
    added_.push_back(NS::TransferPtr(descriptor->copy()));
    ++added_count_;
    state = find();  // compiled once: for the file
  }
  return state;
}

void PipelineCache::save() {
  // A thread that is gone in the child of a fork may have held it.
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock || !archive_ || added_.empty()) return;
  AutoreleaseScope scope;
  const Turn turn(directory_);
  if (turn.taken()) write();
}

void PipelineCache::write() {
  if (const std::string now = newest(); now != loaded_ && !now.empty()) {
    // Another process was here. Theirs and ours:
    if (NS::SharedPtr<MTL::BinaryArchive> theirs = load(now)) {
      for (const auto& descriptor : added_) add(theirs.get(), descriptor.get());
      archive_ = std::move(theirs);
      loaded_ = now;
    }
  }
  static std::atomic<unsigned> count{0};
  const std::string own =
      text(kPartial, static_cast<long>(getpid()), '-', count.fetch_add(1, std::memory_order_relaxed));
  const std::string partial = own + "/archive";
  remove_partial(own);  // of a process that had our number
  // Metal makes files that the umask may let others open, so in a folder where they cannot.
  if (mkdirat(folder_.get(), own.c_str(), S_IRWXU) != 0) return;
  NS::Error* error = nullptr;
  const bool written =
      archive_->serializeToURL(NS::URL::fileURLWithPath(ns_string(directory_ + "/" + partial).get()), &error);
  const mode_t mode = S_IRUSR | S_IWUSR;
  int reason = 0;
  std::optional<std::string> sum;
  if (written && fchmodat(folder_.get(), partial.c_str(), mode, 0) == 0)
    sum = sum_of(folder_.get(), partial, reason);
  const std::string name = sum ? prefix_ + *sum + std::string(kEnd) : "";
  // All at once, for whoever else reads or writes now.
  const bool named = sum && renameat(folder_.get(), partial.c_str(), folder_.get(), name.c_str()) == 0;
  remove_partial(own);
  if (!named) return;
  added_.clear();
  loaded_ = name;
  sweep(name);
}

void PipelineCache::sweep(const std::string& kept) const {
  const auto remove = [&](const File& file) { unlinkat(folder_.get(), file.name.c_str(), 0); };
  size_t others = 0;
  for (const File& file : files_in(folder_.get(), kStart, kEnd)) {
    if (file.name == kept) continue;
    if (file.name.starts_with(prefix_) || ++others >= kMostFiles) remove(file);
  }
  const std::time_t now = std::time(nullptr);
  for (const File& file : files_in(folder_.get(), kPartial, "")) {
    if (now - file.used > kAbandoned) remove_partial(file.name);
  }
}

void PipelineCache::remove_partial(const std::string& name) const {
  std::error_code failed;
  std::filesystem::remove_all(directory_ + "/" + name, failed);
}

}  // namespace metalloid
