#include <doctest/doctest.h>

#include <algorithm>

#include "metalloid/error.h"
#include "metalloid/include.h"

using namespace metalloid;

namespace {

using Headers = std::map<std::string, std::string>;

std::string flat(const std::string& text, Headers headers, std::vector<std::string> defined = {}) {
  return flatten_includes(text, {.name = "main", .path = ""},
                          {.headers = std::move(headers), .directories = {}, .defined = std::move(defined)});
}

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("text without includes is only given its name") {
  CHECK(flat("a\nb\n", {}) == "#line 1 \"main\"\na\nb\n");
  CHECK(flat("", {}) == "#line 1 \"main\"\n\n");
  CHECK(flat("no newline", {}) == "#line 1 \"main\"\nno newline\n");
  CHECK(flat("\xEF\xBB\xBFmarked\n", {}) == "#line 1 \"main\"\nmarked\n");
}

TEST_CASE("an include is replaced, and what follows keeps its line") {
  CHECK(flat("a\n#include \"h\"\nb\n", {{"h", "H\n"}}) ==
        "#line 1 \"main\"\na\n#line 1 \"h\"\nH\n#line 3 \"main\"\nb\n");
}

TEST_CASE("what looks like an include but is none stays") {
  for (const char* text :
       {"// #include \"h\"\n", "/* \n#include \"h\"\n*/\n", "int a; #include \"h\"\n", "\"\\\n#include \"\n",
        "// \\\n#include \"h\"\n", "#include MACRO\n", "#include\n", "#include \"\"\n", "#include \"h\n",
        "#define A #include \"h\"\n", "R\"(\n#include \"h\"\n)\"\n"}) {
    CAPTURE(text);
    CHECK(count(flat(text, {{"h", "HEADER\n"}}), "HEADER") == 0);
  }
}

TEST_CASE("comments, literals and splices do not hide an include") {
  for (const char* text :
       {"#include \"h\"", " # include <h> // x\n", "/**/#include\"h\"/*\n*/\n", "#incl\\\nude \"h\"\n",
        "'\"'\n#include \"h\"\n", "1'000\n#include \"h\"\n", "\"/*\"\n#include \"h\"\n",
        "#error don't\n#include \"h\"\n", "\"\\\"\"\n#include \"h\"\n", "// /*\n#include \"h\"\n",
        "\r\n#include \"h\"\r\n", "u'x'\n#include \"h\"\n"}) {
    CAPTURE(text);
    CHECK(count(flat(text, {{"h", "HEADER\n"}}), "HEADER") == 1);
  }
}

TEST_CASE("a header that has nothing more to say is not repeated") {
  const std::string twice = "#include \"h\"\n#include \"h\"\n";
  CHECK(count(flat(twice, {{"h", "HEADER\n"}}), "HEADER") == 2);
  for (const char* header : {"#pragma once\nHEADER\n", "#ifndef H\n#define H\nHEADER\n#endif\n",
                             "// x\n#if !defined( H )\n#define H 1\nHEADER\n#endif // H\n\n"}) {
    CAPTURE(header);
    CHECK(count(flat(twice, {{"h", header}}), "HEADER") == 1);
    CHECK(count(flat("#if X\n#include \"h\"\n#endif\n#include \"h\"\n", {{"h", header}}), "HEADER") == 2);
    CHECK(count(flat("#include \"h\"\n#if X\n#include \"h\"\n#endif\n", {{"h", header}}), "HEADER") == 1);
  }
}

TEST_CASE("what is no guard around everything is none") {
  const std::string twice = "#include \"h\"\n#include \"h\"\n";
  for (const char* header :
       {"#ifndef H\n#define H\nHEADER\n#else\n#endif\n", "#ifndef H\n#define G\nHEADER\n#endif\n",
        "int x;\n#ifndef H\n#define H\nHEADER\n#endif\n", "#ifndef H\n#define H\nHEADER\n#endif\nint x;\n",
        "#ifndef H\n#define H\nHEADER\n#endif\n#define MORE\n",
        "#ifndef H\n#define H\nHEADER\n#endif\n#if 1\n#endif\n",
        "#ifndef H\n#define H\nHEADER\n#undef H\n#endif\n"}) {
    CAPTURE(header);
    CHECK(count(flat(twice, {{"h", header}}), "HEADER") == 2);
  }
  // Nor is one that another file or the command line may have defined.
  const Headers guarded = {{"h", "#ifndef H\n#define H\nHEADER\n#endif\n"}};
  CHECK(count(flat(twice, guarded, {"H"}), "HEADER") == 2);
  CHECK(count(flat("#define H\n" + twice, guarded), "HEADER") == 2);
}

TEST_CASE("text of any shape is read to its end") {
  for (const char* text : {"#",
                           "/",
                           "/*",
                           "\"",
                           "'",
                           "\\",
                           "R\"",
                           "R\"x",
                           "R\"(",
                           "#include \"h",
                           "#if",
                           "#endif",
                           "#else\n#endif\n#endif",
                           "\\\n",
                           "#\\",
                           "/*/",
                           "#line",
                           "#line x",
                           "#line 99999999999",
                           "#line 5 \"",
                           "#pragma",
                           "\n\n\r",
                           "#include <h",
                           "//\\",
                           "#if !defined",
                           "#undef"}) {
    CAPTURE(text);
    const std::string result = flat(text, {{"h", "HEADER\n"}});
    CHECK(result.find(text) != std::string::npos);
    CHECK(result.back() == '\n');
  }
}

TEST_CASE("includes without end are refused") {
  CHECK_THROWS_AS(flat("#include \"h\"\n", {{"h", "#include \"h\"\n"}}), CompileError);
  CHECK_THROWS_AS(flat("#include \"h\"\n", {{"h", "#include \"h\"\n#include \"h\"\n"}}), CompileError);
  const std::string large(1 << 20, ' ');
  CHECK_THROWS_AS(flat("#include \"h\"\n", {{"h", large + "\n#include \"h\"\n"}}), CompileError);
}
