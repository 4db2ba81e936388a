#include "softmetal/msl/lexer.h"

#include <array>
#include <charconv>
#include <unordered_map>

namespace softmetal::msl {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }
bool starts_identifier(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool continues_identifier(char c) { return starts_identifier(c) || is_digit(c); }

// Longest first. '>' is left alone but for '>=': see lex().
constexpr std::array<std::string_view, 23> kPunctuators = {
    "<<=", "...", "->*", "->", "++", "--", "<<", "<=", ">=", "==", "!=", "&&",
    "||",  "+=",  "-=",  "*=", "/=", "%=", "&=", "|=", "^=", "::", ".*"};

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& file_name) : source_(source) {
    set_file(file_name);
    out_.tokens.reserve(source.size() / 4);
  }

  TokenStream run() {
    while (at_ < source_.size()) step();
    return std::move(out_);
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }

  void error(const std::string& message) {
    // One message says enough about a file of garbage.
    if (out_.diagnostics.size() < 20) out_.diagnostics.push_back({out_.files[file_], line_, message});
  }

  void push(TokenKind kind, size_t length) {
    out_.tokens.push_back({source_.substr(at_, length), file_, line_, kind, space_});
    for (char c : source_.substr(at_, length)) line_ += c == '\n';
    at_ += length;
    space_ = false;
    line_start_ = false;
  }

  void step() {
    const char c = peek();
    if (c == '\n') {
      ++line_;
      ++at_;
      space_ = line_start_ = true;
    } else if (is_space(c)) {
      ++at_;
      space_ = true;
    } else if (c == '\\' && (peek(1) == '\n' || (peek(1) == '\r' && peek(2) == '\n'))) {
      at_ += peek(1) == '\n' ? 2 : 3;
      ++line_;
      space_ = true;
    } else if (c == '#' && line_start_) {
      directive();
    } else if (c == '/' && (peek(1) == '/' || peek(1) == '*')) {
      comment();
    } else if (c == 'R' && peek(1) == '"') {
      raw_string();
    } else if (starts_identifier(c)) {
      size_t length = 1;
      while (continues_identifier(peek(length))) ++length;
      push(TokenKind::Identifier, length);
    } else if (is_digit(c) || (c == '.' && is_digit(peek(1)))) {
      push(TokenKind::Number, number_length());
    } else if (c == '"' || c == '\'') {
      quoted(c);
    } else {
      punctuator();
    }
  }

  // A preprocessing number: exponent signs and digit separators belong to it.
  size_t number_length() const {
    size_t length = 1;
    for (char c = peek(length);; c = peek(length)) {
      const char before = peek(length - 1);
      const bool sign =
          (c == '+' || c == '-') && (before == 'e' || before == 'E' || before == 'p' || before == 'P');
      const bool hex_digit_e =
          sign && (before == 'e' || before == 'E') && peek() == '0' && (peek(1) | 32) == 'x';
      const bool separator = c == '\'' && continues_identifier(peek(length + 1));
      if (!(continues_identifier(c) || c == '.' || (sign && !hex_digit_e) || separator)) return length;
      ++length;
    }
  }

  void quoted(char quote) {
    size_t length = 1;
    while (at_ + length < source_.size() && peek(length) != quote && peek(length) != '\n')
      length += peek(length) == '\\' && at_ + length + 1 < source_.size() ? 2 : 1;
    const bool closed = at_ + length < source_.size() && peek(length) == quote;
    if (!closed) error(quote == '"' ? "a string literal is not closed" : "a character literal is not closed");
    push(quote == '"' ? TokenKind::String : TokenKind::Character, closed ? length + 1 : length);
  }

  void raw_string() {
    const size_t open = source_.find('(', at_ + 2);
    size_t end = std::string_view::npos;
    if (open != std::string_view::npos && open - at_ <= 18) {
      std::string closing(1, ')');
      closing.append(source_.substr(at_ + 2, open - at_ - 2)).push_back('"');
      end = source_.find(closing, open);
      if (end != std::string_view::npos) end += closing.size();
    }
    if (end == std::string_view::npos) {
      error("a raw string literal is not closed");
      end = source_.size();
    }
    push(TokenKind::String, end - at_);
  }

  void comment() {
    const bool line_comment = peek(1) == '/';
    size_t end = source_.find(line_comment ? std::string_view("\n") : std::string_view("*/"), at_ + 2);
    if (end == std::string_view::npos) {
      if (!line_comment) error("a comment is not closed");
      end = source_.size();
    } else if (!line_comment) {
      end += 2;
    }
    for (char c : source_.substr(at_, end - at_)) line_ += c == '\n';
    at_ = end;
    space_ = true;
  }

  // `# 12 "file" flags` and `#line 12 "file"` set the position; `#pragma` is kept.
  void directive() {
    size_t end = source_.find('\n', at_);
    if (end == std::string_view::npos) end = source_.size();
    std::string_view body = source_.substr(at_ + 1, end - at_ - 1);
    while (!body.empty() && (is_space(body.front()))) body.remove_prefix(1);
    while (!body.empty() && (is_space(body.back()))) body.remove_suffix(1);
    if (body.substr(0, 6) == "pragma") {
      out_.tokens.push_back({body.substr(6), file_, line_, TokenKind::Pragma, true});
      at_ = end;
      return;
    }
    if (body.substr(0, 4) == "line") {
      body.remove_prefix(4);
      while (!body.empty() && is_space(body.front())) body.remove_prefix(1);
    }
    uint32_t line = 0;
    const auto [rest, code] = std::from_chars(body.data(), body.data() + body.size(), line);
    if (code != std::errc() || line > 0x7fffffff) {
      error("a preprocessor directive is left over: #" + std::string(body.substr(0, 40)));
      at_ = end;
      return;
    }
    body.remove_prefix(static_cast<size_t>(rest - body.data()));
    const size_t open = body.find('"');
    const size_t close = body.rfind('"');
    if (open != std::string_view::npos && close > open)
      set_file(unquote(body.substr(open, close - open + 1)));
    // The marker names the line after it, and the newline is still to be counted.
    line_ = line - 1;
    at_ = end;
  }

  void set_file(const std::string& name) {
    const auto [entry, added] = file_ids_.try_emplace(name, static_cast<uint32_t>(out_.files.size()));
    if (added) out_.files.push_back(name);
    file_ = entry->second;
  }

  void punctuator() {
    const std::string_view rest = source_.substr(at_);
    for (std::string_view p : kPunctuators)
      if (rest.substr(0, p.size()) == p) return push(TokenKind::Punctuator, p.size());
    if (std::string_view("{}()[]<>;:?.,+-*/%^&|~!=").find(rest[0]) == std::string_view::npos) {
      const auto code = static_cast<unsigned char>(rest[0]);
      const bool printable = code > 32 && code < 127;
      error(printable ? "unexpected character '" + std::string(1, rest[0]) + "'"
                      : "unexpected character with code " + std::to_string(code));
      ++at_;
      return;
    }
    push(TokenKind::Punctuator, 1);
  }

  std::string_view source_;
  size_t at_ = 0;
  uint32_t file_ = 0;
  uint32_t line_ = 1;
  bool space_ = false;
  bool line_start_ = true;
  std::unordered_map<std::string, uint32_t> file_ids_;
  TokenStream out_;
};

}  // namespace

std::string Diagnostic::text() const {
  return file + ":" + std::to_string(line) + (severity == Severity::Error ? ": error: " : ": warning: ") +
         message;
}

TokenStream lex(std::string_view source, const std::string& file_name) {
  return Lexer(source, file_name).run();
}

std::string unquote(std::string_view literal) {
  std::string out;
  if (literal.size() >= 2 && literal.front() == '"') literal = literal.substr(1, literal.size() - 2);
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      out += literal[i];
      continue;
    }
    // Compilers write the bytes of names that are not ASCII in octal.
    unsigned code = 0, digits = 0;
    while (digits < 3 && i + 1 < literal.size() && literal[i + 1] >= '0' && literal[i + 1] <= '7') {
      code = code * 8 + static_cast<unsigned>(literal[++i] - '0');
      ++digits;
    }
    out += digits > 0 ? static_cast<char>(code) : literal[++i];
  }
  return out;
}

std::string quote(std::string_view text) {
  static constexpr char kHex[] = "01234567";
  std::string out = "\"";
  for (char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (code < 32 || code == 127) {
      out += {'\\', kHex[code >> 6], kHex[(code >> 3) & 7], kHex[code & 7]};
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace softmetal::msl
