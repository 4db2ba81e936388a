// Ten thousand damaged Metal sources: whatever they hold, the front end answers, and soon.
// METALLOID_FUZZ_SEED repeats a run, METALLOID_FUZZ_COUNT changes its length.
#include <doctest/doctest.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "softmetal/msl/lexer.h"
#include "softmetal/msl/translate.h"

using namespace softmetal::msl;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
constexpr uint64_t kCount = 1500;
#else
constexpr uint64_t kCount = 10000;
#endif
// For one source, which has at most some hundred KiB.
constexpr unsigned kLimitSeconds = 10;

uint64_t number(const char* variable, uint64_t otherwise) {
  const char* value = getenv(variable);
  return value && *value ? strtoull(value, nullptr, 0) : otherwise;
}

std::filesystem::path root() {
  return std::filesystem::absolute(__FILE__).parent_path().parent_path().parent_path();
}

std::vector<std::string> corpus() {
  std::vector<std::string> sources;
  for (const char* folder : {"shaders", "tests/cpp/msl", "tests/kernels", "tests/faults"}) {
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(root() / folder, none)) {
      if (entry.path().extension() != ".metal") continue;
      std::ifstream stream(entry.path(), std::ios::binary);
      sources.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    }
  }
  std::sort(sources.begin(), sources.end());  // folders are listed in any order
  return sources;
}

// What goes wrong is named by its number, as nothing else is left of the process then.
char last_words[160];
void say_and_end(int signal) {
  const auto ignored = write(2, last_words, strlen(last_words));
  (void)ignored;
  ::signal(signal == SIGALRM ? SIGABRT : signal, SIG_DFL);
  raise(signal == SIGALRM ? SIGABRT : signal);
}

class Mutator {
 public:
  Mutator(const std::vector<std::string>& sources, uint64_t seed) : sources_(sources), random_(seed) {}

  std::string next() {
    std::string text = pick(sources_);
    switch (below(10)) {
      case 0:
        text.resize(below(text.size()));
        break;
      case 1:
        text.erase(0, below(text.size()));
        break;
      case 2:
        splice(text);
        break;
      case 3:
        edit_tokens(text, 1 + below(4));
        break;
      case 4:
        edit_tokens(text, 1 + below(200));
        break;
      case 5:
        garbage(text);
        break;
      case 6:
        nest(text);
        break;
      case 7:
        huge(text);
        break;
      case 8:
        repeat_lines(text);
        break;
      default:
        edit_tokens(text, 1 + below(20));
        splice(text);
        garbage(text);
        break;
    }
    return text;
  }

