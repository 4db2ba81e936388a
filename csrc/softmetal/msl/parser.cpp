#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "softmetal/msl/builtins.h"
#include "softmetal/msl/syntax.h"

namespace softmetal::msl {
namespace {

using Names = std::unordered_set<std::string_view>;

const Names kSpaces = {"device", "constant", "threadgroup", "thread"};

// Words that cannot be the name of a parameter or variable.
const Names kTypeWords = {"const", "volatile", "unsigned", "signed",    "int",        "char",
                          "short", "long",     "float",    "half",      "bool",       "void",
                          "auto",  "device",   "thread",   "constant",  "struct",     "class",
                          "union", "enum",     "typename", "constexpr", "threadgroup"};

const Names kNotCallable = {"decltype", "alignas", "alignof", "sizeof", "__attribute__", "noexcept",
                            "if",       "while",   "for",     "switch", "return"};

// Attributes that C++ compilers know. Those with a vendor's prefix stay as well.
const Names kKept = {"maybe_unused", "nodiscard",  "noreturn",          "fallthrough",       "likely",
                     "unlikely",     "deprecated", "no_unique_address", "carries_dependency"};

const Names kFunctionAttributes = {"kernel", "host_name", "max_total_threads_per_threadgroup"};

class Parser {
 public:
  explicit Parser(const TokenStream& stream) {
    out_.stream = &stream;
    out_.diagnostics = stream.diagnostics;
  }

  Syntax run() {
    out_.balanced = match_brackets();
    if (!out_.balanced) return std::move(out_);
    find_attributes();
    declarations();
    for (const Instantiation& i : out_.instantiations) check_instantiation(i);
    find_constants();
    check_stray_attributes();
    find_member_swizzles();
    return std::move(out_);
  }

 private:
  const Token& token(size_t i) const { return out_.token(i); }
  bool is(size_t i, std::string_view text) const { return out_.is(i, text); }

  bool match_brackets() {
    out_.match.assign(out_.size(), kNone);
    std::vector<size_t> open;
    for (size_t i = 0; i < out_.size(); ++i) {
      const Token& t = token(i);
      if (t.kind != TokenKind::Punctuator || t.text.size() != 1) continue;
      const char c = t.text[0];
      if (c == '(' || c == '[' || c == '{') open.push_back(i);
      if (c != ')' && c != ']' && c != '}') continue;
      const char partner = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open.empty() || token(open.back()).text[0] != partner) {
        out_.error(i, std::string("'") + c + "' without a matching '" + partner + "'");
        return false;
      }
      out_.match[i] = open.back();
      out_.match[open.back()] = i;
      open.pop_back();
    }
    if (open.empty()) return true;
    out_.error(open.back(), "'" + std::string(token(open.back()).text) + "' is never closed");
    return false;
  }

  void find_attributes() {
    for (size_t i = 0; i + 1 < out_.size(); ++i) {
      if (!is(i, "[") || !is(i + 1, "[") || out_.match[i] != out_.match[i + 1] + 1) continue;
      const size_t end = out_.match[i] + 1;
      AttributeGroup group{{i, end}, {}};
      for (Range item : out_.split({i + 2, end - 2})) {
        if (item.empty()) continue;
        Attribute attribute;
        attribute.at = item.begin;
        size_t at = item.begin;
        for (; at < item.end && !is(at, "("); ++at) attribute.name += token(at).text;
        if (at < item.end) attribute.arguments = {at + 1, out_.match[at]};
        attribute.keep = kKept.count(attribute.name) || attribute.name.find("::") != std::string::npos;
        check_attribute(attribute);
        group.attributes.push_back(std::move(attribute));
      }
      out_.attribute_groups.emplace(i, std::move(group));
      i = end - 1;
    }
  }

  void check_attribute(const Attribute& attribute) {
    if (attribute.keep || attribute.name == "buffer" || attribute.name == "threadgroup" ||
        attribute.name == "function_constant" || kFunctionAttributes.count(attribute.name) ||
        find_builtin(attribute.name))
      return;
    if (const char* what = unsupported_attribute(attribute.name))
      out_.error(attribute.at, "[[" + attribute.name + "]] is not supported: " + what);
    else
      out_.error(attribute.at, "unknown attribute [[" + attribute.name + "]]");
  }

