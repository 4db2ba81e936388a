#include "softmetal/msl/lexer.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace softmetal::msl;

namespace {

std::vector<std::string> texts(const TokenStream& stream) {
  std::vector<std::string> out;
  for (const Token& t : stream.tokens) out.emplace_back(t.text);
  return out;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("operators are split at their longest, '>' stays alone") {
  CHECK(texts(lex("a <<= b->c != d<e<f>>(1);", "f")) ==
        Words{"a", "<<=", "b", "->", "c", "!=", "d", "<", "e", "<", "f", ">", ">", "(", "1", ")", ";"});
  CHECK(texts(lex("a >>= 1; b >= 2", "f")) == Words{"a", ">", ">=", "1", ";", "b", ">=", "2"});
  CHECK(texts(lex("[[a::b]]", "f")) == Words{"[", "[", "a", "::", "b", "]", "]"});
}

TEST_CASE("numbers keep exponents, suffixes and separators") {
  CHECK(texts(lex("1.0e-5f+.5h-0x1.8p+3 1'000u 0xe+1 1.0bf 2.", "f")) ==
        Words{"1.0e-5f", "+", ".5h", "-", "0x1.8p+3", "1'000u", "0xe", "+", "1", "1.0bf", "2."});
}

TEST_CASE("line markers move the position, and names may hold spaces and quotes") {
  const TokenStream s = lex("a\n# 41 \"dir/b c.metal\" 2\nb\nc\n#line 7\nd\n# 1 \"q\\\"q\"\ne", "f.metal");
  REQUIRE(s.tokens.size() == 5);
  CHECK(s.files[s.tokens[0].file] == "f.metal");
  CHECK(s.tokens[0].line == 1);
  CHECK(s.files[s.tokens[1].file] == "dir/b c.metal");
  CHECK(s.tokens[1].line == 41);
  CHECK(s.tokens[2].line == 42);
  CHECK(s.tokens[3].line == 7);
  CHECK(s.files[s.tokens[4].file] == "q\"q");
  CHECK(s.diagnostics.empty());
}

TEST_CASE("comments vanish and count their lines, pragmas stay whole") {
  const TokenStream s = lex("a /* x\ny */ b // c\n#pragma unroll(4)\n\"/*\" 'x'", "f");
  CHECK(texts(s) == Words{"a", "b", " unroll(4)", "\"/*\"", "'x'"});
  CHECK(s.tokens[1].line == 2);
  CHECK(s.tokens[2].kind == TokenKind::Pragma);
  CHECK(s.tokens[3].line == 4);
}

TEST_CASE("what is not a token is named with its line") {
  const auto message = [](const std::string& source) {
    const TokenStream s = lex(source, "f");
    return s.diagnostics.empty() ? std::string() : s.diagnostics[0].text();
  };
  CHECK(message("a\n$") == "f:2: error: unexpected character '$'");
  CHECK(message("\n\n\"abc\n") == "f:3: error: a string literal is not closed");
  CHECK(message("/* abc") == "f:1: error: a comment is not closed");
  CHECK(message("#define X\n") == "f:1: error: a preprocessor directive is left over: #define X");
  CHECK(message(std::string("a\0b", 3)) == "f:1: error: unexpected character with code 0");
}

TEST_CASE("quoting and unquoting are inverse") {
  const std::string text = "a \"b\" \\ \n\t\x01 c";
  CHECK(quote("a\"b") == "\"a\\\"b\"");
  CHECK(quote("\x01") == "\"\\001\"");
  CHECK(unquote("\"a\\\"b\\\\\"") == "a\"b\\");
  CHECK(lex(quote(text), "f").tokens.size() == 1);
}
