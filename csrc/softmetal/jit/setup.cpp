#include "softmetal/jit/setup.h"

#include <dlfcn.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "metalloid/pipeline_cache.h"
#include "softmetal/jit/sha256.h"
#include "softmetal/msl/toolchain.h"
#include "softmetal/runtime/kernel_abi.h"

namespace softmetal::jit {
namespace {

namespace fs = std::filesystem;

// Read by all threads and in forked children, so there is no lock that could be held: who finds at the same
// time finds twice, and the first to be ready is kept. None is freed, as others may be reading it.
struct Known {
  Setup setup;
  Known* older = nullptr;
};
std::atomic<Setup (*)()> finder{nullptr};
std::atomic<Known*> found{nullptr}, retired{nullptr};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// The file that runs for a command's word; empty when there is none.
std::string program(const std::string& word) {
  if (word.find('/') != std::string::npos) return access(word.c_str(), X_OK) == 0 ? word : "";
  const std::string path = variable("PATH");
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string file = (end > begin ? path.substr(begin, end - begin) : ".") + "/" + word;
    struct stat status;
    if (stat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode) && access(file.c_str(), X_OK) == 0)
      return file;
    begin = end + 1;
  }
  return {};
}

// The zig that `python -m ziglang` would run.
std::string zig_of(const std::string& python) {
  const std::string file = program(python);
  if (file.empty()) return {};
  // Where a virtual environment or a Python of its own keeps it; starting Python takes longer than all else.
  const std::string prefix = fs::path(file).parent_path().parent_path();
  std::vector<std::string> places;
  for (const char* lib : {"/lib/python3*/site-packages", "/lib64/python3*/site-packages"}) {
    glob_t matches{};
    if (glob((prefix + lib + "/ziglang/zig").c_str(), 0, nullptr, &matches) == 0)
      places.insert(places.end(), matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
    globfree(&matches);
  }
  if (places.size() == 2 && fs::equivalent(places[0], places[1])) places.pop_back();
  if (places.size() != 1) {
    const auto answer = msl::run_process(
        {file, "-c", "import ziglang, os; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))"}, {},
        60);
    if (!answer.ok()) return {};
    places = {answer.output.substr(0, answer.output.find('\n'))};
  }
  return access(places[0].c_str(), X_OK) == 0 ? places[0] : "";
}

// Calls zig itself instead of the Python that only starts it: sooner, and with a file that tells its version.
std::vector<std::string> without_python(std::vector<std::string> command) {
  if (command.size() < 3 || command[1] != "-m" || command[2] != "ziglang") return command;
  const std::string zig = zig_of(command[0]);
  if (zig.empty()) return command;
  command.erase(command.begin(), command.begin() + 2);
  command[0] = zig;
  return command;
}

std::vector<std::string> find_compiler() {
  if (const std::string named = variable("METALLOID_SHADER_CXX"); !named.empty())
    return msl::split_command(named);
  const auto works = [](const std::vector<std::string>& command) {
    return !program(command[0]).empty() && msl::detect_toolchain(command).error.empty();
  };
  std::vector<std::string> names = {"clang++"};
  for (int version = 40; version >= 16; --version) names.push_back("clang++-" + std::to_string(version));
  for (const std::string& name : names)
    if (works({name})) return {name};
  if (const std::string zig = zig_of("python3"); !zig.empty()) return {zig, "c++"};
  if (works({"g++"})) return {"g++"};
  return {};
}

Setup search() {
  Setup result;
  result.compiler = find_compiler();
  if (result.compiler.empty())
    result.missing =
        "there is no C++ compiler to compile it with: `pip install 'metalloid[jit]'` brings one; clang++ 16 "
        "or "
        "newer and g++ 12 or newer on PATH will do as well, as does the command in METALLOID_SHADER_CXX";
  const std::string sources = variable("METALLOID_SOURCE_DIR");
  result.headers = sources.empty() ? SOFTMETAL_RUNTIME_DIRECTORY : sources + "/csrc";
  if (const char* chosen = std::getenv("METALLOID_CACHE_DIR")) {
    result.cache = chosen;  // perhaps nowhere
  } else if (const std::string caches = metalloid::user_caches(); !caches.empty()) {
    result.cache = caches + "/metalloid";
  }
  return result;
}

void add_status(Sha256& hash, const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return;
  std::error_code failed;
  hash.field(fs::canonical(path, failed).string());
  hash.field(static_cast<uint64_t>(status.st_size));
  hash.field(static_cast<uint64_t>(status.st_mtim.tv_sec));
  hash.field(static_cast<uint64_t>(status.st_mtim.tv_nsec));
}

void add_headers(Sha256& hash, const std::string& directory) {
  std::vector<fs::path> files = {fs::path(directory) / "softmetal/runtime/kernel_abi.h"};
  for (const char* folder : {"softmetal/msl", "softmetal/msl/stdlib"}) {
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator(fs::path(directory) / folder, failed))
      if (entry.path().extension() == ".h" || entry.path().filename() == "support.cpp")
        files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    std::ifstream stream(file, std::ios::binary);
    hash.field(file.string());
    std::ostringstream text;
    text << stream.rdbuf();
    hash.field(text.str());
  }
}

std::string identify(const Setup& setup) {
  Sha256 hash;
  hash.field(METALLOID_VERSION);
  hash.field(uint64_t{SOFTMETAL_ABI_VERSION});
  // The translator is part of this binary, and changes between builds of one version.
  Dl_info self{};
  dladdr(reinterpret_cast<const void*>(&identify), &self);
  add_status(hash, self.dli_fname && access(self.dli_fname, F_OK) == 0 ? self.dli_fname : "/proc/self/exe");
  for (const std::string& word : setup.compiler) {
    hash.field(word);
    if (word[0] != '-') add_status(hash, program(word));
  }
  add_headers(hash, setup.headers);
  return hex(hash.digest());
}

}  // namespace

void set_finder(Setup (*find)()) {
  finder = find;
  Known* old = found.exchange(nullptr);
  if (!old) return;
  old->older = retired.load();
  while (!retired.compare_exchange_weak(old->older, old)) {
  }
}

const Setup& setup() {
  if (const Known* known = found.load()) return known->setup;
  Setup (*const find)() = finder.load();
  auto made = std::make_unique<Known>(Known{find ? find() : search()});
  made->setup.compiler = without_python(std::move(made->setup.compiler));
  made->setup.identity = identify(made->setup);
  Known* first = nullptr;
  return found.compare_exchange_strong(first, made.get()) ? made.release()->setup : first->setup;
}

}  // namespace softmetal::jit