  // Attributes of the groups in `range` that are outside its brackets.
  std::vector<Attribute> attributes_in(Range range) const {
    std::vector<Attribute> found;
    for (auto it = out_.attribute_groups.lower_bound(range.begin);
         it != out_.attribute_groups.end() && it->first < range.end; ++it)
      for (const Attribute& a : it->second.attributes) found.push_back(a);
    return found;
  }

  size_t skip_attributes(size_t i) const {
    for (auto it = out_.attribute_groups.find(i); it != out_.attribute_groups.end();
         it = out_.attribute_groups.find(i))
      i = it->second.range.end;
    return i;
  }

  std::string scope() const {
    std::string text;
    for (const std::string& name : scopes_)
      if (!name.empty()) text += "::" + name;
    return text;
  }

  void declarations() {
    size_t i = 0;
    while (i < out_.size()) {
      if (token(i).kind == TokenKind::Pragma || is(i, ";")) {
        ++i;
      } else if (is(i, "}")) {
        scopes_.pop_back();  // brackets match, so it closes a namespace that was opened here
        ++i;
      } else if (const size_t inside = namespace_open(i); inside != kNone) {
        i = inside;
      } else {
        i = declaration(i);
      }
    }
  }

  // The token after the '{' of a namespace or linkage specification that starts at i.
  size_t namespace_open(size_t i) {
    if (is(i, "extern") && i + 2 < out_.size() && token(i + 1).kind == TokenKind::String && is(i + 2, "{")) {
      scopes_.emplace_back();
      return i + 3;
    }
    const size_t start = i;
    if (is(i, "inline")) ++i;
    if (!is(i, "namespace")) return kNone;
    i = skip_attributes(i + 1);
    std::string name;
    for (; i < out_.size() && !is(i, "{"); ++i) {
      if (!token(i).identifier() && !is(i, "::")) return kNone;  // an alias, or nonsense for the compiler
      name += token(i).text;
    }
    if (i >= out_.size()) return kNone;
    if (name == "metal" && scopes_.empty()) out_.metal_namespaces.push_back({start, out_.match[i] + 1});
    scopes_.push_back(name);
    return i + 1;
  }

