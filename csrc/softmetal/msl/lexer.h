// Tokens of preprocessed Metal Shading Language, each with the file and line it came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace softmetal::msl {

enum class Severity { Warning, Error };

struct Diagnostic {
  std::string file;
  uint32_t line = 0;
  std::string message;
  Severity severity = Severity::Error;

  // "file:line: error: message"
  std::string text() const;
};

enum class TokenKind : uint8_t { Identifier, Number, String, Character, Punctuator, Pragma };

struct Token {
  std::string_view text;  // into the source given to lex()
  uint32_t file = 0;      // into TokenStream::files
  uint32_t line = 0;
  TokenKind kind = TokenKind::Punctuator;
  bool space_before = false;

  bool is(std::string_view wanted) const { return text == wanted && kind != TokenKind::String; }
  bool identifier() const { return kind == TokenKind::Identifier; }
};

struct TokenStream {
  std::vector<std::string> files;
  std::vector<Token> tokens;
  std::vector<Diagnostic> diagnostics;
};

// Splits `source` into tokens. Line markers set the position of what follows, comments vanish, a pragma
// is one token. A closing '>' is never joined with another one, so that nested templates match;
// neighbours without a space between them still print as '>>'.
TokenStream lex(std::string_view source, const std::string& file_name);

// The characters of a string literal, without quotes and escapes.
std::string unquote(std::string_view literal);

// `text` as a C string literal.
std::string quote(std::string_view text);

}  // namespace softmetal::msl
