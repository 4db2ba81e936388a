#include "metalloid/include.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string_view>
#include <unordered_map>

#include "metalloid/error.h"

namespace metalloid {

namespace {

constexpr size_t kMaxDepth = 200;
constexpr size_t kMaxBytes = size_t{64} << 20;

// A preprocessing directive and the lines that it takes.
struct Directive {
  std::string name;  // "include", "if", ...
  std::string rest;  // what follows, without comments and line splices
  size_t begin;      // of its first line in the text
  size_t end;        // past its last line
  uint32_t line;     // the first, from 1
  uint32_t lines;
};

struct Source {
  std::string name;    // as messages call it
  std::string folder;  // in which quoted includes are looked up
  bool in_memory;      // folder is one of IncludePaths::headers
  std::string text;    // ends with a newline
  std::vector<Directive> directives;
  bool once = false;                      // #pragma once
  std::string guard;                      // the macro of an include guard around everything
  size_t guard_begin = 0, guard_end = 0;  // its #ifndef and #endif in `directives`
};

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

std::string trimmed(std::string_view text) {
  const char* blank = " \t\r\n\f\v";
  size_t begin = text.find_first_not_of(blank);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(blank) - begin + 1));
}

std::string first_word(std::string_view text) {
  size_t end = 0;
  while (end < text.size() && is_word(text[end])) ++end;
  return std::string(text.substr(0, end));
}

// Reads a file's directives. Knows as much of C++ as it takes to tell them from comments and literals.
class Scanner {
 public:
  explicit Scanner(Source& source) : source_(source), text_(source.text) {}

  void scan() {
    while (at_ < text_.size()) logical_line();
    find_guard();
  }

 private:
  // The length of a backslash and the line's end after it, or 0.
  size_t splice(size_t at) const {
    if (text_[at] != '\\') return 0;
    if (text_.compare(at + 1, 1, "\n") == 0) return 2;
    return text_.compare(at + 1, 2, "\r\n") == 0 ? 3 : 0;
  }

  // The next character, with comments as one blank and splices taken out; '\n' ends the logical line.
  char next() {
    while (at_ < text_.size()) {
      if (size_t length = splice(at_)) {
        at_ += length;
        ++line_;
        continue;
      }
      if (text_.compare(at_, 2, "//") == 0) {
        while (at_ < text_.size() && text_[at_] != '\n') {
          size_t length = splice(at_);
          if (length) ++line_;
          at_ += length ? length : 1;
        }
        continue;
      }
      if (text_.compare(at_, 2, "/*") == 0) {
        size_t end = std::min(text_.find("*/", at_ + 2), text_.size() - 2) + 2;
        line_ += static_cast<uint32_t>(
            std::count(text_.begin() + static_cast<long>(at_), text_.begin() + static_cast<long>(end), '\n'));
        at_ = end;
        return ' ';
      }
      char c = text_[at_++];
      if (c == '\n') ++line_;
      return c;
    }
    return '\n';
  }

  // The rest of a string or character literal; none goes past its line.
  void skip_literal(char quote) {
    while (at_ < text_.size() && text_[at_] != '\n') {
      if (size_t length = splice(at_)) {
        at_ += length;
        ++line_;
        continue;
      }
      char c = text_[at_++];
      if (c == '\\' && at_ < text_.size() && text_[at_] != '\n') ++at_;
      if (c == quote) return;
    }
  }

  void skip_raw_string() {
    size_t open = text_.find('(', at_);
    if (open == std::string::npos || open - at_ > 16) return;
    std::string close = ")" + text_.substr(at_, open - at_) + "\"";
    size_t end = std::min(text_.find(close, open), text_.size() - close.size()) + close.size();
    line_ += static_cast<uint32_t>(
        std::count(text_.begin() + static_cast<long>(at_), text_.begin() + static_cast<long>(end), '\n'));
    at_ = end;
  }