  // Reads one declaration and gives the token after it.
  size_t declaration(size_t start) {
    Entity e;
    e.scope = scope();
    size_t i = skip_attributes(start);
    bool instantiation = false;
    while (is(i, "template")) {
      if (!is(i + 1, "<")) {
        instantiation = true;
        i = skip_attributes(i + 1);
        break;
      }
      const size_t close = out_.angle(i + 1, out_.size());
      if (close == kNone) break;
      if (!e.template_parameters) e.template_parameters = Range{i + 2, close};
      i = skip_attributes(close + 1);
    }
    e.specifiers = i;
    bool type_word = false, assigned = false, constructor = false;
    size_t last_name = kNone;      // the latest identifier outside all brackets
    size_t arguments_end = kNone;  // after the template arguments that follow it
    size_t type_body_end = kNone;
    size_t i0 = i;
    for (; i < out_.size(); ++i) {
      if (const auto group = out_.attribute_groups.find(i); group != out_.attribute_groups.end()) {
        i = group->second.range.end - 1;
        continue;
      }
      const Token& t = token(i);
      if (t.kind == TokenKind::Pragma || t.is(";") || t.is("}")) break;
      if (t.identifier()) {
        if (!assigned && !e.parameters) {
          if (t.is("struct") || t.is("class") || t.is("union") || t.is("enum")) type_word = true;
          if (t.is("kernel")) e.kernel = true;
          last_name = i;
          arguments_end = kNone;
          if (t.is("operator")) {
            // Up to the parentheses of its parameters everything is its name.
            size_t open = is(i + 1, "(") && is(i + 2, ")") ? i + 3 : i + 1;
            while (open < out_.size() && !is(open, "(") && !is(open, ";") && !is(open, "{")) ++open;
            arguments_end = open;
            i = open - 1;
          }
        }
      } else if (t.is("<") && i > i0 && token(i - 1).identifier() && !assigned) {
        const size_t close = out_.angle(i, out_.size());
        if (close != kNone) {
          i = close;
          if (!e.parameters) arguments_end = close + 1;
        }
      } else if (t.is("(")) {
        const bool after_name = last_name != kNone && (i == last_name + 1 || i == arguments_end) &&
                                !kNotCallable.count(token(last_name).text);
        if (!e.parameters && !assigned && after_name && type_body_end == kNone)
          e.parameters = Range{i + 1, out_.match[i]};
        i = out_.match[i];
      } else if (t.is("[")) {
        i = out_.match[i];
      } else if (t.is("=")) {
        if (!assigned && !e.parameters) e.initializer = Range{i + 1, i + 1};
        assigned = true;
      } else if (t.is(":") && e.parameters) {
        constructor = true;
      } else if (t.is("{")) {
        const size_t close = out_.match[i];
        if (e.parameters && !assigned) {
          const bool member_initializer = constructor && (token(i - 1).identifier() || is(i - 1, ">"));
          if (!member_initializer) {
            e.body = Range{i, close + 1};
            i = close + 1;
            break;
          }
        } else if (type_word && !assigned && type_body_end == kNone) {
          e.body = Range{i, close + 1};
          e.kind = EntityKind::Type;
          type_body_end = close + 1;
        } else if (!assigned) {
          e.initializer = Range{i, close + 1};
          assigned = true;
        }
        i = close;
      }
    }
    const bool closed_by_semicolon = is(i, ";");
    if (e.initializer && e.initializer->empty()) e.initializer->end = i;
    size_t end = closed_by_semicolon ? i + 1 : i;
    if (end <= start) end = start + 1;  // always forward
    e.range = {start, end};
    if (last_name != kNone && token(last_name).identifier()) {
      e.name = token(last_name).text;
      e.name_at = last_name;
    }
    e.attributes = attributes_in({start, e.body ? e.body->begin : end});
    for (const Attribute& a : e.attributes) e.kernel |= a.name == "kernel";
    if (instantiation) {
      const size_t callee = last_name == kNone ? kNone : callee_start(i0, last_name);
      instantiate(e, Range{callee, arguments_end != kNone ? arguments_end : callee}, last_name,
                  arguments_end != kNone);
    } else {
      classify(std::move(e), type_word, type_body_end, closed_by_semicolon);
    }
    return end;
  }

  // The first token of the qualified name that ends at `name`.
  size_t callee_start(size_t begin, size_t name) const {
    while (name > begin + 1 && is(name - 1, "::")) {
      --name;
      if (name > begin && token(name - 1).identifier() && !kTypeWords.count(token(name - 1).text)) --name;
    }
    return name;
  }

  void classify(Entity e, bool type_word, size_t type_body_end, bool semicolon) {
    const Token& first = token(std::min(e.specifiers, out_.size() - 1));
    const bool other = first.is("using") || first.is("typedef") || first.is("static_assert") ||
                       first.is("namespace") || first.is("friend") || first.is("asm");
    if (other) {
      // An alias is reached by its name like anything else; `using x = ...` names it before the '='.
      e.kind = EntityKind::Other;
      e.parameters.reset();
      e.kernel = false;
    } else if (e.kind == EntityKind::Type) {
      name_type(e);
      // `struct S { ... } s;` would be a variable.
      size_t after = skip_attributes(type_body_end);
      if (semicolon && after + 1 < e.range.end && !first.is("typedef")) check_variable(e);
    } else if (e.parameters && !(has_specifier(e, "constant") && !returns_pointer(e))) {
      e.kind = EntityKind::Function;
    } else if (type_word && !e.initializer && e.name_at != kNone && is(e.name_at - 1, "struct")) {
      e.kind = EntityKind::Other;  // a forward declaration
    } else if (type_word && !e.initializer && e.name_at != kNone &&
               (is(e.name_at - 1, "class") || is(e.name_at - 1, "union") || is(e.name_at - 1, "enum"))) {
      e.kind = EntityKind::Other;
    } else if (semicolon && e.name_at != kNone) {
      e.kind = EntityKind::Variable;
      e.parameters.reset();
      check_variable(e);
    }
    // Specialisations of Metal's own templates stay outside of the namespace that wraps the file.
    const bool of_metal =
        e.name_at != kNone && ((is(e.name_at, "metal") && is(e.name_at + 1, "::")) ||
                               (e.name_at >= 2 && is(e.name_at - 1, "::") && is(e.name_at - 2, "metal")));
    if (of_metal && scopes_.empty() && (e.kind == EntityKind::Type || e.kind == EntityKind::Function))
      out_.metal_namespaces.push_back(e.range);
    if (e.kind == EntityKind::Function)
      check_function(e);
    else if (e.kernel)
      out_.error(e.specifiers, "'kernel' needs a function after it");
    out_.entities.push_back(std::move(e));
  }

