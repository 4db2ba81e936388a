// What becomes of pipelines between processes, and of files that are not what they should be.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#ifdef __linux__
#include <sys/inotify.h>
#endif
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core_support.h"
#include "metalloid/pipeline_cache.h"

namespace fs = std::filesystem;
using namespace metalloid;

namespace {

// A folder for the cache, which is switched on. The code under test asks for both when it opens a cache.
class Place {
 public:
  Place() {
    char name[] = "/tmp/metalloid-pipelines-XXXXXX";
    top_ = mkdtemp(name);
    folder = top_ / "cache";
    setenv("METALLOID_CACHE_DIR", folder.c_str(), 1);
    setenv("METALLOID_PIPELINE_CACHE", "1", 1);
  }
  ~Place() {
    unsetenv("METALLOID_PIPELINE_CACHE");
    unsetenv("METALLOID_CACHE_DIR");
    std::error_code failed;
    fs::permissions(folder, fs::perms::owner_all, failed);
    fs::remove_all(top_, failed);
  }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    if (!fs::exists(folder)) return found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path());
    return found;
  }
  fs::path file() const {
    REQUIRE(files().size() == 1);
    return files()[0];
  }

  fs::path folder;

 private:
  fs::path top_;
};

// What a process does: its own cache, and a library that makes its pipelines with it.
struct Process {
  explicit Process(std::string path = library_path())
      : cache(device().metal(), std::move(path)), library(Library::load(device(), library_path())) {
    library->keep_pipelines(cache);
  }
  void make(std::initializer_list<const char*> kernels) {
    for (const char* kernel : kernels) CHECK(library->pipeline(kernel).max_threads > 0);
  }

  PipelineCache cache;
  std::unique_ptr<Library> library;
};

// The hits of a process that makes two pipelines and then ends.
uint64_t hits() {
  Process process;
  process.make({"rms_norm_f32", "silu_mul_f32"});
  process.cache.save();
  return process.cache.hits();
}

void write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

#ifndef __APPLE__

// The same file under the name that its bytes ask for: whole, as far as the core can tell.
void rename_for_contents(const fs::path& path, const std::string& bytes) {
  uint64_t sum = 0xcbf29ce484222325;
  for (const char byte : bytes) sum = (sum ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(sum));
  const std::string name = path.filename().string();
  fs::remove(path);
  write(path.parent_path() / (name.substr(0, name.rfind('-') + 1) + digits + ".metalarchive"), bytes);
}

