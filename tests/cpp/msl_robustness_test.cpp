// The front end reads files that anybody may hand it: whatever they hold, it answers, and soon.
#include <doctest/doctest.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "softmetal/msl/compile.h"

using namespace softmetal::msl;

namespace {

std::string sample() {
  const auto path = std::filesystem::absolute(__FILE__).parent_path() / "msl" / "constructs.metal";
  std::ifstream stream(path);
  std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  REQUIRE(text.size() > 1000);
  return text;
}

// Translates, and checks what always holds: C++ exactly when there is no error, and every error has a text.
void digest(const std::string& source) {
  const Translation t = translate(source, "f.metal");
  REQUIRE(t.ok() == !t.cpp.empty());
  for (const Diagnostic& d : t.diagnostics) REQUIRE(!d.message.empty());
  reflection_json(t.kernels);
}

// Of the processor's time, whatever else the machine does.
double seconds(const std::string& source) {
  const std::clock_t begin = std::clock();
  digest(source);
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

std::string repeat(const std::string& part, size_t count) {
  std::string out;
  while (count--) out += part;
  return out;
}

}  // namespace

TEST_CASE("every prefix and suffix of a file") {
  const std::string text = sample();
  for (size_t n = 0; n < text.size(); n += 7) {
    digest(text.substr(0, n));
    digest(text.substr(n));
  }
}

TEST_CASE("damaged files") {
  const std::string text = sample();
  std::mt19937 random(1);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  static const char* const pieces[] = {"{",
                                       "}",
                                       "(",
                                       ")",
                                       "[[",
                                       "]]",
                                       "<",
                                       ">",
                                       ">>=",
                                       "::",
                                       ",",
                                       ";",
                                       "=",
                                       "*",
                                       "&",
                                       "template",
                                       "kernel",
                                       "constant",
                                       "threadgroup",
                                       "operator",
                                       "struct",
                                       "namespace",
                                       "#line 0\n",
                                       "# 99999999999 \"x\"\n",
                                       "[[host_name(",
                                       "\"",
                                       "'",
                                       "/*",
                                       "\\",
                                       ".xy",
                                       "0x",
                                       "1e",
                                       "is_function_constant_defined",
                                       "decltype(",
                                       "\n",
                                       "#",
                                       "...",
                                       "using"};
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = text;
    for (size_t edits = 1 + below(6); edits-- > 0;) {
      const size_t at = below(damaged.size()), length = std::min(below(60), damaged.size() - at);
      switch (below(4)) {
        case 0:
          damaged.erase(at, length);
          break;
        case 1:
          damaged.insert(at, pieces[below(std::size(pieces))]);
          break;
        case 2:
          damaged.insert(below(damaged.size()), damaged.substr(at, length));
          break;
        default:
          damaged[at] = static_cast<char>(random());
          break;
      }
      if (damaged.empty()) damaged = text;
    }
    digest(damaged);
  }
}

TEST_CASE("noise") {
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    std::string noise(random() % 2000, ' ');
    for (char& c : noise) c = static_cast<char>(random());
    digest(noise);
  }
}

TEST_CASE("long repetitions take time in proportion to their length") {
  const size_t n = 50000;
  for (const std::string part : {"<",
                                 "a<",
                                 "a<b,",
                                 "(",
                                 "[[",
                                 "{",
                                 "{}",
                                 "kernel ",
                                 "template<",
                                 "template<class T>",
                                 "constant ",
                                 "threadgroup ",
                                 "threadgroup a ",
                                 "x.xy",
                                 "struct s{",
                                 "struct{",
                                 "struct ",
                                 "namespace n{",
                                 "operator ",
                                 "a::",
                                 "[[kernel]]",
                                 "1.0",
                                 "\"",
                                 "# 1 \"a\"\n",
                                 "vertex ",
                                 "int f(){}",
                                 "f(",
                                 "*",
                                 "constant int a=1;",
                                 "using x=y;",
                                 "#pragma unroll\n",
                                 "sampler s;"}) {
    CAPTURE(part);
    CHECK(seconds(repeat(part, n)) < 20);
  }
  CHECK(seconds(repeat("(", n) + repeat(")", n)) < 20);
  CHECK(seconds("int f(){" + repeat("a<(", n) + repeat(")>", n) + "}") < 20);
  CHECK(seconds(repeat("struct s { ", n) + repeat("float2 xy; };", n)) < 20);
  CHECK(seconds(repeat("struct { ", n) + repeat("float2 xy; };", n)) < 20);
  std::string kernels, constants;
  for (int i = 0; i < 1000; ++i) {
    kernels += "int f" + std::to_string(i) + "() { return f" + std::to_string(i / 2) + "(); } kernel void k" +
               std::to_string(i) + "(device int* x) { x[0] = f" + std::to_string(i) + "(); }\n";
    constants += "constant int c" + std::to_string(i) + " = c" + std::to_string(i / 2) + ";\n";
  }
  CHECK(seconds("constant int c0 [[function_constant(0)]];" + constants + kernels) < 20);
}