  bool has_specifier(const Entity& e, std::string_view word) const {
    const size_t end = e.name_at != kNone ? e.name_at : e.range.end;
    for (size_t i = e.range.begin; i < end; ++i)
      if (is(i, word)) return true;
    return false;
  }

  bool returns_pointer(const Entity& e) const {
    for (size_t i = e.specifiers; i < e.name_at; ++i)
      if (is(i, "*") || is(i, "&")) return true;
    return false;
  }

  void name_type(Entity& e) {
    for (size_t i = e.specifiers; i < e.body->begin; ++i) {
      if (const auto group = out_.attribute_groups.find(i); group != out_.attribute_groups.end()) {
        i = group->second.range.end - 1;
      } else if (is(i, "struct") || is(i, "class") || is(i, "union") || is(i, "enum")) {
        size_t name = i + 1;
        if (is(name, "class") || is(name, "struct")) ++name;
        while (is(name, "__attribute__") || is(name, "alignas")) name = out_.match[name + 1] + 1;
        name = skip_attributes(name);
        e.name_at = name;
        e.name = name < e.body->begin && token(name).identifier() ? std::string(token(name).text) : "";
        return;
      }
    }
  }

  void check_variable(const Entity& e) {
    if (has_specifier(e, "constant")) return;
    const size_t at = e.name_at != kNone ? e.name_at : e.range.begin;
    // Any other word than a type in front is a misread declaration, which the compiler will explain better.
    if (e.name_at == e.specifiers) return;
    if (has_specifier(e, "threadgroup"))
      out_.error(at, "'" + e.name + "': a threadgroup variable can be declared only in a kernel");
    else
      out_.error(at, "program-scope variable '" + e.name + "' needs the constant address space");
  }

  void check_function(const Entity& e) {
    if (!e.kernel) {
      for (const Parameter& p : parse_parameters(out_, *e.parameters))
        if ((p.pointer || p.reference) && p.space_at == kNone && !p.type.empty() && e.name != "operator")
          out_.error(p.type.begin, "argument '" + parameter_name(p) + "' of function '" + e.name +
                                       "' is a pointer or reference: it needs an address space (device, "
                                       "constant, threadgroup or thread)");
      return;
    }
    std::string result;
    for (size_t i = e.specifiers; i < e.name_at; ++i) {
      if (const auto group = out_.attribute_groups.find(i); group != out_.attribute_groups.end()) {
        i = group->second.range.end - 1;
        continue;
      }
      if (is(i, "kernel") || is(i, "inline") || is(i, "static") || is(i, "extern") ||
          token(i).kind == TokenKind::String)
        continue;
      if (is(i, "__attribute__")) {
        i = out_.match[i + 1] == kNone ? i : out_.match[i + 1];
        continue;
      }
      result += (result.empty() ? "" : " ") + std::string(token(i).text);
    }
    if (result != "void")
      out_.error(e.name_at, "kernel '" + e.name + "' returns " + (result.empty() ? "nothing named" : result) +
                                ", needs to return void");
    for (const Attribute& a : e.attributes) allowed_.insert(a.at);
  }

  std::string parameter_name(const Parameter& p) const {
    return p.name_at == kNone ? out_.text(p.range) : std::string(token(p.name_at).text);
  }