#endif

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_CASE("the second process finds what the first has compiled, and writes nothing") {
  Place place;
  CHECK(hits() == 0);
  const fs::path file = place.file();
  CHECK(file.filename().string().starts_with("pipelines-"));
  struct stat status;
  REQUIRE(stat(file.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  REQUIRE(stat(place.folder.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
  CHECK(hits() == 2);
  CHECK(place.file() == file);
}

TEST_CASE("what is new is added to what there was, and replaces the file") {
  Place place;
  hits();
  const fs::path before = place.file();
  {
    Process process;
    process.make({"rms_norm_f32", "gelu_mul_f32"});
    CHECK(process.cache.hits() == 1);
    CHECK(process.cache.added() == 1);
    process.cache.save();
  }
  CHECK(place.file() != before);
  Process process;
  process.make({"rms_norm_f32", "silu_mul_f32", "gelu_mul_f32"});
  CHECK(process.cache.hits() == 3);
}

TEST_CASE("kernels run the same from the cache") {
  Place place;
  for (int i = 0; i < 2; ++i) {
    Process process;
    const Pipeline& pipeline = process.library->pipeline("rms_norm_f32");
    CHECK(process.cache.hits() == static_cast<uint64_t>(i));
    CHECK(pipeline.state->supportIndirectCommandBuffers() == device().has_indirect_commands());
    process.cache.save();
  }
}

TEST_CASE("a pipeline that comes without its reflection is added once") {
  Place place;
  PipelineCache cache(device().metal(), "");
  AutoreleaseScope scope;
  auto library = NS::TransferPtr(device().metal()->newLibrary(ns_string(library_path()).get(), nullptr));
  if (!library) return;  // the kernels are there as source only
  auto function = NS::TransferPtr(library->newFunction(MTLSTR("rms_norm_f32")));
  auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
  descriptor->setComputeFunction(function.get());
  for (int i = 0; i < 2; ++i) {
    MTL::ComputePipelineReflection* reflection = nullptr;
    CHECK_FALSE(cache.make(descriptor.get(), MTL::PipelineOptionNone, &reflection));
  }
  CHECK(cache.added() == 1);
  CHECK(cache.hits() == 0);
}

TEST_CASE("what cannot be written leaves nothing behind") {
  Place place;
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit none{0, before.rlim_max};
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &none) == 0);
  hits();
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  signal(SIGXFSZ, handler);
  CHECK(fs::exists(place.folder));
  CHECK(place.files().empty());
}

#ifdef __linux__

TEST_CASE("nobody else can open a file before it is complete") {
  Place place;
  hits();
  const int watch = inotify_init1(IN_NONBLOCK);
  REQUIRE(inotify_add_watch(watch, place.folder.c_str(), IN_CREATE) >= 0);
  Process process;
  process.make({"gelu_mul_f32"});
  process.cache.save();
  // Files are made elsewhere and moved to the folder.
  alignas(inotify_event) char events[4096];
  const ssize_t bytes = ::read(watch, events, sizeof events);
  REQUIRE(bytes > 0);
  for (ssize_t at = 0; at < bytes;) {
    const auto* event = reinterpret_cast<const inotify_event*>(events + at);
    CHECK((event->mask & IN_ISDIR) != 0);
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  ::close(watch);
}

#endif

TEST_CASE("damaged files are deleted, and the pipelines made") {
  const auto damage = [](const std::function<void(const fs::path&, const std::string&)>& how) {
    Place place;
    hits();
    const fs::path file = place.file();
    how(file, read(file));
    CHECK(hits() == 0);
    CHECK_FALSE(read(place.file()).empty());
    CHECK(hits() == 2);
  };
  SUBCASE("truncated") {
    damage([](const auto& file, const auto& bytes) { write(file, bytes.substr(0, bytes.size() / 2)); });
  }
  SUBCASE("one bit") {
    damage([](const auto& file, auto bytes) {
      bytes[bytes.size() / 2] ^= 4;
      write(file, bytes);
    });
  }
  SUBCASE("random bytes") {
    damage([](const auto& file, const auto&) { write(file, "no archive at all, however long it is"); });
  }
  SUBCASE("no bytes") {
    damage([](const auto& file, const auto&) { write(file, ""); });
  }
  SUBCASE("a link to elsewhere") {
    damage([](const auto& file, const auto&) {
      fs::remove(file);
      fs::create_symlink("/etc/hostname", file);
    });
  }
  SUBCASE("others may write to it") {
    damage([](const auto& file, const auto&) { REQUIRE(chmod(file.c_str(), 0666) == 0); });
  }
#ifndef __APPLE__  // the format is softmetal's
  SUBCASE("Metal refuses what the name says is whole") {
    damage([](const auto& file, const auto& bytes) {
      rename_for_contents(file, bytes.substr(0, bytes.size() - 3));
    });
  }
  SUBCASE("Metal refuses another version") {
    damage([](const auto& file, auto bytes) {
      ++bytes[16];
      rename_for_contents(file, bytes);
    });
  }
#endif
}

TEST_CASE("a file that cannot be read now is kept") {
  Place place;
  hits();
  const fs::path file = place.file();
  Process process;
  REQUIRE(chmod(file.c_str(), 0) == 0);
  // Root reads everything, so somebody else has to try.
  const bool root = geteuid() == 0;
  constexpr uid_t kNobody = 65534;
  for (const fs::path& path : {place.folder.parent_path(), place.folder, file}) {
    if (root) REQUIRE(chown(path.c_str(), kNobody, static_cast<gid_t>(-1)) == 0);
  }
  if (root) REQUIRE(seteuid(kNobody) == 0);
  process.make({"rms_norm_f32"});
  if (root) REQUIRE(seteuid(0) == 0);
  CHECK(process.cache.hits() == 0);
  CHECK(process.cache.added() == 1);
  CHECK(fs::exists(file));
}

TEST_CASE("where a file cannot be replaced there is no harm") {
  Place place;
  hits();
  SUBCASE("a folder in its place") {
    const fs::path file = place.file();
    fs::remove(file);
    fs::create_directory(file);
    write(file / "inside", "x");
    CHECK(hits() == 0);
    CHECK(fs::exists(file / "inside"));
  }
  SUBCASE("a file in the folder's place") {
    fs::remove_all(place.folder);
    write(place.folder, "x");
    CHECK(hits() == 0);
    CHECK(read(place.folder) == "x");
  }
  SUBCASE("a folder to which nobody may write") {
    fs::permissions(place.folder, fs::perms::owner_read | fs::perms::owner_exec);
    const fs::path file = place.file();
    CHECK(hits() == 2);
    Process process;
    process.make({"gelu_mul_f32"});
    process.cache.save();
    if (geteuid() != 0) CHECK(place.file() == file);
  }
  SUBCASE("a folder to which everybody may write") {
    REQUIRE(chmod(place.folder.c_str(), 0777) == 0);
    CHECK(hits() == 0);
  }
  SUBCASE("a folder that others could put another in the place of") {
    REQUIRE(chmod(place.folder.parent_path().c_str(), 0777) == 0);
    CHECK(hits() == 0);
    REQUIRE(chmod(place.folder.parent_path().c_str(), 01777) == 0);
    CHECK(hits() == 2);
    CHECK(parent_problem("/tmp/").empty());
  }
  SUBCASE("no folder is wanted") {
    setenv("METALLOID_CACHE_DIR", "", 1);
    CHECK(hits() == 0);
  }
}

TEST_CASE("it can be switched off, and is where nothing is compiled") {
  Place place;
  setenv("METALLOID_PIPELINE_CACHE", "0", 1);
  CHECK(hits() == 0);
  CHECK(place.files().empty());
  unsetenv("METALLOID_PIPELINE_CACHE");
  hits();
  CHECK(place.files().empty() == (device().metal()->maximumConcurrentCompilationTaskCount() == 0));
}

TEST_CASE("another library has a file of its own") {
  Place place;
  hits();
  Process other("/etc/hostname");
  other.make({"rms_norm_f32"});
  CHECK(other.cache.hits() == 0);
  other.cache.save();
  CHECK(place.files().size() == 2);
  CHECK(hits() == 2);
}

TEST_CASE("what nobody has used for long goes, and so do the remains of writers") {
  Place place;
  fs::create_directory(place.folder);
  REQUIRE(chmod(place.folder.c_str(), 0700) == 0);
  const timespec long_ago[2] = {{1'000'000, 0}, {1'000'000, 0}};
  for (int i = 0; i < 20; ++i) {
    const fs::path old = place.folder / ("pipelines-0-" + std::to_string(i) + ".metalarchive");
    write(old, "x");
    utimensat(AT_FDCWD, old.c_str(), long_ago, 0);
  }
  const fs::path partial = place.folder / ".partial-pipelines-1-1",
                 fresh = place.folder / ".partial-pipelines-2";
  fs::create_directory(partial);
  write(partial / "archive", "x");
  write(fresh, "x");
  write(place.folder / "library.so", "x");
  utimensat(AT_FDCWD, partial.c_str(), long_ago, 0);
  hits();
  CHECK_FALSE(fs::exists(partial));
  CHECK(fs::exists(fresh));
  CHECK(fs::exists(place.folder / "library.so"));
  CHECK(place.files().size() == 8 + 2);
  CHECK(hits() == 2);
}

#ifndef __APPLE__  // where Metal is of no use in the child of a fork

TEST_CASE("processes that write at the same time keep what each has compiled") {
  Place place;
  const std::vector<std::vector<const char*>> parts = {
      {"rms_norm_f32"}, {"silu_mul_f32"}, {"gelu_mul_f32"}, {"rms_norm_f16"}};
  std::vector<std::unique_ptr<Process>> processes;
  for (const auto& part : parts) {
    auto& process = processes.emplace_back(std::make_unique<Process>());
    for (const char* kernel : part) process->make({kernel});
  }
  std::vector<pid_t> children;
  for (const auto& process : processes) {
    const pid_t child = fork();
    if (child == 0) {
      process->cache.save();
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  CHECK(place.files().size() == 1);
  Process last;
  for (const auto& part : parts)
    for (const char* kernel : part) last.make({kernel});
  CHECK(last.cache.hits() == 4);
}

TEST_CASE("the child of a fork writes nothing of what its parent has compiled") {
  Place place;
  const auto ends_well = [](const std::function<bool()>& work) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      _exit(work() ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    return status == 0;
  };
  // In a child, as the device keeps its cache for as long as the process.
  CHECK(ends_well([&] {
    device().library().pipeline("rms_norm_f32");
    const bool child_ended = ends_well([&] {
      Device::finish_all(std::chrono::milliseconds(0));
      return true;
    });
    const bool wrote = !place.files().empty();
    Device::finish_all(std::chrono::milliseconds(0));
    return child_ended && !wrote && place.files().size() == 1;
  }));
}

#endif

TEST_CASE("a process that holds the folder is not waited for for ever") {
  Place place;
  hits();
  const int held = ::open(place.folder.c_str(), O_RDONLY | O_DIRECTORY);
  REQUIRE(flock(held, LOCK_EX) == 0);
  Process process;
  process.make({"gelu_mul_f32"});
  process.cache.save();
  ::close(held);
  CHECK(hits() == 2);
}
