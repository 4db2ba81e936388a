// What the translator understands of a file: its declarations, kernels and attributes as ranges of tokens.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "softmetal/msl/lexer.h"

namespace softmetal::msl {

constexpr size_t kNone = static_cast<size_t>(-1);

struct Range {
  size_t begin = 0;
  size_t end = 0;
  bool empty() const { return begin >= end; }
  bool contains(size_t i) const { return i >= begin && i < end; }
};

// One attribute of a `[[...]]` group. MSL's own are removed; C++'s and the compilers' stay.
struct Attribute {
  std::string name;
  size_t at = 0;    // the token of its name
  Range arguments;  // between the parentheses
  bool keep = false;
};

struct AttributeGroup {
  Range range;  // with both brackets
  std::vector<Attribute> attributes;
};

struct Parameter {
  Range range;  // without attributes
  size_t name_at = kNone;
  Range type;  // up to the name
  std::vector<Attribute> attributes;
  size_t space_at = kNone;  // device, constant, threadgroup or thread
  bool pointer = false;
  bool reference = false;
  bool array = false;  // of pointers

  const Attribute* attribute(std::string_view name) const;
};

enum class EntityKind { Function, Type, Variable, Other };

// A declaration at program or namespace scope.
struct Entity {
  EntityKind kind = EntityKind::Other;
  std::string name;
  size_t name_at = kNone;
  std::string scope;      // "::a::b"
  Range range;            // all of it
  size_t specifiers = 0;  // after `template <...>`
  std::optional<Range> template_parameters;
  std::optional<Range> parameters;  // between the parentheses
  std::optional<Range> body;        // with the braces
  std::optional<Range> initializer;
  std::vector<Attribute> attributes;
  bool kernel = false;
};

// `template [[host_name("x")]] kernel void fn<float>(...);`
struct Instantiation {
  Range range;
  std::string scope;
  std::string host_name;
  std::string function;  // unqualified
  size_t name_at = kNone;
  Range callee;                // `a::fn<float>`
  bool has_arguments = false;  // the template arguments are written
  std::optional<Range> parameters;
};

struct FunctionConstant {
  std::string name;
  size_t entity = kNone;
  Range type;
  Range index;
  Range initializer;  // of a constant computed from others: it has no index of its own
  bool derived = false;
  bool queried = false;  // is_function_constant_defined(name) appears
};

struct Syntax {
  const TokenStream* stream = nullptr;
  std::vector<size_t> match;                          // partner of each bracket
  std::map<size_t, AttributeGroup> attribute_groups;  // by first token
  std::vector<Entity> entities;
  std::vector<Instantiation> instantiations;
  std::vector<FunctionConstant> constants;
  std::vector<Range> metal_namespaces;           // `namespace metal { ... }` at program scope
  std::multimap<size_t, Range> member_swizzles;  // end of a struct's body -> name of a member like `xy`
  std::vector<Diagnostic> diagnostics;
  bool balanced = true;  // without matching brackets nothing else here means anything

  const Token& token(size_t i) const { return stream->tokens[i]; }
  size_t size() const { return stream->tokens.size(); }
  bool is(size_t i, std::string_view text) const { return i < size() && token(i).is(text); }
  // Index of the '>' that closes the '<' at `open`, or kNone where this is no template argument list.
  size_t angle(size_t open, size_t end) const;
  std::vector<Range> split(Range range) const;  // at commas outside all brackets
  std::string text(Range range) const;          // as written, attributes left out
  void error(size_t at, const std::string& message);
  const Entity* kernel(const std::string& name) const;
};

bool is_swizzle(std::string_view name);

// Reads declarations, attributes, instantiations and function constants; what is wrong goes to diagnostics.
Syntax parse(const TokenStream& stream);

// Splits a parameter list and finds each name, type, address space and attributes.
std::vector<Parameter> parse_parameters(const Syntax& syntax, Range range);

}  // namespace softmetal::msl