  void logical_line() {
    const size_t begin = at_;
    const uint32_t line = line_;
    char c = next();
    while (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') c = next();
    if (c == '#') {
      std::string all;
      char before = ' ';
      for (; (c = next()) != '\n'; before = c) {
        all += c;
        // What is quoted may hold what looks like a comment.
        if (c == '"' || (c == '\'' && !is_word(before))) {
          size_t from = at_;
          skip_literal(c);
          all.append(text_, from, at_ - from);
        }
      }
      all = trimmed(all);
      std::string name = first_word(all);
      source_.directives.push_back(
          {name, trimmed(std::string_view(all).substr(name.size())), begin, at_, line, line_ - line});
      return;
    }
    if (c != '\n') {
      first_code_ = std::min(first_code_, begin);
      last_code_ = begin;
    }
    char before = ' ';
    for (; c != '\n'; before = c, c = next()) {
      if (c == '"') {
        if (before == 'R') {
          skip_raw_string();
        } else {
          skip_literal('"');
        }
      } else if (c == '\'' && !is_word(before)) {  // else it separates digits
        skip_literal('\'');
      }
    }
  }

  // "X" of "#ifndef X" or "#if !defined(X)".
  static std::string tested_macro(const Directive& directive) {
    if (directive.name == "ifndef") return first_word(directive.rest);
    if (directive.name != "if") return {};
    std::string plain;
    for (char c : directive.rest) {
      if (c != ' ' && c != '\t' && c != '(' && c != ')') plain += c;
    }
    constexpr std::string_view prefix = "!defined";
    if (!plain.starts_with(prefix)) return {};
    std::string macro = first_word(std::string_view(plain).substr(prefix.size()));
    return macro.size() + prefix.size() == plain.size() ? macro : std::string();
  }

  void find_guard() {
    auto& all = source_.directives;
    size_t begin = 0;
    while (begin < all.size() && all[begin].name == "pragma") ++begin;
    if (begin + 2 >= all.size()) return;
    std::string macro = tested_macro(all[begin]);
    if (macro.empty() || all[begin + 1].name != "define" || first_word(all[begin + 1].rest) != macro) return;
    size_t depth = 0;
    for (size_t i = begin; i < all.size(); ++i) {
      const std::string& name = all[i].name;
      if (name == "if" || name == "ifdef" || name == "ifndef") ++depth;
      if (depth == 1 && (name == "else" || name.starts_with("elif"))) return;
      if (name != "endif" || --depth > 0) continue;
      bool covers_all = i + 1 == all.size() && first_code_ > all[begin].begin && last_code_ < all[i].begin;
      if (!covers_all) return;
      source_.guard = macro;
      source_.guard_begin = begin;
      source_.guard_end = i;
      return;
    }
  }

  Source& source_;
  const std::string& text_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  size_t first_code_ = std::string::npos;
  size_t last_code_ = 0;
};

std::string normal(const std::string& path) {
  return std::filesystem::path(path).lexically_normal().string();
}

std::string folder_of(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

std::string joined(const std::string& folder, const std::string& name) {
  return normal(folder.empty() ? name : (std::filesystem::path(folder) / name).string());
}

class Flattener {
 public:
  explicit Flattener(const IncludePaths& paths) : paths_(paths) {
    for (const std::string& macro : paths.defined) definers_[macro].insert(nullptr);
  }

  std::string run(const std::string& text, const MainFile& file) {
    Source main = scanned(file.name, folder_of(file.path), file.path.empty(), text);
    put(main, true);
    return std::move(out_);
  }

 private:
  struct Included {
    std::string name;
    bool quoted;
  };

  static Source scanned(const std::string& name, const std::string& folder, bool in_memory,
                        std::string text) {
    if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    if (text.empty() || text.back() != '\n') text += '\n';
    Source source;
    source.name = name;
    source.folder = folder;
    source.in_memory = in_memory;
    source.text = std::move(text);
    Scanner(source).scan();
    for (const Directive& directive : source.directives) {
      if (directive.name == "pragma" && first_word(directive.rest) == "once") source.once = true;
    }
    return source;
  }

  // The file that an include means, read once; null when there is none.
  Source* find(const Included& wanted, const Source& from) {
    std::filesystem::path path(wanted.name);
    if (path.is_absolute()) return from_disk(wanted.name);
    if (wanted.quoted && from.in_memory) {
      if (Source* source = from_memory(joined(from.folder, wanted.name))) return source;
    }
    if (Source* source = from_memory(normal(wanted.name))) return source;
    if (wanted.quoted && !from.in_memory) {
      if (Source* source = from_disk(joined(from.folder, wanted.name))) return source;
    }
    for (const std::string& directory : paths_.directories) {
      if (Source* source = from_disk(joined(directory, wanted.name))) return source;
    }
    return nullptr;
  }

  Source* from_memory(const std::string& name) {
    auto known = memory_.find(name);
    if (known != memory_.end()) return known->second.get();
    auto header = std::find_if(paths_.headers.begin(), paths_.headers.end(),
                               [&](const auto& each) { return normal(each.first) == name; });
    if (header == paths_.headers.end()) return nullptr;
    auto source = std::make_unique<Source>(scanned(header->first, folder_of(name), true, header->second));
    return (memory_[name] = std::move(source)).get();
  }

  Source* from_disk(const std::string& path) {
    auto known = disk_.find(path);
    if (known == disk_.end()) {
      std::optional<std::string> text = read_file(path);
      auto source = text ? std::make_unique<Source>(scanned(path, folder_of(path), false, *text)) : nullptr;
      known = disk_.emplace(path, std::move(source)).first;
    }
    return known->second.get();
  }

  static bool parse_include(const Directive& directive, Included& out) {
    if (directive.name != "include" && directive.name != "import") return false;
    const std::string& rest = directive.rest;
    if (rest.size() < 3 || (rest[0] != '"' && rest[0] != '<')) return false;
    size_t end = rest.find(rest[0] == '"' ? '"' : '>', 1);
    if (end == std::string::npos || end == 1) return false;
    out = {rest.substr(1, end - 1), rest[0] == '"'};
    return true;
  }

  void marker(uint32_t line, const std::string& name) {
    out_ += "#line " + std::to_string(line) + " \"";
    for (char c : name) {
      if (c == '"' || c == '\\') out_ += '\\';
      out_ += c == '\n' ? ' ' : c;
    }
    out_ += "\"\n";
  }

  // Whether the macro of the file's guard cannot have been defined but by the file itself.
  bool guard_is_its_own(const Source& source) {
    if (source.guard.empty() || undefined_.contains(source.guard)) return false;
    auto definers = definers_.find(source.guard);
    if (definers == definers_.end()) return true;
    return std::all_of(definers->second.begin(), definers->second.end(),
                       [&](const Source* definer) { return definer == &source; });
  }

  // Whether including the file again gives nothing.
  bool nothing_more(const Source& source) {
    if (source.once) return done_.contains(&source) || is_open(source);
    return guard_is_its_own(source) && (done_.contains(&source) || is_open(source));
  }

  bool is_open(const Source& source) const {
    return std::find(open_.begin(), open_.end(), &source) != open_.end();
  }

  void include(Source& source, bool certain, bool import, const Source& from, const Directive& at) {
    if (nothing_more(source) || (import && is_open(source))) return;
    if (open_.size() >= kMaxDepth || out_.size() > kMaxBytes) {
      std::string log = text(from.name, ":", at.line, ": error: #include of \"", source.name, "\": ",
                             open_.size() >= kMaxDepth
                                 ? text("files include each other more than ", kMaxDepth, " deep")
                                 : text("the included files make more than ", kMaxBytes >> 20, " MiB"),
                             "; needs #pragma once or an include guard that is certain to end it\n");
      throw CompileError("Device.compile: " + log, log);
    }
    bool wrapped = source.once || import;
    if (wrapped) {
      auto number = numbers_.emplace(&source, numbers_.size()).first->second;
      std::string macro = "METALLOID_INCLUDED_" + std::to_string(number);
      out_ += "#ifndef " + macro + "\n#define " + macro + "\n";
    }
    put(source, certain);
    if (wrapped) out_ += "#endif\n";
    if (certain && (wrapped || guard_is_its_own(source))) done_.insert(&source);
  }

  // `certain`: the compiler comes here, or was here before in a file that has nothing to say again.
  void put(Source& source, bool certain) {
    // Lines that a group holds through its includes are not counted where the compiler skips it, so the
    // markers after those have to be said again at the group's end.
    std::vector<bool> longer;
    uint32_t shift = 0;  // by #line directives of the file's own
    std::string name = source.name;
    marker(1, name);
    open_.push_back(&source);
    const bool guarded = guard_is_its_own(source);
    size_t copied = 0;
    for (size_t i = 0; i < source.directives.size(); ++i) {
      const Directive& directive = source.directives[i];
      const uint32_t after = directive.line + directive.lines;
      Included wanted;
      if (parse_include(directive, wanted)) {
        Source* found = find(wanted, source);
        if (!found) continue;
        out_.append(source.text, copied, directive.begin - copied);
        copied = directive.end;
        bool inner = certain && longer.size() == (guarded && i > source.guard_begin ? 1u : 0u);
        include(*found, inner, directive.name == "import", source, directive);
        marker(after + shift, name);
        longer.assign(longer.size(), true);
      } else if (directive.name == "pragma" && first_word(directive.rest) == "once") {
        out_.append(source.text, copied, directive.begin - copied);
        copied = directive.end;
        out_.append(directive.lines, '\n');
      } else if (directive.name == "if" || directive.name == "ifdef" || directive.name == "ifndef") {
        longer.push_back(false);
      } else if (directive.name == "else" || directive.name.starts_with("elif") ||
                 directive.name == "endif") {
        bool again = !longer.empty() && longer.back();
        if (directive.name == "endif" && !longer.empty()) longer.pop_back();
        if (!again) continue;
        out_.append(source.text, copied, directive.end - copied);
        copied = directive.end;
        marker(after + shift, name);
      } else if (directive.name == "define") {
        definers_[first_word(directive.rest)].insert(&source);
      } else if (directive.name == "undef") {
        undefined_.insert(first_word(directive.rest));
      } else if (directive.name == "line") {
        renumber(directive, after, shift, name);
      }
    }
    out_.append(source.text, copied, std::string::npos);
    open_.pop_back();
  }

  static void renumber(const Directive& directive, uint32_t after, uint32_t& shift, std::string& name) {
    uint64_t number = 0;
    size_t at = 0;
    for (; at < directive.rest.size() && std::isdigit(static_cast<unsigned char>(directive.rest[at])); ++at) {
      number = number * 10 + static_cast<uint64_t>(directive.rest[at] - '0');
      if (number > UINT32_MAX) return;
    }
    if (at == 0) return;
    shift = static_cast<uint32_t>(number) - after;
    size_t open = directive.rest.find('"', at), close = directive.rest.rfind('"');
    if (open != std::string::npos && close > open) name = directive.rest.substr(open + 1, close - open - 1);
  }

  const IncludePaths& paths_;
  std::string out_;
  std::unordered_map<std::string, std::unique_ptr<Source>> memory_, disk_;
  std::unordered_map<const Source*, size_t> numbers_;
  std::vector<const Source*> open_;
  std::set<const Source*> done_;
  // Which files define a macro, null for the compiler's command; whether they come to it or not.
  std::unordered_map<std::string, std::set<const Source*>> definers_;
  std::set<std::string> undefined_;
};

}  // namespace

std::optional<std::string> read_file(const std::string& path) {
  std::error_code error;
  // A directory can be opened, but not read.
  if (!std::filesystem::is_regular_file(path, error) && !std::filesystem::is_fifo(path, error)) return {};
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  std::ostringstream contents;
  contents << file.rdbuf();
  return std::move(contents).str();
}

std::string flatten_includes(const std::string& text, const MainFile& file, const IncludePaths& paths) {
  return Flattener(paths).run(text, file);
}

}  // namespace metalloid
