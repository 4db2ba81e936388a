#include "metalloid/source_arguments.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <mutex>
#include <utility>

namespace metalloid {

namespace {

// Between `kernel` and the parameters there are few words.
constexpr size_t kMostBefore = 64;

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

bool is_identifier(std::string_view token) {
  return is_word(token[0]) && !std::isdigit(static_cast<unsigned char>(token[0]));
}

// Words, numbers, literals with their opening quotes, and single characters of all else. Comments and line
// splices are left out.
std::vector<std::string_view> tokens_of(std::string_view text) {
  std::vector<std::string_view> tokens;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    size_t end = at + 1;
    if (text.substr(at, 2) == "//") {
      at = std::min(text.find('\n', at), text.size());
      continue;
    }
    if (text.substr(at, 2) == "/*") {
      const size_t close = text.find("*/", at + 2);
      at = close == std::string_view::npos ? text.size() : close + 2;
      continue;
    }
    if (std::isspace(static_cast<unsigned char>(c)) || c == '\\') {
      ++at;
      continue;
    }
    if (is_word(c)) {
      while (end < text.size() && is_word(text[end])) ++end;
    } else if (c == '"' || c == '\'') {
      while (end < text.size() && text[end] != c && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
      end = std::min(end, text.size());
    }
    tokens.push_back(text.substr(at, end - at));
    // Past the closing quote.
    at = end + ((c == '"' || c == '\'') && end < text.size());
  }
  return tokens;
}

struct Tokens : std::vector<std::string_view> {
  explicit Tokens(std::string_view text)
      : std::vector<std::string_view>(tokens_of(text)), past_(size(), size()) {
    std::vector<size_t> open;
    for (size_t i = 0; i < size(); ++i) {
      const char c = (*this)[i][0];
      if (c == '(' || c == '[' || c == '{') open.push_back(i);
      if ((c != ')' && c != ']' && c != '}') || open.empty()) continue;
      past_[open.back()] = i + 1;
      open.pop_back();
    }
  }
  // Past what closes the bracket at `open`; all, if nothing does.
  size_t past(size_t open) const { return past_[open]; }

 private:
  std::vector<size_t> past_;
};

// The function whose parameters are at `open`.
std::string_view function_before(const Tokens& tokens, size_t open, size_t begin) {
  size_t i = open;
  if (tokens[i - 1] == ">") {
    size_t depth = 0;
    do {
      --i;
      depth += tokens[i] == ">";
      depth -= tokens[i] == "<";
    } while (depth != 0 && i > begin);
  }
  return i > begin && is_identifier(tokens[i - 1]) ? tokens[i - 1] : std::string_view();
}

// What an attribute between [ and ] says.
void read_attribute(const Tokens& tokens, size_t begin, size_t end, SourceArguments::Argument& argument,
                    bool& other) {
  for (size_t i = begin; i < end; ++i) {
    if (!is_identifier(tokens[i])) continue;
    const bool index = tokens[i] == "buffer" || tokens[i] == "threadgroup";
    argument.switched |= tokens[i] == "function_constant";
    other |= !index && tokens[i] != "function_constant";
    if (i + 1 >= end || tokens[i + 1] != "(") continue;
    const size_t after = tokens.past(i + 1);
    uint32_t number = 0;
    if (index && after == i + 4) {
      const std::string_view digits = tokens[i + 2];
      const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
      if (error == std::errc() && stop == digits.data() + digits.size()) argument.index = number;
    }
    i = after - 1;
  }
}

// One parameter; nothing for those that are no memory, such as positions.
std::optional<SourceArguments::Argument> read_parameter(const Tokens& tokens, size_t begin, size_t end) {
  SourceArguments::Argument argument;
  bool address = false, attributed = false, other = false;
  int angles = 0;
  for (size_t i = begin; i < end; ++i) {
    const std::string_view token = tokens[i];
    if (token == "(" || token == "[" || token == "{") {
      const size_t after = std::min(tokens.past(i), end);
      if (token == "[" && i + 1 < end && tokens[i + 1] == "[") {
        attributed = true;
        read_attribute(tokens, i + 2, after, argument, other);
      }
      i = after - 1;
      continue;
    }
    angles += token == "<";
    angles -= token == ">";
    if (angles > 0) continue;
    address |= token == "*" || token == "&";
    if (token == "device" || token == "constant" || token == "threadgroup") {
      if (argument.address_space.empty()) argument.address_space = token;
    } else if (is_identifier(token)) {
      argument.name = token;
    }
  }
  if (argument.name.empty() || (attributed && other && !address)) return std::nullopt;
  return argument;
}

}  // namespace

struct SourceArguments::Declarations {
  std::once_flag once;
  std::string source;  // until it has been read
  std::set<std::string, std::less<>> functions, literals;
  std::vector<Argument> arguments;