  void instantiate(const Entity& e, Range callee, size_t name, bool has_arguments) {
    Instantiation result;
    result.range = e.range;
    result.scope = e.scope;
    bool host_name = false;
    for (const Attribute& a : e.attributes) {
      if (a.name != "host_name") continue;
      host_name = true;
      if (a.arguments.end - a.arguments.begin >= 1 && token(a.arguments.begin).kind == TokenKind::String)
        for (size_t i = a.arguments.begin; i < a.arguments.end; ++i)
          result.host_name += unquote(token(i).text);
    }
    if (name == kNone || callee.begin == kNone) return;
    result.function = token(name).text;
    result.name_at = name;
    result.callee = has_arguments ? callee : Range{callee.begin, name + 1};
    result.has_arguments = has_arguments;
    result.parameters = e.parameters;
    if (!e.kernel && !host_name && !out_.kernel(result.function)) return;  // an ordinary C++ instantiation
    for (const Attribute& a : e.attributes) allowed_.insert(a.at);
    if (e.parameters)
      for (const Attribute& a : attributes_in(*e.parameters)) allowed_.insert(a.at);
    if (result.host_name.empty())
      return out_.error(name, "instantiation of kernel '" + result.function +
                                  "' needs [[host_name(\"...\")]]: the runtime finds it by that name");
    if (!has_arguments && !e.parameters)
      return out_.error(name, "instantiation of kernel '" + result.function +
                                  "' needs its template arguments or its parameters");
    out_.instantiations.push_back(std::move(result));
  }

  void check_instantiation(const Instantiation& i) {
    size_t found = 0;
    for (const Entity& e : out_.entities)
      found += e.kernel && e.kind == EntityKind::Function && e.body && e.template_parameters &&
               e.name == i.function;
    if (found == 0)
      out_.error(i.name_at, "no kernel template '" + i.function + "' is defined for this instantiation");
    else if (found > 1)
      out_.error(i.name_at, "kernel template '" + i.function +
                                "' is defined more than once: overloads of a kernel "
                                "are not supported");
  }

  void find_constants() {
    std::unordered_map<std::string_view, size_t> known;
    for (size_t n = 0; n < out_.entities.size(); ++n) {
      Entity& e = out_.entities[n];
      if (e.kind != EntityKind::Variable || e.name.empty()) continue;
      FunctionConstant constant{e.name, n, {e.specifiers, e.name_at}, {}, {}, false, false};
      const Attribute* attribute = nullptr;
      for (const Attribute& a : e.attributes)
        if (a.name == "function_constant") attribute = &a;
      if (attribute) {
        allowed_.insert(attribute->at);
        constant.index = attribute->arguments;
        if (constant.index.empty())
          out_.error(attribute->at, "[[function_constant]] of '" + e.name + "' needs an index");
        if (e.initializer)
          out_.error(e.name_at, "function constant '" + e.name + "' cannot have an initializer");
      } else if (e.initializer && mentions(*e.initializer, known)) {
        constant.derived = true;
        constant.initializer = *e.initializer;
      } else {
        continue;
      }
      const size_t after = skip_attributes(e.name_at + 1);
      if (is(after, "[") || is(after, ","))
        out_.error(e.name_at,
                   "'" + e.name +
                       "': a function constant needs a declaration of its own and a scalar or vector type");
      known.emplace(token(e.name_at).text, out_.constants.size());
      out_.constants.push_back(std::move(constant));
    }
    for (size_t i = 0; i + 3 < out_.size(); ++i)
      if (is(i, "is_function_constant_defined") && is(i + 1, "(")) {
        const auto it = known.find(token(i + 2).text);
        if (it == known.end() || !is(i + 3, ")") || out_.constants[it->second].derived)
          out_.error(i, "is_function_constant_defined() needs the name of a function constant");
        else
          out_.constants[it->second].queried = true;
      }
  }

  bool mentions(Range range, const std::unordered_map<std::string_view, size_t>& names) const {
    for (size_t i = range.begin; i < range.end; ++i)
      if (token(i).identifier() && names.count(token(i).text) && !is(i - 1, ".")) return true;
    return false;
  }

