#include "softmetal/simt/lines.h"

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

using softmetal::simt::Frame;
using softmetal::simt::Lines;

namespace {

constexpr const char* kSample = SIMT_LINES_SAMPLE;

void note(void* places) {
  static_cast<std::vector<const void*>*>(places)->push_back(__builtin_return_address(0));
}

struct Sample {
  void* handle = dlopen(kSample, RTLD_NOW | RTLD_LOCAL);
  using Visit = void (*)(void (*)(void*), void*, int);
  using VisitPlain = void (*)(void (*)(void*), void*);

  std::vector<uint64_t> places() const {
    std::vector<const void*> found;
    reinterpret_cast<Visit>(dlsym(handle, "visit"))(note, &found, 1);
    reinterpret_cast<VisitPlain>(dlsym(handle, "visit_plain"))(note, &found);
    std::vector<uint64_t> result;
    for (const void* pc : found) {
      Dl_info info{};
      REQUIRE(dladdr(pc, &info));
      result.push_back(reinterpret_cast<uint64_t>(pc) - reinterpret_cast<uint64_t>(info.dli_fbase) - 1);
    }
    return result;
  }
};

std::string contents(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void check(const Frame& frame, const std::string& file, uint32_t line, const std::string& function) {
  CHECK(frame.file.size() >= file.size());
  CHECK(frame.file.substr(frame.file.size() - std::min(file.size(), frame.file.size())) == file);
  CHECK(frame.line == line);
  CHECK(frame.function == function);
}

}  // namespace

TEST_CASE("a place gives its line, and the calls that were inlined around it") {
  const Sample sample;
  REQUIRE(sample.handle);
  const auto places = sample.places();
  REQUIRE(places.size() == 3);
  const Lines lines(kSample);

  const auto deep = lines.find(places[0]);
  REQUIRE(deep.size() == 3);
  check(deep[0], "library.h", 12, "innermost");
  check(deep[1], "kernels/first.metal", 102, "middle");
  check(deep[2], "kernels/first.metal", 202, "visit");

  const auto shallow = lines.find(places[1]);
  REQUIRE(shallow.size() == 2);
  check(shallow[0], "library.h", 12, "innermost");
  check(shallow[1], "kernels/first.metal", 203, "visit");

  const auto plain = lines.find(places[2]);
  REQUIRE(plain.size() == 1);
  check(plain[0], "second.metal", 302, "visit_plain");
}

TEST_CASE("addresses outside of all code give nothing") {
  const Lines lines(kSample);
  CHECK(lines.find(0).empty());
  CHECK(lines.find(UINT64_MAX).empty());
}

TEST_CASE("files without debugging information, and none at all, give nothing") {
  CHECK(Lines("/nonexistent").find(4096).empty());
  CHECK(Lines("/proc/self/cmdline").find(4096).empty());
  CHECK(Lines("/").find(4096).empty());
}

TEST_CASE("damaged files are read without harm") {
  const std::string whole = contents(kSample);
  REQUIRE(whole.size() > 1000);
  char path[] = "/tmp/simt_lines_XXXXXX";
  const int descriptor = mkstemp(path);
  REQUIRE(descriptor >= 0);
  close(descriptor);
  std::mt19937 random(std::random_device{}());
  const Sample sample;
  const auto places = sample.places();
  for (int round = 0; round < 300; ++round) {
    std::string damaged = whole;
    if (round % 3 == 0) damaged.resize(random() % damaged.size());
    for (unsigned i = 0; i < random() % 40 && !damaged.empty(); ++i)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    std::ofstream(path, std::ios::binary) << damaged;
    const Lines lines(path);
    for (uint64_t place : places) CHECK(lines.find(place).size() < 1000);
  }
  unlink(path);
}