  void read();
};

void SourceArguments::Declarations::read() {
  const Tokens tokens(source);
  for (size_t at = 0; at < tokens.size(); ++at) {
    if (tokens[at][0] == '"') literals.emplace(tokens[at].substr(1));
    if (tokens[at] != "kernel") continue;
    size_t open = at + 1;
    const size_t most = std::min(tokens.size(), at + kMostBefore);
    // An attribute, with others after it.
    if (at > 0 && (tokens[at - 1] == "[" || tokens[at - 1] == ",")) {
      while (open < most && tokens[open] != "]") ++open;
    }
    while (open < most && tokens[open] != "(" && tokens[open] != ";" && tokens[open] != "{") {
      open = tokens[open] == "[" ? tokens.past(open) : open + 1;
    }
    if (open >= most || tokens[open] != "(" || tokens.past(open) == tokens.size()) continue;
    const std::string function(function_before(tokens, open, at + 1));
    if (function.empty()) continue;
    functions.insert(function);
    const size_t close = tokens.past(open) - 1;
    at = close;
    int angles = 0;
    for (size_t begin = open + 1, i = begin; i <= close; ++i) {
      const std::string_view token = tokens[i];
      angles += token == "<";
      angles -= token == ">";
      if (i == close || (token == "," && angles <= 0)) {
        if (auto argument = read_parameter(tokens, begin, i)) {
          argument->kernel = function;
          arguments.push_back(std::move(*argument));
        }
        begin = i + 1;
        angles = 0;
      } else if (token == "(" || token == "[" || token == "{") {
        i = std::min(tokens.past(i), close) - 1;
      }
    }
  }
  source = {};
}

SourceArguments::SourceArguments(std::string source) : declarations_(std::make_shared<Declarations>()) {
  declarations_->source = std::move(source);
}

const SourceArguments::Declarations& SourceArguments::declared() const {
  static const Declarations none;
  if (!declarations_) return none;
  std::call_once(declarations_->once, [this] { declarations_->read(); });
  return *declarations_;
}

bool SourceArguments::has(std::string_view kernel) const { return declared().functions.contains(kernel); }

std::string_view SourceArguments::address_space(std::string_view kernel, std::string_view argument) const {
  const bool anywhere = !has(kernel) && declared().literals.contains(kernel);
  std::optional<std::string_view> found;
  for (const Argument& each : declared().arguments) {
    if (each.name != argument || (!anywhere && each.kernel != kernel)) continue;
    if (found && *found != each.address_space) return {};
    found = each.address_space;
  }
  return found.value_or(std::string_view());
}

std::vector<SourceArguments::Argument> SourceArguments::switched(std::string_view kernel) const {
  std::vector<Argument> found;
  std::copy_if(declared().arguments.begin(), declared().arguments.end(), std::back_inserter(found),
               [&](const Argument& each) { return each.switched && each.kernel == kernel; });
  return found;
}

}  // namespace metalloid