 private:
  size_t below(size_t n) { return n ? static_cast<size_t>(random_() % n) : 0; }
  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }

  // Part of one source in the midst of another.
  void splice(std::string& text) {
    const std::string& other = pick(sources_);
    const size_t from = below(other.size()), at = below(text.size());
    const std::string part = other.substr(from, below(4000));
    if (below(2))
      text.replace(at, std::min(below(4000), text.size() - at), part);
    else
      text.insert(at, part);
  }

  // Deletes, doubles, swaps and replaces whole tokens, so that much of the grammar stays.
  void edit_tokens(std::string& text, size_t edits) {
    const TokenStream stream = lex(text, "f.metal");
    std::vector<std::string> tokens;
    for (const Token& token : stream.tokens) tokens.emplace_back(token.text);
    if (tokens.empty()) return;
    static const std::vector<std::string> pieces = {"{",
                                                    "}",
                                                    "(",
                                                    ")",
                                                    "[[",
                                                    "]]",
                                                    "[",
                                                    "]",
                                                    "<",
                                                    ">",
                                                    "::",
                                                    ",",
                                                    ";",
                                                    "=",
                                                    "*",
                                                    "&",
                                                    "&&",
                                                    "...",
                                                    ".",
                                                    "template",
                                                    "typename",
                                                    "kernel",
                                                    "vertex",
                                                    "constant",
                                                    "device",
                                                    "threadgroup",
                                                    "thread",
                                                    "const",
                                                    "operator",
                                                    "struct",
                                                    "union",
                                                    "enum",
                                                    "class",
                                                    "namespace",
                                                    "using",
                                                    "typedef",
                                                    "auto",
                                                    "decltype",
                                                    "sizeof",
                                                    "static_assert",
                                                    "[[buffer(0)]]",
                                                    "[[host_name(\"k\")]]",
                                                    "[[function_constant(1)]]",
                                                    "[[thread_position_in_grid]]",
                                                    "[[max_total_threads_per_threadgroup(8)]]",
                                                    "metal",
                                                    "float4",
                                                    "half2",
                                                    "bfloat",
                                                    "simd_sum",
                                                    "threadgroup_barrier",
                                                    "is_function_constant_defined",
                                                    "as_type",
                                                    "0x",
                                                    "1e",
                                                    "1.f",
                                                    "1.0h",
                                                    "99999999999999999999",
                                                    "\"\"",
                                                    "'a'",
                                                    "#line 1 \"x\"\n",
                                                    "# 7 \"y\" 2\n",
                                                    ".xyzw",
                                                    "for",
                                                    "if",
                                                    "else",
                                                    "return",
                                                    "new",
                                                    "\n#pragma unroll\n",
                                                    "[[",
                                                    "atomic_uint",
                                                    "simdgroup_matrix"};
    while (edits-- > 0) {
      const size_t at = below(tokens.size()), other = below(tokens.size());
      switch (below(5)) {
        case 0:
          tokens[at].clear();
          break;
        case 1:
          tokens[at] += " " + tokens[at];
          break;
        case 2:
          std::swap(tokens[at], tokens[other]);
          break;
        case 3:
          tokens[at] = pick(pieces);
          break;
        default:
          tokens[at] += " " + pick(pieces);
          break;
      }
      if (tokens[at].size() > 4096) tokens[at].resize(16);
    }
    text.clear();
    for (const std::string& token : tokens) text += token + (below(12) ? " " : "\n");
  }

  void garbage(std::string& text) {
    for (size_t count = 1 + below(50); count-- > 0 && !text.empty();) {
      const char byte = static_cast<char>(below(4) ? random_() : "\0\xff\x80\"\\#\n"[below(7)]);
      if (below(2))
        text[below(text.size())] = byte;
      else
        text.insert(below(text.size()), 1 + below(9), byte);
    }
  }

  void nest(std::string& text) {
    static const std::vector<std::pair<std::string, std::string>> pairs = {{"(", ")"},
                                                                           {"{", "}"},
                                                                           {"[", "]"},
                                                                           {"[[", "]]"},
                                                                           {"<", ">"},
                                                                           {"a<", ">"},
                                                                           {"f(", ")"},
                                                                           {"struct s{", "};"},
                                                                           {"namespace n{", "}"},
                                                                           {"template<class T,", ">"},
                                                                           {"x[", "]"},
                                                                           {"{(", ")}"},
                                                                           {"if(1){", "}"},
                                                                           {"int f(){", "}"},
                                                                           {"-", ""},
                                                                           {"a.b(", ")"},
                                                                           {"decltype(", ")"},
                                                                           {"*&", ""},
                                                                           {"a?", ":b"},
                                                                           {"kernel void k(device ", ")"}};
    const auto& [open, close] = pick(pairs);
    const size_t depth = size_t{1} << below(14);
    std::string block;
    for (size_t i = 0; i < depth; ++i) block += open;
    for (size_t i = below(2) ? depth : below(depth); i > 0; --i) block += close;
    text.insert(below(text.size() + 1), block);
  }

  void huge(std::string& text) {
    const size_t length = size_t{1} << (10 + below(8));
    static const std::vector<std::string> fronts = {"",      "0x", "1e", "\"",     "'",
                                                    "/*",    "//", "#",  "#line ", "[[buffer(",
                                                    "R\"(",  "1.", ".",  "xyzw",   "[[host_name(\"",
                                                    "using "};
    static const std::string units = "a0_9.x\"'\\ \n+(<";
    std::string token = pick(fronts);
    const char unit = units[below(units.size())];
    token.append(length, unit);
    text.insert(below(text.size() + 1), token + (below(2) ? " " : ""));
  }

  void repeat_lines(std::string& text) {
    const size_t at = text.find('\n', below(text.size()));
    if (at == std::string::npos) return;
    const std::string part = text.substr(at, 1 + below(300));
    std::string block;
    for (size_t count = 1 + below(200); count-- > 0;) block += part;
    text.insert(at, block);
  }

  const std::vector<std::string>& sources_;
  std::mt19937_64 random_;
};

// Translates, and checks what always holds: C++ exactly when there is no error, and every message has a text.
void digest(const std::string& source, const TranslateOptions& options) {
  const Translation t = translate(source, "f.metal", options);
  REQUIRE(t.ok() == !t.cpp.empty());
  for (const Diagnostic& d : t.diagnostics) REQUIRE(!d.message.empty());
  t.log();
  reflection_json(t.kernels);
}

}  // namespace

TEST_CASE("damaged sources") {
  const std::vector<std::string> sources = corpus();
  REQUIRE(sources.size() >= 7);
  const uint64_t seed = number("METALLOID_FUZZ_SEED", std::random_device()());
  const uint64_t count = number("METALLOID_FUZZ_COUNT", kCount);
  MESSAGE("METALLOID_FUZZ_SEED=" << seed);
  // Endless recursion is to be noticed at once, and memory without end too.
  struct sigaction action{};
  action.sa_handler = say_and_end;
  action.sa_flags = SA_ONSTACK;  // doctest has set one up
  for (const int signal : {SIGSEGV, SIGABRT, SIGALRM, SIGFPE, SIGBUS}) sigaction(signal, &action, nullptr);
  using Clock = std::chrono::steady_clock;
  double slowest = 0;
  for (uint64_t round = 0; round < count; ++round) {
    // Each source has a seed of its own, so that one can be had without those before it.
    Mutator mutator(sources, seed + round);
    const std::string source = mutator.next();
    snprintf(last_words, sizeof last_words,
             "\nended or took more than %u s in source %llu: METALLOID_FUZZ_SEED=%llu METALLOID_FUZZ_COUNT=1 "
             "repeats it\n",
             kLimitSeconds, static_cast<unsigned long long>(round),
             static_cast<unsigned long long>(seed + round));
    alarm(kLimitSeconds);
    const auto begin = Clock::now();
    INFO("METALLOID_FUZZ_SEED=" << seed + round << " METALLOID_FUZZ_COUNT=1");
    for (const TranslateOptions& form :
         {TranslateOptions{"0", 1, false}, TranslateOptions{"0", 32, false}, TranslateOptions{"0", 32, true}})
      digest(source, form);
    slowest = std::max(slowest, std::chrono::duration<double>(Clock::now() - begin).count());
    alarm(0);
  }
  MESSAGE(count << " sources, the slowest took " << slowest * 1e3 << " ms");
}