  void check_stray_attributes() {
    for (const Entity& e : out_.entities)
      if (e.kernel && e.parameters)
        for (const Attribute& a : attributes_in(*e.parameters)) allowed_.insert(a.at);
    size_t next = 0;
    std::vector<size_t> open;  // brackets around the group
    for (const auto& [at, group] : out_.attribute_groups) {
      for (; next < at; ++next)
        if (out_.match[next] != kNone && out_.match[next] > next)
          open.push_back(next);
        else if (out_.match[next] != kNone)
          open.pop_back();
      // Functions that a kernel hands its builtins on to may repeat them.
      const bool parameter = !open.empty() && is(open.back(), "(");
      for (const Attribute& a : group.attributes)
        if (!a.keep && !allowed_.count(a.at) && !unsupported_attribute(a.name) &&
            ((find_builtin(a.name) && !parameter) || kFunctionAttributes.count(a.name) ||
             a.name == "buffer" || a.name == "threadgroup" || a.name == "function_constant"))
          out_.error(a.at, "[[" + a.name + "]] has no meaning here: it belongs to " +
                               (kFunctionAttributes.count(a.name) ? "a kernel" : "an argument of a kernel") +
                               (a.name == "function_constant" ? " or a program-scope constant" : ""));
    }
  }

  // Members such as `float2 xy;`, which would be taken for swizzles where they are used.
  void find_member_swizzles() {
    std::unordered_map<size_t, bool> bodies;  // '{' of a class -> it is anonymous
    for (size_t i = 0; i < out_.size(); ++i) {
      if (!(is(i, "struct") || is(i, "class") || is(i, "union")) || (i > 0 && is(i - 1, "enum"))) continue;
      for (size_t j = skip_attributes(i + 1), limit = std::min(out_.size(), j + 256); j < limit; ++j) {
        if (is(j, "{")) {
          bodies[j] = j == i + 1 && is(out_.match[j] + 1, ";");
          break;
        }
        if (is(j, "<")) {
          const size_t close = out_.angle(j, limit);
          if (close == kNone) break;
          j = close;
        } else if (!token(j).identifier() && !is(j, "::") && !is(j, ":") && !is(j, ",")) {
          break;
        }
      }
    }
    for (const auto& [open, anonymous] : bodies) {
      if (anonymous) continue;
      const size_t close = out_.match[open];
      std::unordered_set<std::string_view> seen;
      for (size_t i = open + 1; i < close; ++i) {
        if (is(i, "(") || is(i, "[")) {
          i = out_.match[i];
        } else if (is(i, "{")) {
          const auto nested = bodies.find(i);
          if (nested == bodies.end() || !nested->second) i = out_.match[i];
        } else if (token(i).identifier() && is_swizzle(token(i).text) && declares_member(i) &&
                   seen.insert(token(i).text).second) {
          out_.member_swizzles.emplace(close, Range{i, i + 1});
        }
      }
    }
  }

  bool declares_member(size_t i) const {
    static const Names kAfter = {";", ",", "[", "=", "{", ":"};
    const bool after = i + 1 < out_.size() && kAfter.count(token(i + 1).text);
    const bool before = token(i - 1).identifier() || is(i - 1, ">") || is(i - 1, "*") || is(i - 1, "&") ||
                        is(i - 1, ",") || is(i - 1, "]");
    return after && before && !is(i - 1, "using") && !is(i - 1, "struct") && !is(i - 1, "return");
  }

  Syntax out_;
  std::vector<std::string> scopes_;
  std::unordered_set<size_t> allowed_;
};

}  // namespace

const Attribute* Parameter::attribute(std::string_view name) const {
  for (const Attribute& a : attributes)
    if (a.name == name) return &a;
  return nullptr;
}

size_t Syntax::angle(size_t open, size_t end) const {
  // Bounded, so that a file of '<' costs no more than its length times a constant.
  constexpr size_t kLongest = 4096;
  constexpr int kDeepest = 64;
  int depth = 0;
  for (size_t i = open; i < std::min(end, open + kLongest); ++i) {
    const Token& t = token(i);
    if (t.kind == TokenKind::Pragma) return kNone;
    if (t.kind != TokenKind::Punctuator) continue;
    if (t.is("<")) {
      if (++depth > kDeepest) return kNone;
    } else if (t.is(">")) {
      if (--depth == 0) return i;
    } else if (t.is("(") || t.is("[")) {
      if (match[i] == kNone) return kNone;
      i = match[i];
    } else if (t.is("{") || t.is("}") || t.is(")") || t.is("]") || t.is(";") || t.is("&&") || t.is("||")) {
      return kNone;
    }
  }
  return kNone;
}

std::vector<Range> Syntax::split(Range range) const {
  std::vector<Range> parts;
  size_t begin = range.begin;
  for (size_t i = range.begin; i < range.end; ++i) {
    const Token& t = token(i);
    if (t.is(",")) {
      parts.push_back({begin, i});
      begin = i + 1;
    } else if ((t.is("(") || t.is("[") || t.is("{")) && match[i] != kNone) {
      i = match[i];
    } else if (t.is("<") && i > range.begin && token(i - 1).identifier()) {
      if (const size_t close = angle(i, range.end); close != kNone) i = close;
    }
  }
  if (begin < range.end || !parts.empty()) parts.push_back({begin, range.end});
  return parts;
}

std::string Syntax::text(Range range) const {
  std::string out;
  for (size_t i = range.begin; i < range.end; ++i) {
    if (const auto group = attribute_groups.find(i); group != attribute_groups.end()) {
      i = group->second.range.end - 1;
      continue;
    }
    if (!out.empty() && token(i).space_before) out += ' ';
    out += token(i).text;
  }
  return out;
}

void Syntax::error(size_t at, const std::string& message) {
  const Token& t = token(std::min(at, size() - 1));
  diagnostics.push_back({stream->files[t.file], t.line, message});
}

const Entity* Syntax::kernel(const std::string& name) const {
  for (const Entity& e : entities)
    if (e.kernel && e.kind == EntityKind::Function && e.name == name && e.body) return &e;
  return nullptr;
}

bool is_swizzle(std::string_view name) {
  if (name.size() < 2 || name.size() > 4) return false;
  return name.find_first_not_of("xyzw") == std::string_view::npos ||
         name.find_first_not_of("rgba") == std::string_view::npos;
}

std::vector<Parameter> parse_parameters(const Syntax& s, Range range) {
  std::vector<Parameter> result;
  for (Range part : s.split(range)) {
    if (part.empty() || (part.end - part.begin == 1 && s.is(part.begin, "void"))) continue;
    Parameter p;
    p.range = part;
    size_t last = kNone, type_words = 0;
    bool done = false;  // what follows '=' or '[' belongs to neither type nor name
    for (size_t i = part.begin; i < part.end; ++i) {
      if (const auto group = s.attribute_groups.find(i); group != s.attribute_groups.end()) {
        for (const Attribute& a : group->second.attributes) p.attributes.push_back(a);
        i = group->second.range.end - 1;
        continue;
      }
      const Token& t = s.token(i);
      if (done) {
        if (s.match[i] != kNone && s.match[i] > i) i = s.match[i];
        continue;
      }
      if (t.is("(")) {
        // `T (&name)[n]`
        for (size_t j = i + 1; j < s.match[i]; ++j) {
          p.pointer |= s.is(j, "*");
          p.reference |= s.is(j, "&");
          if (s.token(j).identifier() && !kTypeWords.count(s.token(j).text)) last = j;
        }
        ++type_words;
        i = s.match[i];
      } else if (t.is("[") || t.is("=")) {
        done = true;
        if (t.is("[")) {
          // `T name[n]` is a pointer, `T* name[n]` one to pointers, and `T (&name)[n]` what it was.
          if (!s.is(i - 1, ")")) (p.pointer || p.reference ? p.array : p.pointer) = true;
          i = s.match[i];
        }
      } else if (t.is("<")) {
        if (const size_t close = s.angle(i, part.end); close != kNone) i = close;
        ++type_words;
        last = kNone;
      } else if (t.identifier()) {
        if (kSpaces.count(t.text) && p.space_at == kNone) p.space_at = i;
        if (kTypeWords.count(t.text)) {
          last = kNone;
          type_words += t.text != "const" && t.text != "volatile" && !kSpaces.count(t.text);
        } else {
          type_words += last != kNone;
          last = i;
        }
      } else {
        p.pointer |= t.is("*");
        p.reference |= t.is("&") || t.is("&&");
        type_words += last != kNone;
        if (!t.is("::")) last = kNone;
      }
    }
    if (last != kNone && type_words > 0) p.name_at = last;
    p.type = {part.begin, p.name_at == kNone ? part.end : p.name_at};
    result.push_back(std::move(p));
  }
  return result;
}

Syntax parse(const TokenStream& stream) { return Parser(stream).run(); }

}  // namespace softmetal::msl
