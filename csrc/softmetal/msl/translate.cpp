#include "softmetal/msl/translate.h"

#include <algorithm>
#include <charconv>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "softmetal/msl/builtins.h"
#include "softmetal/msl/syntax.h"
#include "softmetal/runtime/kernel_abi.h"

namespace softmetal::msl {
namespace {

constexpr uint32_t kMaxBuffers = 31;
constexpr uint32_t kMaxThreads = 1024;
// Nobody writes specifiers longer than this; the bound keeps a file of garbage from taking quadratic time.
constexpr size_t kLongDeclaration = 512;
// Nor statements without braces around more others.
constexpr unsigned kDeepStatement = 64;

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool ends_with(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

// One argument of a kernel, checked.
struct Argument {
  enum Kind { Buffer, Threadgroup, Builtin } kind = Buffer;
  Parameter parameter;
  std::string name;
  std::string space;
  std::string index;  // a number, or an expression for the C++ compiler
  bool index_known = false;
  const msl::Builtin* builtin = nullptr;
  size_t active = kNone;  // into Syntax::constants
  bool used = true;       // the kernel's body has its name
};

// How a kernel's threads run: the only one of its threadgroup, one by one in loops over the grid or over
// threadgroups, or each by itself among 32 lanes.
enum class Mode { SingleThread, Grid, Threads, Lanes };

struct Kernel {
  const Entity* entity = nullptr;
  std::vector<Argument> arguments;
  std::vector<size_t> constants;  // into Syntax::constants: those with an index
  std::vector<size_t> derived;    // and those computed from them
  std::string max_threads;        // of the attribute, or empty
  bool meets = false;             // its threads meet: barriers, SIMD-groups, threadgroup memory
  uint32_t features = 0;          // bits of SoftmetalFeature
  Mode mode = Mode::SingleThread;
};

// A kernel with a host name: a function, or an instantiation of a template.
struct Entry {
  std::string name;
  size_t kernel = 0;
  const Instantiation* instantiation = nullptr;
  size_t name_at = 0;
  std::string scope;
};

class Translator {
 public:
  Translator(std::string_view source, const std::string& file_name, const TranslateOptions& options)
      : options_(options), stream_(lex(source, file_name)), s_(parse(stream_)) {}

  Translation run() {
    if (s_.balanced && s_.size() > 0) {
      collect_reach();
      if (options_.width > 1) spread_parts();
      for (const Entity& e : s_.entities)
        if (e.kernel && e.kind == EntityKind::Function && e.body) analyse(e);
      collect_entries();
      rewrite();
    }
    Translation result;
    result.diagnostics = std::move(s_.diagnostics);
    std::stable_sort(result.diagnostics.begin(), result.diagnostics.end(), [](const auto& a, const auto& b) {
      return std::tie(a.file, a.line) < std::tie(b.file, b.line);
    });
    if (!result.ok()) return result;
    for (const Entry& e : entries_) result.kernels.push_back(reflect(e));
    result.files = s_.stream->files;
    result.cpp = emit();
    return result;
  }

 private:
  const Token& token(size_t i) const { return s_.token(i); }
  bool is(size_t i, std::string_view text) const { return s_.is(i, text); }

  // --- what a kernel can reach

  // For each declaration, the other ones that it names. By name alone, so never too few; operators have no
  // name at the place of their use, so everything reaches them.
  void collect_reach() {
    const size_t count = s_.entities.size();
    for (size_t n = 0; n < count; ++n) {
      const Entity& e = s_.entities[n];
      if (e.name == "operator")
        operators_.push_back(n);
      else if (!e.name.empty())
        by_name_[e.name].push_back(n);
    }
    reaches_.resize(count);
    meets_.resize(count);
    features_.resize(count);
    parts_.resize(count);
    for (size_t n = 0; n < count; ++n) {
      std::unordered_set<std::string_view> seen;
      for (size_t i = s_.entities[n].range.begin; i < s_.entities[n].range.end; ++i) {
        if (!token(i).identifier() || !seen.insert(token(i).text).second) continue;
        const std::string_view name = token(i).text;
        if (starts_with(name, "simd_") || starts_with(name, "simdgroup") || starts_with(name, "quad_") ||
            starts_with(name, "quadgroup") || name == "threadgroup_barrier")
          meets_[n] = true;
        if (is_meeting(name)) parts_[n] = true;
        if (name == "atomic_ulong") features_[n] |= SOFTMETAL_FEATURE_ATOMIC_ULONG;
        // What waits for an atomic has to make way for the other threads.
        if (options_.width > 1 && starts_with(name, "atomic_") &&
            (ends_with(name, "_explicit") || name == "atomic_thread_fence"))
          meets_[n] = true;
        // An overload set is one name: what it holds is walked once per declaration that names it.
        if (const auto it = by_name_.find(name); it != by_name_.end()) reaches_[n].push_back(&it->second);
      }
    }
  }

  static bool is_meeting(std::string_view name) {
    return starts_with(name, "simd_") || starts_with(name, "simdgroup_") || starts_with(name, "quad_");
  }

  // What has a SIMD-group function in reach, operators aside.
  void spread_parts() {
    std::unordered_map<const void*, std::vector<size_t>> users;  // of each name
    std::vector<size_t> open;
    for (size_t n = 0; n < parts_.size(); ++n) {
      for (const std::vector<size_t>* names : reaches_[n]) users[names].push_back(n);
      if (parts_[n]) open.push_back(n);
    }
    std::unordered_set<const void*> spread;
    while (!open.empty()) {
      const auto name = by_name_.find(s_.entities[open.back()].name);
      open.pop_back();
      if (name == by_name_.end() || !spread.insert(&name->second).second) continue;
      for (size_t n : users[&name->second]) {
        if (!parts_[n]) open.push_back(n);
        parts_[n] = true;
      }
    }
  }

  std::vector<bool> reached_from(size_t entity) const {
    std::vector<bool> reached(s_.entities.size());
    std::vector<size_t> open = operators_;
    open.push_back(entity);
    for (size_t n : open) reached[n] = true;
    std::unordered_set<const void*> walked;
    while (!open.empty()) {
      const size_t n = open.back();
      open.pop_back();
      for (const std::vector<size_t>* names : reaches_[n]) {
        if (!walked.insert(names).second) continue;
        for (size_t next : *names)
          if (!reached[next]) {
            reached[next] = true;
            open.push_back(next);
          }
      }
    }
    return reached;
  }

  // --- kernels

  void analyse(const Entity& e) {
    Kernel k;
    k.entity = &e;
    for (const Attribute& a : e.attributes) {
      if (a.name != "max_total_threads_per_threadgroup") continue;
      k.max_threads = s_.text(a.arguments);
      if (k.max_threads.empty()) s_.error(a.at, "[[max_total_threads_per_threadgroup]] needs a number");
    }
    if (e.template_parameters && e.template_parameters->empty())
      s_.error(e.name_at,
               "kernel '" + e.name + "' is an explicit specialisation: specialise a function that it calls");
    if (e.name == "operator") s_.error(e.name_at, "a kernel cannot be an operator");
    for (Parameter& p : parse_parameters(s_, *e.parameters))
      k.arguments.push_back(argument(e, std::move(p), k.arguments.size()));
    std::unordered_set<std::string_view> named;
    for (size_t i = e.body->begin; i < e.body->end; ++i) named.insert(token(i).text);
    for (Argument& a : k.arguments) a.used = named.count(a.name) != 0;
    assign_indices(e, k, Argument::Buffer, "buffer");
    assign_indices(e, k, Argument::Threadgroup, "threadgroup");

    const std::vector<bool> reached = reached_from(static_cast<size_t>(&e - s_.entities.data()));
    for (size_t n = 0; n < reached.size(); ++n) {
      k.meets = k.meets || (reached[n] && meets_[n]);
      if (reached[n]) k.features |= features_[n];
    }
    for (size_t i = e.body->begin; i < e.body->end; ++i)
      if (is(i, "threadgroup") && !threadgroup_variables(i).names.empty()) k.meets = true;
    bool in_group = false;
    for (const Argument& a : k.arguments) {
      k.meets = k.meets || a.kind == Argument::Threadgroup || (a.builtin && a.builtin->in_simdgroup);
      in_group = in_group || (a.builtin && a.builtin->in_group);
    }
    if (options_.checked || (k.meets && options_.width > 1))
      k.mode = Mode::Lanes;
    else
      k.mode = k.meets ? Mode::SingleThread : in_group ? Mode::Threads : Mode::Grid;
    for (size_t c = 0; c < s_.constants.size(); ++c)
      if (reached[s_.constants[c].entity]) (s_.constants[c].derived ? k.derived : k.constants).push_back(c);
    for (Argument& a : k.arguments)
      if (a.active != kNone &&
          std::find(k.constants.begin(), k.constants.end(), a.active) == k.constants.end())
        k.constants.push_back(a.active);
    if (k.constants.size() > 64)
      s_.error(e.name_at, "kernel '" + e.name + "' uses " + std::to_string(k.constants.size()) +
                              " function constants, at most 64 are supported");
    kernels_.push_back(std::move(k));
  }

  Argument argument(const Entity& e, Parameter p, size_t position) {
    Argument a;
    a.name = p.name_at == kNone ? std::string() : std::string(token(p.name_at).text);
    const std::string what = "argument " +
                             (a.name.empty() ? std::to_string(position + 1) : "'" + a.name + "'") +
                             " of kernel '" + e.name + "'";
    const size_t at = p.name_at != kNone ? p.name_at : p.type.begin;
    if (p.space_at != kNone) a.space = token(p.space_at).text;
    const Attribute* index = nullptr;
    for (const Attribute& attribute : p.attributes) {
      if (attribute.name == "buffer" || attribute.name == "threadgroup") {
        if (index) s_.error(attribute.at, what + " has two indices");
        index = &attribute;
      } else if (const Builtin* builtin = find_builtin(attribute.name)) {
        if (a.builtin) s_.error(attribute.at, what + " has two builtin attributes");
        a.builtin = builtin;
      } else if (attribute.name == "function_constant") {
        switched_by(a, attribute, what);
      } else if (!attribute.keep && !unsupported_attribute(attribute.name)) {
        s_.error(attribute.at, what + ": [[" + attribute.name + "]] has no meaning on an argument");
      }
    }
    const bool unsupported =
        std::any_of(p.attributes.begin(), p.attributes.end(), [](const Attribute& attribute) {
          return !attribute.keep && attribute.name != "buffer" && attribute.name != "threadgroup" &&
                 attribute.name != "function_constant" && !find_builtin(attribute.name);
        });
    const bool address = p.pointer || p.reference;
    if (unsupported) {
      // It has been reported already, and would only be reported again in other words.
    } else if (a.builtin) {
      a.kind = Argument::Builtin;
      check_builtin(a, p, index != nullptr || address, at, what);
    } else if (address && a.space.empty()) {
      s_.error(
          at,
          what + " is a pointer or reference: it needs an address space (device, constant or threadgroup)");
    } else if (address && a.space == "thread") {
      s_.error(at, what + " is in the thread address space, needs device, constant or threadgroup");
    } else if (address) {
      a.kind = a.space == "threadgroup" ? Argument::Threadgroup : Argument::Buffer;
      const char* needed = a.kind == Argument::Threadgroup ? "threadgroup" : "buffer";
      if (index && index->name != needed)
        s_.error(index->at, what + " is in the " + a.space + " address space and has [[" + index->name +
                                "]], needs [[" + needed + "(n)]]");
      if (p.array)
        s_.error(at, what + " is an array of buffers, which is not supported: give each buffer an argument");
      // Threadgroup arguments never overlap anything else, and knowing it lets loops over them vectorise.
      // Other threads write to them, though.
      if (options_.width == 1 && a.kind == Argument::Threadgroup && p.pointer && p.name_at != kNone &&
          is(p.name_at - 1, "*"))
        insert_before(p.name_at, "__restrict ");
      if (index) {
        a.index = s_.text(index->arguments);
        if (a.index.empty()) s_.error(index->at, what + ": [[" + index->name + "]] needs an index");
      }
    } else if (index) {
      s_.error(at, what + " has [[" + index->name +
                       "]] and is passed by value, needs to be a pointer or reference in " +
                       (index->name == "buffer" ? "device or constant" : "threadgroup") + " memory");
    } else if (!unsupported_in(p.type)) {
      s_.error(at,
               what +
                   " has no attribute, needs [[buffer(n)]] on a pointer or reference, or a builtin such as "
                   "[[thread_position_in_grid]]");
    }
    a.parameter = std::move(p);
    return a;
  }

  bool unsupported_in(Range type) const {
    for (size_t i = type.begin; i < type.end; ++i)
      if (token(i).identifier() && unsupported_type(token(i).text)) return true;
    return false;
  }

  void switched_by(Argument& a, const Attribute& attribute, const std::string& what) {
    const std::string name = s_.text(attribute.arguments);
    for (size_t c = 0; c < s_.constants.size(); ++c) {
      if (s_.constants[c].name != name) continue;
      if (s_.constants[c].derived)
        s_.error(attribute.at,
                 what + " is switched on by '" + name +
                     "', which is computed from other constants; that is not supported, it needs a "
                     "constant with an index of its own");
      else if (s_.text(s_.constants[c].type).find("bool") == std::string::npos)
        s_.error(attribute.at, what + " is switched on by '" + name + "', which is not a bool");
      a.active = c;
      return;
    }
    s_.error(attribute.at, what + ": '" + name + "' is not a function constant");
  }

  void check_builtin(const Argument& a, const Parameter& p, bool misplaced, size_t at,
                     const std::string& what) {
    static const std::unordered_set<std::string_view> scalars = {"uint", "ushort", "uint32_t", "uint16_t"};
    static const std::unordered_set<std::string_view> vectors = {"uint2", "uint3", "ushort2", "ushort3"};
    static const std::unordered_set<std::string_view> wrong = {
        "float",   "half",   "bfloat",  "bool",    "char",     "uchar",  "short",  "int",   "long",
        "ulong",   "size_t", "int32_t", "int64_t", "uint64_t", "int2",   "int3",   "int4",  "uint4",
        "ushort4", "short2", "short3",  "short4",  "float2",   "float3", "float4", "half2", "half3",
        "half4",   "ulong2", "ulong3",  "long2",   "long3",    "uchar2", "uchar3"};
    const std::string needs =
        std::string("needs uint") +
        (a.builtin->position ? ", uint2, uint3, ushort, ushort2 or ushort3" : " or ushort");
    if (misplaced)
      return s_.error(at, what + " with [[" + std::string(a.builtin->name) + "]] is a buffer, " + needs);
    for (size_t i = p.type.begin; i < p.type.end; ++i) {
      const std::string_view word = token(i).text;
      if (wrong.count(word) && !is(i - 1, "unsigned") && !(i > 0 && is(i - 1, "<")))
        return s_.error(at, what + " with [[" + std::string(a.builtin->name) + "]] is " + std::string(word) +
                                ", " + needs);
      if (vectors.count(word) && !a.builtin->position)
        return s_.error(at, what + " with [[" + std::string(a.builtin->name) + "]] is " + std::string(word) +
                                ", " + needs);
    }
  }

  // Checks the indices that are numbers, and gives the lowest free ones to arguments that have none.
  void assign_indices(const Entity& e, Kernel& k, Argument::Kind kind, const std::string& attribute) {
    std::string owner[kMaxBuffers];
    bool taken[kMaxBuffers] = {}, expressions = false;
    for (Argument& a : k.arguments) {
      if (a.kind != kind || a.index.empty()) continue;
      uint32_t value = 0;
      const auto [end, code] = std::from_chars(a.index.data(), a.index.data() + a.index.size(), value);
      const std::string_view suffix(end, static_cast<size_t>(a.index.data() + a.index.size() - end));
      if (code == std::errc::invalid_argument || !(suffix.empty() || suffix == "u" || suffix == "U")) {
        expressions = true;
        continue;
      }
      const size_t at = a.parameter.name_at != kNone ? a.parameter.name_at : a.parameter.type.begin;
      if (code != std::errc() || value >= kMaxBuffers) {
        s_.error(at, "argument '" + a.name + "' of kernel '" + e.name + "' has " + attribute + " index " +
                         a.index + ", the highest is " + std::to_string(kMaxBuffers - 1));
        continue;
      }
      a.index_known = true;
      a.index = std::to_string(value);
      if (taken[value])
        s_.error(at, "arguments '" + owner[value] + "' and '" + a.name + "' of kernel '" + e.name +
                         "' both have " + attribute + " index " + a.index);
      taken[value] = true;
      owner[value] = a.name;
    }
    uint32_t next = 0;
    for (Argument& a : k.arguments) {
      if (a.kind != kind || !a.index.empty() || a.space.empty() || a.builtin) continue;
      const size_t at = a.parameter.name_at != kNone ? a.parameter.name_at : a.parameter.type.begin;
      while (next < kMaxBuffers && taken[next]) ++next;
      if (expressions) {
        s_.error(at, "argument '" + a.name + "' of kernel '" + e.name + "' has no " + attribute +
                         " index, and those of others are expressions: write its index");
      } else if (next == kMaxBuffers) {
        s_.error(
            at, "argument '" + a.name + "' of kernel '" + e.name + "' finds no free " + attribute + " index");
      } else {
        taken[next] = true;
        a.index = std::to_string(next);
        a.index_known = true;
      }
      if (a.index.empty()) a.index = "0";
    }
  }

  void collect_entries() {
    std::unordered_map<std::string, bool> names;
    const auto add = [&](Entry e) {
      if (!names.emplace(e.name, true).second)
        s_.error(e.name_at, "two kernels have the host name '" + e.name + "'");
      entries_.push_back(std::move(e));
    };
    for (size_t n = 0; n < kernels_.size(); ++n) {
      const Entity& e = *kernels_[n].entity;
      if (e.template_parameters) continue;
      std::string name = e.name;
      for (const Attribute& a : e.attributes)
        if (a.name == "host_name") name = unquote(s_.text(a.arguments));
      add({name, n, nullptr, e.name_at, e.scope});
    }
    for (const Instantiation& i : s_.instantiations)
      for (size_t n = 0; n < kernels_.size(); ++n)
        if (kernels_[n].entity->name == i.function && kernels_[n].entity->template_parameters) {
          add({i.host_name, n, &i, i.name_at, i.scope});
          break;
        }
  }

  // --- rewriting

  void replace(size_t i, std::string text) { replaced_[i] = std::move(text); }
  void remove(Range range) {
    for (size_t i = range.begin; i < range.end; ++i) replace(i, "");
  }
  void insert_before(size_t i, const std::string& text) { before_[i] += text; }
  void insert_after(size_t i, const std::string& text) { after_[i] += text; }

  void rewrite() {
    if (options_.width > 1) count_meetings();
    if (options_.width > 1)
      for (const Entity& e : s_.entities)
        if ((e.kind == EntityKind::Function || e.kind == EntityKind::Type) && e.body) mark_regions(*e.body);
    for (size_t i = 0; i < s_.size(); ++i) {
      const Token& t = token(i);
      if (t.kind == TokenKind::Pragma) check_pragma(i);
      if (t.kind == TokenKind::Number) rewrite_number(i);
      if (t.identifier()) rewrite_identifier(i);
      if (options_.checked) check_cast(i);
    }
    for (const auto& [at, group] : s_.attribute_groups) {
      remove(group.range);
      std::string kept;
      for (const Attribute& a : group.attributes)
        if (a.keep)
          kept += (kept.empty() ? "" : ", ") + a.name +
                  (a.arguments.empty() ? "" : "(" + s_.text(a.arguments) + ")");
      if (!kept.empty()) replace(at, "[[" + kept + "]]");
    }
    for (const Entity& e : s_.entities)
      if (e.kernel && e.kind == EntityKind::Function) rewrite_kernel(e);
    for (size_t i = 0; i < s_.size(); ++i)
      if (is(i, "is_function_constant_defined") && is(i + 1, "(") && i + 3 < s_.size()) {
        size_t start = i;
        if (i >= 2 && is(i - 1, "::") && is(i - 2, "metal")) start = i - 2;
        if (start < i && start > 0 && is(start - 1, "::")) --start;
        remove({start, i});
        replace(i, "softmetal_defined_" + std::string(token(i + 2).text));
        remove({i + 1, i + 4});
      }
    remove_duplicates();
    for (const FunctionConstant& c : s_.constants) rewrite_constant(c);
    for (const auto& [close, name] : s_.member_swizzles)
      insert_before(close, swizzle_accessors(std::string(token(name.begin).text)));
  }

  // Functions that were overloads by address space alone are the same text now. One of them stays, if their
  // bodies are the same as well.
  void remove_duplicates() {
    Bodies seen;
    for (const Entity& e : s_.entities) {
      if (e.kind == EntityKind::Function && e.body && !e.kernel)
        remove_duplicate(e.scope, e.range, *e.body, seen);
      else if (e.kind == EntityKind::Type)
        remove_duplicate_members(*e.body);
    }
  }

  using Bodies = std::unordered_map<std::string, std::string>;  // by scope and head

  void remove_duplicate(const std::string& scope, Range range, Range body, Bodies& seen) {
    const auto [it, added] =
        seen.emplace(scope + ":" + rewritten({range.begin, body.begin}), rewritten({body.begin, range.end}));
    if (added) return;
    if (it->second != rewritten({body.begin, range.end}))
      s_.error(range.begin,
               "this function is defined before with the same parameters, or with ones that differ in their "
               "address spaces alone; such overloads need to have the same body");
    remove(range);
  }

  void remove_duplicate_members(Range body) {
    Bodies seen;
    size_t begin = body.begin + 1;
    bool parameters = false;
    for (size_t i = begin; i + 1 < body.end; ++i) {
      if (is(i, "(") || is(i, "[")) {
        parameters = parameters || is(i, "(");
        i = s_.match[i];
      } else if (is(i, ";")) {
        begin = i + 1;
        parameters = false;
      } else if (is(i, "{")) {
        const size_t open = i;
        i = s_.match[i];
        if (!parameters) continue;  // a nested type or an initializer
        remove_duplicate("", {begin, i + 1}, {open, i + 1}, seen);
        begin = i + 1;
        parameters = false;
      }
    }
  }

  // Methods through which a member called like a swizzle answers to the form that swizzles are rewritten to:
  // sw_xy(), a macro of the standard library for sw<0, 1>().
  static std::string swizzle_accessors(const std::string& member) {
    std::string parameters, condition;
    for (size_t n = 0; n < member.size(); ++n) {
      const std::string index(1, static_cast<char>('A' + n));
      const size_t place = std::string_view("xyzwrgba").find(member[n]) % 4;
      parameters += (n ? ", int " : "int ") + index;
      condition += (n ? " && " : "") + index + " == " + std::to_string(place);
    }
    const std::string head =
        " template <" + parameters + "> typename ::softmetal::entry::when<(" + condition + "), ";
    return head + "const decltype(" + member + ")&>::type sw() const { return " + member + "; }" + head +
           "decltype(" + member + ")&>::type sw() { return " + member + "; }" + head + "decltype(" + member +
           ")&>::type sw_ref() { return " + member + "; } ";
  }

  void rewrite_number(size_t i) {
    const std::string_view text = token(i).text;
    const bool hex = starts_with(text, "0x") || starts_with(text, "0X");
    const bool floating = hex ? text.find_first_of("pP") != std::string_view::npos
                              : text.find_first_of(".eE") != std::string_view::npos;
    const char last = text.back();
    if (!hex || floating) {
      if (text.size() > 2 && (text.substr(text.size() - 2) == "bf" || text.substr(text.size() - 2) == "BF"))
        return replace(i, "bfloat(" + as_float(text.substr(0, text.size() - 2)) + ")");
      if (last == 'h' || last == 'H')
        return replace(i, "half(" + as_float(text.substr(0, text.size() - 1)) + ")");
    }
    if (!floating || last == 'f' || last == 'F') return;
    if (last == 'l' || last == 'L')
      return s_.error(i, "literal " + std::string(text) + " is a long double, which Metal does not have");
    replace(i, std::string(text) + "f");
  }

  // A copy of a whole vector looks to the sanitizers like one of its bytes, so `*(device float4*)p` and
  // `((device float4*)p)[i]` say themselves that they need an alignment. `cast ->* p` lies between the
  // operators on its right side and those of arithmetic, as a cast does. One that is not read at once may
  // never be.
  void check_cast(size_t i) {
    if (i < 2) return;
    const Token& before = token(i - 2);
    const bool starred = is(i - 1, "*") && before.kind == TokenKind::Punctuator && !before.is(")") &&
                         !before.is("]") && !before.is(">");
    const bool returned = is(i - 1, "*") && before.is("return");
    const size_t outer = is(i - 1, "(") ? s_.match[i - 1] : kNone;
    const bool indexed = outer != kNone && (is(outer + 1, "[") || is(outer + 1, "->"));
    if (!starred && !returned && !indexed) return;
    if (is(i, "reinterpret_cast") && is(i + 1, "<")) return replace(i, "::softmetal::entry::aligned_cast");
    const size_t close = is(i, "(") ? s_.match[i] : kNone;
    if (close == kNone || close < i + 3 || !is(close - 1, "*") || close + 1 >= s_.size()) return;
    const Token& after = token(close + 1);
    if (!after.identifier() && !after.is("(") && !after.is("&") && !after.is("*")) return;
    bool space = false;
    for (size_t at = i + 1; at + 1 < close; ++at) {
      if (!token(at).identifier() && !token(at).is("::") && !token(at).is("<") && !token(at).is(">") &&
          !token(at).is(",") && token(at).kind != TokenKind::Number)
        return;
      space = space || is(at, "device") || is(at, "constant") || is(at, "threadgroup");
    }
    if (!space) return;
    replace(i, "::softmetal::entry::AlignedCast<");
    replace(close, ">() ->* ");
  }

  // Where the statement at i ends: past its last token; kNone where it makes no sense.
  size_t statement_end(size_t i, size_t end, unsigned depth = 0) const {
    if (depth > kDeepStatement) return kNone;
    while (i < end && token(i).kind == TokenKind::Pragma) ++i;
    if (i >= end) return kNone;
    const auto past = [&](size_t at) {
      return s_.match[at] == kNone || s_.match[at] < at ? kNone : s_.match[at] + 1;
    };
    if (is(i, "{")) return past(i);
    if (is(i, "if") || is(i, "for") || is(i, "while") || is(i, "switch")) {
      const bool branch = is(i, "if");
      size_t at = i + 1;
      if (is(at, "constexpr")) ++at;
      if (!is(at, "(") || (at = past(at)) == kNone) return kNone;
      at = statement_end(at, end, depth + 1);
      while (branch && at != kNone && at < end && is(at, "else")) at = statement_end(at + 1, end, depth + 1);
      return at;
    }
    if (is(i, "do")) {
      size_t at = statement_end(i + 1, end, depth + 1);
      if (at == kNone || !is(at, "while") || !is(at + 1, "(")) return kNone;
      at = past(at + 1);
      return at != kNone && is(at, ";") ? at + 1 : kNone;
    }
    for (; i < end; ++i) {
      if (is(i, ";")) return i + 1;
      if (s_.match[i] != kNone && s_.match[i] > i) i = s_.match[i];
    }
    return kNone;
  }

  // Lanes that part in a branch or a loop wait for each other at its end, if they exchange anything in it;
  // those in a loop after each round too.
  void mark_regions(Range body) {
    for (size_t i = body.begin; i < body.end; ++i) {
      const bool loop = is(i, "for") || is(i, "while") || is(i, "do");
      if (!loop && !is(i, "if") && !is(i, "switch")) continue;
      if (is(i, "if") && (is(i + 1, "constexpr") || (i > 0 && is(i - 1, "else")))) continue;
      if (is(i, "while") && i > 0 && ends_of_do_.count(i)) continue;
      const size_t end = statement_end(i, body.end);
      if (end == kNone || !meets_in({i, end})) continue;
      size_t begin = i;
      while (begin > body.begin && token(begin - 1).kind == TokenKind::Pragma) --begin;
      insert_before(begin, "{ const ::softmetal::Region sm_region; ");
      insert_after(end - 1, " }");
      if (!loop) continue;
      const size_t round = is(i, "do") ? i + 1 : s_.match[i + 1] + 1;
      const size_t round_end = statement_end(round, end);
      if (round_end == kNone) continue;
      if (is(i, "do")) ends_of_do_.insert(round_end);
      if (!meets_in({round, round_end})) continue;
      insert_before(round, "{ const ::softmetal::Region sm_region; ");
      after_[round_end - 1] = " }" + after_[round_end - 1];
    }
  }

  // Once for all tokens, as statements lie in one another.
  void count_meetings() {
    meetings_.assign(s_.size() + 1, 0);
    for (size_t i = 0; i < s_.size(); ++i) meetings_[i + 1] = meetings_[i] + meets_at(i);
  }

  bool meets_at(size_t i) const {
    if (!token(i).identifier()) return false;
    if (is_meeting(token(i).text)) return true;
    const auto it = by_name_.find(token(i).text);
    return it != by_name_.end() &&
           std::any_of(it->second.begin(), it->second.end(), [this](size_t n) { return parts_[n]; });
  }

  bool meets_in(Range range) const { return meetings_[range.end] > meetings_[range.begin]; }

  static std::string as_float(std::string_view digits) {
    const bool floating = digits.find_first_of(".eEpP") != std::string_view::npos;
    return std::string(digits) + (floating ? "f" : ".0f");
  }

  void rewrite_identifier(size_t i) {
    static const std::unordered_map<std::string_view, const char*> forbidden = {
        {"double", "'double' is not supported in Metal: use float"},
        {"goto", "'goto' is not supported in Metal"},
        {"thread_local", "'thread_local' is not supported in Metal"},
        {"virtual", "'virtual' functions are not supported in Metal"},
        {"dynamic_cast", "'dynamic_cast' is not supported in Metal"},
        {"typeid", "'typeid' is not supported in Metal"},
        {"throw", "exceptions are not supported in Metal"},
        {"try", "exceptions are not supported in Metal"},
        {"new", "'new' is not supported in Metal"},
        {"asm", "'asm' is not supported in Metal"},
        {"vertex", "vertex functions are not supported: only compute kernels are"},
        {"fragment", "fragment functions are not supported: only compute kernels are"},
        {"threadgroup_imageblock", "imageblocks are not supported: they belong to graphics functions"},
        {"ray_data", "ray tracing is not supported"},
        {"object_data", "mesh functions are not supported: only compute kernels are"},
    };
    const std::string_view text = token(i).text;
    const bool member = i > 0 && (is(i - 1, ".") || is(i - 1, "->"));
    if (member && is_swizzle(text) && !is(i + 1, "(")) {
      replace(i, "sw_" + std::string(text) + (assigned(i + 1) ? "_ref()" : "()"));
    } else if (text == "device" || text == "thread") {
      replace(i, "");
    } else if (repeated_specifier(i)) {
      replace(i, "");  // which not every compiler puts up with
    } else if (text == "static") {
      check_static(i);
    } else if (text == "threadgroup") {
      rewrite_threadgroup(i);
    } else if (text == "constant") {
      rewrite_constant_space(i);
    } else if (text == "delete" && !(i > 0 && is(i - 1, "="))) {
      s_.error(i, "'delete' is not supported in Metal");
    } else if (const auto it = forbidden.find(text); it != forbidden.end() && !member) {
      const Entity* e = enclosing(i);
      if ((text == "vertex" || text == "fragment") && e && !e->name.empty())
        s_.error(
            i, std::string(text) + " function '" + e->name + "' is not supported: only compute kernels are");
      else
        s_.error(i, it->second);
    } else if (const char* why = member ? nullptr : unsupported_type(text)) {
      if (names_type(i) && !declared(text))
        s_.error(i, "'" + std::string(text) + "' is not supported: " + why);
    }
  }

  bool repeated_specifier(size_t i) const {
    static const std::unordered_set<std::string_view> words = {"const", "constexpr", "static", "inline",
                                                               "volatile"};
    if (!words.count(token(i).text)) return false;
    for (size_t j = i; j-- > 0 && i - j < kLongDeclaration && token(j).identifier();)
      if (is(j, token(i).text)) return true;
    return false;
  }

  // Whether the word at i is used as a type: `sampler s`, `texture2d<float> t`, and not a variable of that
  // name.
  bool names_type(size_t i) const {
    if (is(i + 1, "<")) return s_.angle(i + 1, s_.size()) != kNone;
    return i + 1 < s_.size() && (token(i + 1).identifier() || is(i + 1, "*") || is(i + 1, "&")) &&
           !(i > 0 && (token(i - 1).kind == TokenKind::Number || is(i - 1, ")") || is(i - 1, "=")));
  }

  // A static variable of a function would be shared by all threads, which Metal allows for constants only.
  void check_static(size_t i) {
    const Entity* e = enclosing(i);
    if (!e || e->kind != EntityKind::Function || !e->body || !e->body->contains(i)) return;
    size_t j = i + 1;
    for (; j < std::min(s_.size(), i + kLongDeclaration); ++j) {
      if (is(j, "const") || is(j, "constexpr") || is(j, "constant")) return;
      if (is(j, "<"))
        j = std::min(s_.angle(j, s_.size()), s_.size());
      else if (!token(j).identifier() && !is(j, "::"))
        break;
    }
    if (i > 0 && (is(i - 1, "constant") || is(i - 1, "constexpr") || is(i - 1, "const"))) return;
    if (!is(j, "("))
      s_.error(i,
               "static variable '" + std::string(token(j - 1).text) + "' of a function needs to be constant");
  }

  bool declared(std::string_view name) const { return by_name_.count(name) != 0; }

  bool assigned(size_t i) const {
    static const std::unordered_set<std::string_view> operators = {
        "=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", "++", "--"};
    if (i >= s_.size() || token(i).kind != TokenKind::Punctuator) return false;
    return operators.count(token(i).text) || (is(i, ">") && is(i + 1, ">=") && !token(i + 1).space_before);
  }

  // `threadgroup T a[n], b;`
  struct ThreadgroupVariables {
    Range range;                    // without the ';'
    std::vector<size_t> names;      // none where the word only qualifies what is pointed to
    std::vector<Range> alignments;  // `alignas(n)`
    size_t initialized = kNone;     // one that has an initializer
    size_t other = kNone;           // a pointer or reference among them
  };

  // The first token of the declaration that has the word at i among its specifiers, or kNone.
  size_t declaration_start(size_t i) const {
    static const std::unordered_set<std::string_view> before = {"if", "for", "while", "switch"};
    size_t start = i;
    while (start > 0 && i - start < kLongDeclaration) {
      const Token& t = token(start - 1);
      if (t.kind == TokenKind::Pragma || t.is(";") || t.is("{") || t.is("}") || t.is(":") || t.is("else") ||
          t.is("do"))
        break;
      if (t.is("(") || t.is("[")) return kNone;
      if (!t.is(")") && !t.is("]")) {
        --start;
        continue;
      }
      const size_t open = s_.match[start - 1];
      if (t.is(")") && open > 0 && before.count(token(open - 1).text)) break;
      start = open;
    }
    while (s_.attribute_groups.count(start)) start = s_.attribute_groups.at(start).range.end;
    return is(start, "typedef") || is(start, "using") || is(start, "template") ? kNone : start;
  }

  // What the declaration with the word `threadgroup` at i declares. The word may follow the type.
  ThreadgroupVariables threadgroup_variables(size_t i) const {
    ThreadgroupVariables result;
    const size_t start = declaration_start(i);
    if (start == kNone) return {};
    size_t words = 0, last = kNone;
    bool first = true, pointer = false;
    const size_t limit = std::min(s_.size(), i + kLongDeclaration);
    for (size_t j = start; j < limit; ++j) {
      const Token& t = token(j);
      const bool passed = j > i;
      if (s_.attribute_groups.count(j)) {
        j = s_.attribute_groups.at(j).range.end - 1;
      } else if (t.is("alignas") || t.is("__attribute__")) {
        if (!is(j + 1, "(")) return {};
        if (t.is("alignas")) result.alignments.push_back({j, s_.match[j + 1] + 1});
        j = s_.match[j + 1];
      } else if (t.identifier()) {
        ++words;
        last = j;
        if (!t.is("struct") && !t.is("union")) continue;
        // The type may be defined on the spot.
        size_t body = j + 1;
        while (body < limit && token(body).identifier()) ++body;
        if (!is(body, "{")) continue;
        ++words;
        j = s_.match[body];
      } else if (t.is("<") && last == j - 1 && first) {
        const size_t close = s_.angle(j, s_.size());
        if (close == kNone || (i > j && i < close)) return {};
        j = close;
      } else if (t.is("[")) {
        j = s_.match[j];
      } else if (t.is("*") || t.is("&") || t.is("&&")) {
        pointer = passed;
      } else if (t.is("(") && passed && (is(j + 1, "*") || is(j + 1, "&"))) {
        pointer = true;  // `T (&name)[n]`
        j = s_.match[j];
      } else if (passed && (t.is(";") || t.is(",") || t.is("=") || t.is("{"))) {
        if (!pointer && (last == kNone || last <= i || (first && words < 3))) return {};
        if (pointer)
          result.other = j - 1;
        else
          result.names.push_back(last);
        size_t end = j;
        if (!t.is(";") && !t.is(",")) {
          if (!pointer) result.initialized = last;
          end = initializer_end(j, limit);
        }
        if (is(end, ";")) {
          result.range = {start, end};
          return result;
        }
        if (!is(end, ",")) return {};
        j = end;
        first = pointer = false;
        last = kNone;
      } else if (!t.is("::")) {
        return {};
      }
    }
    return {};
  }

  // The ',' or ';' after the initializer at i.
  size_t initializer_end(size_t i, size_t limit) const {
    for (; i < limit && !is(i, ",") && !is(i, ";"); ++i) {
      if (is(i, "<") && token(i - 1).identifier()) {
        if (const size_t close = s_.angle(i, limit); close != kNone) i = close;
      } else if (s_.match[i] != kNone) {
        if (s_.match[i] < i) return kNone;
        i = s_.match[i];
      }
    }
    return i;
  }

  const Entity* enclosing(size_t i) const {
    auto it = std::upper_bound(s_.entities.begin(), s_.entities.end(), i,
                               [](size_t at, const Entity& e) { return at < e.range.begin; });
    if (it == s_.entities.begin()) return nullptr;
    --it;
    return it->range.contains(i) ? &*it : nullptr;
  }

  void rewrite_threadgroup(size_t i) {
    replace(i, "");
    if (i > 0 && is(i - 1, "[") && s_.attribute_groups.count(i - 2)) return;  // [[threadgroup(n)]]
    const ThreadgroupVariables variables = threadgroup_variables(i);
    if (variables.names.empty()) return;
    const Entity* e = enclosing(i);
    if (!e || !e->body || !e->body->contains(i)) return;
    const std::string first(token(variables.names[0]).text);
    if (e->kind == EntityKind::Type)
      return s_.error(i, "a member cannot be in the threadgroup address space");
    if (e->kind != EntityKind::Function || !e->kernel)
      return s_.error(i, "'" + first + "': a threadgroup variable can be declared only in a kernel");
    if (variables.initialized != kNone)
      return s_.error(variables.initialized, "threadgroup variable '" +
                                                 std::string(token(variables.initialized).text) +
                                                 "' cannot be initialised");
    if (variables.other != kNone)
      return s_.error(i, "threadgroup variable '" + first +
                             "' is declared together with pointers or references, which needs a declaration "
                             "for each of the two");
    const std::string self = instance_of(*e);
    if (self.empty())
      return s_.error(e->name_at,
                      "kernel '" + e->name +
                          "' has threadgroup variables, so each of its template parameters needs a name");
    std::string alignment;
    for (Range r : variables.alignments) {
      alignment += s_.text(r) + " ";
      remove(r);
    }
    for (size_t j = variables.range.begin; j < variables.names[0]; ++j)
      if (is(j, "static")) replace(j, "");
    // With one thread in a threadgroup its memory is the thread's own. Else the variables are references, and
    // the declaration gives their types.
    const bool own = options_.width == 1;
    insert_before(variables.range.begin,
                  own ? alignment + "__attribute__((aligned(64))) " : std::string("typedef "));
    for (size_t name : variables.names) {
      const std::string text(token(name).text), number = std::to_string(slots_++);
      const std::string tag = "sm_variable_" + number, type = "sm_type_" + number;
      if (!own) replace(name, type);
      insert_after(variables.range.end, " struct " + alignment + tag +
                                            " { static constexpr const char* name() { return " + quote(text) +
                                            "; } };");
      insert_after(variables.range.end, own ? " (void)&::softmetal::entry::ThreadgroupVariable<&" + self +
                                                  ", " + tag + ", decltype(" + text + ")>::noted;"
                                            : " " + type + "& " + text +
                                                  " = ::softmetal::entry::threadgroup_variable<&" + self +
                                                  ", " + tag + ", " + type + ">();");
    }
  }

  // The kernel in its own body: `fn<T, N>`, or empty where a template parameter has no name.
  std::string instance_of(const Entity& e) const {
    if (!e.template_parameters) return e.name;
    std::string arguments;
    for (Range part : s_.split(*e.template_parameters)) {
      size_t name = kNone;
      bool pack = false;
      for (size_t i = part.begin; i < part.end && !is(i, "="); ++i) {
        if (is(i, "...")) pack = true;
        if (is(i, "<")) {
          const size_t close = s_.angle(i, part.end);
          if (close == kNone) break;
          i = close;
          name = kNone;
        } else if (token(i).identifier() && i > part.begin) {
          name = i;
        }
      }
      if (name == kNone) return "";
      arguments += (arguments.empty() ? "" : ", ") + std::string(token(name).text) + (pack ? "..." : "");
    }
    return e.name + "<" + arguments + ">";
  }

  // `constant` makes what it qualifies const, unless the declaration says so already.
  void rewrite_constant_space(size_t i) {
    bool has_const = false;
    const auto specifier = [this](size_t j) {
      return j < s_.size() && (token(j).identifier() || is(j, "::"));
    };
    for (size_t j = i; j-- > 0 && i - j < kLongDeclaration && specifier(j);)
      has_const = has_const || is(j, "const");
    for (size_t j = i + 1; j < std::min(s_.size(), i + kLongDeclaration); ++j) {
      if (is(j, "<")) {
        const size_t close = s_.angle(j, s_.size());
        if (close == kNone) break;
        j = close;
      } else if (!specifier(j)) {
        break;
      }
      has_const = has_const || is(j, "const");
    }
    replace(i, has_const ? "" : "const");
  }

  void rewrite_kernel(const Entity& e) {
    for (size_t i = e.specifiers; i < e.name_at; ++i)
      if (is(i, "kernel") || is(i, "inline") || is(i, "extern") || is(i, "static") ||
          (i > 0 && is(i - 1, "extern")))
        replace(i, "");
    // What is checked must not become part of its caller, which is not.
    insert_before(e.specifiers, options_.checked ? "static __attribute__((noinline)) "
                                                 : "inline __attribute__((always_inline)) ");
  }

  void rewrite_constant(const FunctionConstant& c) {
    const Entity& e = s_.entities[c.entity];
    if (!s_.diagnostics.empty()) return;
    for (size_t i = e.specifiers; i < e.name_at; ++i)
      if (is(i, "constant") || is(i, "const") || is(i, "constexpr") || is(i, "static")) replace(i, "");
    insert_before(e.specifiers, constant_storage());
    const size_t end = e.range.end - 1;
    if (c.derived) {
      derived_[end] = " static inline void softmetal_update_" + c.name + "() { " + c.name + " = decltype(" +
                      c.name + ")(" + rewritten(c.initializer) + "); }";
      remove(c.initializer);
      const size_t equals = c.initializer.begin - 1;
      if (is(equals, "=")) replace(equals, "");
    } else {
      insert_after(end, " " + constant_storage() + "bool softmetal_defined_" + c.name + ";");
    }
  }

  // One value per OS thread: each run of a kernel sets what its pipeline was specialised with. Checked
  // kernels run on one at a time, and what they read has to lie in the library.
  std::string constant_storage() const { return options_.checked ? "static " : "static thread_local "; }

  // --- emission

  // The tokens of a range as they will be emitted.
  std::string rewritten(Range range) const {
    std::string out;
    for (size_t i = range.begin; i < range.end; ++i) {
      const auto it = replaced_.find(i);
      const std::string_view text = it == replaced_.end() ? token(i).text : std::string_view(it->second);
      if (text.empty()) continue;
      if (!out.empty() && (token(i).space_before || it != replaced_.end())) out += ' ';
      out += text;
    }
    return out;
  }

  void goto_line(size_t i) {
    const Token& t = token(i);
    if (t.file == out_file_ && t.line == out_line_) return;
    if (t.file == out_file_ && t.line > out_line_ && t.line - out_line_ <= 8) {
      out_.append(t.line - out_line_, '\n');
    } else {
      if (!out_.empty() && out_.back() != '\n') out_ += '\n';
      out_ += line_marker(t);
    }
    out_file_ = t.file;
    out_line_ = t.line;
  }

  std::string line_marker(const Token& t) const {
    return "#line " + std::to_string(std::max(t.line, 1u)) + " " + quote(s_.stream->files[t.file]) + "\n";
  }

  // Text that is not the user's: the position is set anew after it.
  void raw(const std::string& text) {
    out_ += text;
    out_file_ = static_cast<uint32_t>(-1);
  }

  std::string emit() {
    std::map<size_t, std::vector<size_t>> wrappers;  // last token of a declaration -> its entries
    std::unordered_map<size_t, size_t> skipped;      // instantiations: only their wrapper is emitted
    for (size_t n = 0; n < entries_.size(); ++n) {
      const Instantiation* i = entries_[n].instantiation;
      const Range range = i ? i->range : kernels_[entries_[n].kernel].entity->range;
      wrappers[range.end - 1].push_back(n);
      if (i) skipped[i->range.begin] = i->range.end - 1;
    }
    std::map<size_t, int> namespace_edges;
    for (const Range& r : s_.metal_namespaces) {
      ++namespace_edges[r.begin];
      --namespace_edges[r.end - 1];
    }

    out_ =
        "#include \"softmetal_stdlib.h\"\n"
        "#include \"softmetal/msl/kernel_entry.h\"\n"
        "namespace {\n";
    out_file_ = static_cast<uint32_t>(-1);
    for (size_t i = 0; i < s_.size(); ++i) {
      const auto edge = namespace_edges.find(i);
      if (edge != namespace_edges.end() && edge->second > 0) raw("\n}\n");
      const auto skip = skipped.find(i);
      if (skip != skipped.end())
        i = skip->second;
      else
        emit_token(i);
      if (const auto d = derived_.find(i); d != derived_.end()) out_ += d->second;
      if (const auto w = wrappers.find(i); w != wrappers.end())
        for (size_t n : w->second) raw(wrapper(n));
      if (edge != namespace_edges.end() && edge->second < 0) raw("\nnamespace {\n");
    }
    raw("\n}\n" + unit());
    return std::move(out_);
  }

  void emit_token(size_t i) {
    const Token& t = token(i);
    const auto insert = before_.find(i);
    if (t.kind == TokenKind::Pragma) {
      if (insert != before_.end()) out_ += " " + insert->second;
      return raw(pragma(i));
    }
    const auto it = replaced_.find(i);
    const bool nothing = it != replaced_.end() && it->second.empty();
    if (insert != before_.end() || !nothing) goto_line(i);
    if (insert != before_.end()) out_ += " " + insert->second;
    if (nothing) {
      pending_space_ = true;
    } else {
      if (t.space_before || pending_space_ || it != replaced_.end()) out_ += ' ';
      pending_space_ = false;
      out_ += it == replaced_.end() ? std::string(t.text) : it->second;
    }
    if (const auto after = after_.find(i); after != after_.end()) {
      goto_line(i);
      out_ += after->second;
    }
  }

  // The words of a pragma, blanks around them removed.
  static std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    return text;
  }

  void check_pragma(size_t i) {
    const std::string_view body = trimmed(token(i).text);
    if (!starts_with(body, "METAL")) return;
    const std::string_view setting = trimmed(body.substr(5));
    for (const char* known :
         {"fp contract", "fp math_mode(safe)", "fp math_mode(relaxed)", "fp math_mode(fast)", "internals"})
      if (starts_with(setting, known)) return;
    s_.error(i, "#pragma " + std::string(body) + " is not supported");
  }

  std::string pragma(size_t i) const {
    const std::string body(trimmed(token(i).text));
    const auto for_clang = [&](const std::string& pragmas, const std::string& otherwise) {
      return "\n#ifdef __clang__\n" + pragmas + "\n#else\n" + otherwise + "\n#endif\n";
    };
    if (starts_with(body, "unroll")) {
      // gcc takes only a literal count, and without one would not unroll at all.
      const size_t digits = body.find_first_of("0123456789");
      std::string count = "16";
      if (digits != std::string::npos)
        count =
            body.substr(digits, std::min<size_t>(body.find_first_not_of("0123456789", digits) - digits, 4));
      return for_clang("#pragma " + body, "#pragma GCC unroll " + count);
    }
    if (starts_with(body, "clang")) return for_clang("#pragma " + body, "");
    if (starts_with(body, "once") || starts_with(body, "mark")) return "\n";
    if (!starts_with(body, "METAL")) return "\n#pragma " + body + "\n";
    const std::string setting(trimmed(std::string_view(body).substr(5)));
    const std::string refusal =
        line_marker(token(i)) + "#error \"#pragma " + body + " needs clang as the shader compiler\"";
    if (starts_with(setting, "fp contract")) return for_clang("#pragma clang " + setting, refusal);
    if (starts_with(setting, "fp math_mode(safe)"))
      return for_clang("#pragma float_control(precise, on)\n#pragma clang fp contract(off)", refusal);
    return "\n";  // what is left asks for no more than is done anyway
  }

  std::string qualified(const FunctionConstant& c, const std::string& prefix = "") const {
    return s_.entities[c.entity].scope + "::" + prefix + c.name;
  }

  std::string entry_type(size_t n) const { return "softmetal_kernel_" + std::to_string(n); }

  std::string callee(const Entry& e) const {
    if (!e.instantiation) return kernels_[e.kernel].entity->name;
    return rewritten(e.instantiation->callee);
  }

  // The struct that makes a kernel callable: reflection tables and the loop over a piece of a dispatch. It
  // stands where the kernel does, so that names mean the same, and blames that line for what the compiler
  // finds.
  std::string wrapper(size_t n) const {
    const Entry& e = entries_[n];
    const Kernel& k = kernels_[e.kernel];
    const std::string mark = line_marker(token(e.name_at));
    const std::string function = callee(e);
    std::string text = "\n" + mark + "struct " + entry_type(n) + " { ";
    if (e.instantiation && !e.instantiation->has_arguments) {
      // The template arguments follow from the types of the parameters.
      text += "static void sm_sample(" + rewritten(*e.instantiation->parameters) +
              "); using sm_signature = ::softmetal::entry::signature<decltype(&sm_sample)>; ";
      text += "static constexpr decltype(&sm_sample) sm_kernel = &" + function + "; ";
    } else {
      text += "using sm_signature = ::softmetal::entry::signature<decltype(&" + function +
              ")>; static constexpr decltype(&" + function + ") sm_kernel = &" + function + "; ";
    }
    text += tables(e, k) + "\n" + mark + prepare_function(k) + run_function(e, k, function) + "\n};\n";
    return text;
  }

  std::string tables(const Entry& e, const Kernel& k) const {
    std::string text, types;
    for (size_t c : k.constants)
      types += (types.empty() ? "decltype(" : ", decltype(") + qualified(s_.constants[c]) + ")";
    if (!k.constants.empty()) {
      text += "static constexpr ::SoftmetalFunctionConstant sm_constants[] = {";
      for (size_t i = 0; i < k.constants.size(); ++i) {
        const FunctionConstant& c = s_.constants[k.constants[i]];
        text += "::softmetal::entry::describe_constant<decltype(" + qualified(c) + ")>(" + quote(c.name) +
                ", " + s_.text(c.index) + ", ::softmetal::entry::constant_offset<" + types + ">(" +
                std::to_string(i) + "), " + (c.queried ? "false" : "true") + "), ";
      }
      text += "}; ";
    }
    text += "static constexpr ::uint32_t sm_constants_bytes = " +
            (k.constants.empty() ? "0"
                                 : "::softmetal::entry::constant_offset<" + types + ">(" +
                                       std::to_string(k.constants.size()) + ")") +
            "; ";
    std::string arguments, builtins;
    std::string expressions[2];
    bool check[2] = {};
    for (size_t i = 0; i < k.arguments.size(); ++i) {
      const Argument& a = k.arguments[i];
      const std::string type = "sm_signature::at<" + std::to_string(i) + ">";
      const std::string mark = "\n" + line_marker(token(a.parameter.type.begin));
      if (a.kind == Argument::Builtin) {
        builtins += quote(a.builtin->name) + ", ";
        text += mark + "static_assert(::softmetal::entry::" +
                (a.builtin->position ? "is_position_type<" : "is_index_type<") + type + ">, " +
                quote("argument '" + a.name + "' of kernel '" + e.name + "' with [[" +
                      std::string(a.builtin->name) + "]] needs uint" +
                      (a.builtin->position ? ", uint2, uint3, ushort, ushort2 or ushort3" : " or ushort")) +
                "); ";
        continue;
      }
      const bool threadgroup = a.kind == Argument::Threadgroup;
      check[threadgroup] |= !a.index_known;
      expressions[threadgroup] += "static_cast<::uint32_t>(" + a.index + "), ";
      size_t active = kNone;
      for (size_t c = 0; c < k.constants.size(); ++c)
        if (k.constants[c] == a.active) active = c;
      arguments += mark + "::softmetal::entry::describe<" + type + ">(" + quote(a.name) + ", " +
                   quote(type_name(a)) + ", static_cast<::uint32_t>(" + a.index + "), ::SOFTMETAL_ARGUMENT_" +
                   (threadgroup             ? "THREADGROUP, ::SOFTMETAL_SPACE_THREADGROUP"
                    : a.space == "constant" ? "BUFFER, ::SOFTMETAL_SPACE_CONSTANT"
                                            : "BUFFER, ::SOFTMETAL_SPACE_DEVICE") +
                   ", " + (active == kNone ? "-1" : std::to_string(active)) +
                   (a.used ? ", 0), " : ", ::SOFTMETAL_ARGUMENT_UNUSED), ");
    }
    if (!builtins.empty()) text += "static constexpr const char* sm_builtins[] = {" + builtins + "}; ";
    if (!arguments.empty())
      text += "static constexpr ::SoftmetalArgument sm_arguments[] = {" + arguments + "}; ";
    for (int kind = 0; kind < 2; ++kind)
      if (check[kind])
        text += "static constexpr ::uint32_t sm_indices_" + std::to_string(kind) + "[] = {" +
                expressions[kind] + "}; static_assert(::softmetal::entry::indices_fit(sm_indices_" +
                std::to_string(kind) + "), " +
                quote(std::string(kind ? "threadgroup" : "buffer") + " indices of kernel '" + e.name +
                      "' need to be different and at most 30") +
                "); ";
    return text;
  }

  static bool has_constants(const Kernel& k) { return !k.constants.empty() || !k.derived.empty(); }

  // Gives the function constants their values.
  std::string prepare_function(const Kernel& k) const {
    if (!has_constants(k)) return "";
    std::string text =
        "SOFTMETAL_UNCHECKED static void sm_prepare(const ::SoftmetalLaunch* sm_launch) { (void)sm_launch; ";
    for (size_t i = 0; i < k.constants.size(); ++i) {
      const FunctionConstant& c = s_.constants[k.constants[i]];
      if (i == 0) text += "::softmetal::entry::find_thread_variables(&" + qualified(c) + "); ";
      text += qualified(c) + " = ::softmetal::entry::constant_value<decltype(" + qualified(c) +
              ")>(sm_launch, sm_constants[" + std::to_string(i) + "].offset); " +
              qualified(c, "softmetal_defined_") + " = sm_launch->constants_defined >> " + std::to_string(i) +
              " & 1; ";
    }
    for (size_t d : k.derived) text += qualified(s_.constants[d], "softmetal_update_") + "(); ";
    return text + "} ";
  }

  std::string run_function(const Entry& e, const Kernel& k, const std::string& function) const {
    const std::string mark = line_marker(token(e.name_at));
    // A kernel is inlined by its own attribute; a pointer to it serves where its name alone is ambiguous.
    const std::string called = e.instantiation && !e.instantiation->has_arguments ? "sm_kernel" : function;
    const bool lanes = k.mode == Mode::Lanes;
    std::string text =
        lanes
            ? "SOFTMETAL_UNCHECKED static void sm_thread(const ::SoftmetalThread* sm_self) { const "
              "::softmetal::entry::LaneThread sm_t{sm_self}; "
              "const ::SoftmetalLaunch* sm_launch = sm_self->launch; (void)sm_launch; char* sm_memory = "
              "sm_self->arguments; (void)sm_memory; "
            : "static void sm_run(const ::SoftmetalLaunch* sm_launch, char* sm_memory, ::uint64_t sm_begin, "
              "::uint64_t sm_end) { (void)sm_memory; ";
    if (!lanes && has_constants(k)) text += "sm_prepare(sm_launch); ";
    std::string call = called + "(";
    for (size_t i = 0; i < k.arguments.size(); ++i) {
      const Argument& a = k.arguments[i];
      const std::string type = "sm_signature::at<" + std::to_string(i) + ">";
      const std::string local = "sm_a" + std::to_string(i);
      const std::string index = "static_cast<::uint32_t>(" + a.index + ")";
      if (i > 0) call += ", ";
      if (a.kind == Argument::Builtin) {
        call += "::softmetal::entry::builtin<" + type + ">(sm_t." + std::string(a.builtin->name) + "())";
        continue;
      }
      if (a.kind == Argument::Threadgroup)
        text += "const ::softmetal::entry::ThreadgroupArgument<" + type + "> " + local +
                "(sm_launch, sm_memory, " + index + "); ";
      else
        text += "::softmetal::entry::BufferArgument<" + type + "> " + local + "(sm_launch, " + index + "); ";
      call += local + ".get()";
    }
    call += ");";
    switch (k.mode) {
      case Mode::Lanes:
        text += call;
        break;
      case Mode::SingleThread:
        text +=
            "for (::softmetal::entry::Threadgroups sm_g(sm_launch, sm_begin, sm_end); sm_g.more(); "
            "sm_g.next()) { "
            "const ::softmetal::entry::SingleThread sm_t{sm_launch, sm_g.at}; (void)sm_t; " +
            call + " }";
        break;
      case Mode::Grid:
        text +=
            "for (::softmetal::entry::Rows sm_r(sm_launch, sm_begin, sm_end); sm_r.more(); sm_r.next()) "
            "for (::uint32_t sm_x = sm_r.first; sm_x < sm_r.last; ++sm_x) { "
            "const ::softmetal::entry::GridThread sm_t{sm_launch, {sm_x, sm_r.y, sm_r.z}}; (void)sm_t; " +
            call + " }";
        break;
      case Mode::Threads:
        text +=
            "if (::softmetal::entry::single(sm_launch)) "
            "for (::softmetal::entry::Threadgroups sm_g(sm_launch, sm_begin, sm_end); sm_g.more(); "
            "sm_g.next()) { "
            "const ::softmetal::entry::SingleThread sm_t{sm_launch, sm_g.at}; (void)sm_t; " +
            call +
            " } else "
            "for (::softmetal::entry::Threadgroups sm_g(sm_launch, sm_begin, sm_end); sm_g.more(); "
            "sm_g.next()) { "
            "const ::softmetal::entry::Triple sm_size = sm_g.size(sm_launch); "
            "for (::uint32_t sm_z = 0; sm_z < sm_size.z; ++sm_z) for (::uint32_t sm_y = 0; sm_y < sm_size.y; "
            "++sm_y) "
            "for (::uint32_t sm_x = 0; sm_x < sm_size.x; ++sm_x) { "
            "const ::softmetal::entry::GroupThread sm_t{sm_launch, sm_g.at, sm_size, {sm_x, sm_y, sm_z}}; "
            "(void)sm_t; " +
            call + " } }";
        break;
    }
    return text + " }";
  }

  // "float" of `const device float* x`.
  std::string type_name(const Argument& a) const {
    std::string out;
    for (size_t i = a.parameter.type.begin; i < a.parameter.type.end; ++i) {
      const Token& t = token(i);
      if (s_.attribute_groups.count(i)) {
        i = s_.attribute_groups.at(i).range.end - 1;
        continue;
      }
      if (t.is("const") || t.is("volatile") || t.is("device") || t.is("constant") || t.is("threadgroup") ||
          t.is("struct") || t.is("*") || t.is("&") || t.is("("))
        continue;
      if (!out.empty() && t.space_before) out += ' ';
      out += t.text;
    }
    return out;
  }

  std::string max_threads(const Kernel& k) const {
    if (k.mode == Mode::SingleThread) return "1";
    return k.max_threads.empty() ? std::to_string(kMaxThreads) : k.max_threads;
  }

  std::string unit() const {
    std::string rows, sums;
    for (size_t n = 0; n < entries_.size(); ++n) {
      const Entry& e = entries_[n];
      const Kernel& k = kernels_[e.kernel];
      const Token& t = token(k.entity->name_at);
      const std::string type = e.scope + "::" + entry_type(n);
      const auto builtins = std::count_if(k.arguments.begin(), k.arguments.end(),
                                          [](const Argument& a) { return a.kind == Argument::Builtin; });
      const bool buffers = static_cast<size_t>(builtins) < k.arguments.size();
      const auto count = [&](bool any, const std::string& table) {
        return any ? type + "::" + table + ", sizeof(" + type + "::" + table + ") / sizeof(" + type +
                         "::" + table + "[0])"
                   : std::string("nullptr, 0");
      };
      const bool lanes = k.mode == Mode::Lanes;
      rows += "  {" + quote(e.name) + ", " + (lanes ? std::string("nullptr") : type + "::sm_run") + ", " +
              (k.mode == Mode::Grid ? "SOFTMETAL_MODE_THREADS" : "SOFTMETAL_MODE_THREADGROUPS") + ", " +
              std::to_string(options_.width) + ", " + max_threads(k) + ", 0, " +
              count(buffers, "sm_arguments") + ", " + count(!k.constants.empty(), "sm_constants") + ", " +
              type + "::sm_constants_bytes, " + quote(s_.stream->files[t.file]) + ", " +
              std::to_string(t.line) + ", " + (lanes ? type + "::sm_thread" : "nullptr") + ", " +
              (has_constants(k) ? type + "::sm_prepare" : "nullptr") + ", nullptr, " +
              count(builtins > 0, "sm_builtins") + ", " + std::to_string(k.features) + "},\n";
      const std::string kernel = "softmetal_kernels[" + std::to_string(n) + "].";
      const std::string variables = "softmetal::entry::threadgroup_variables<" + type + "::sm_kernel>";
      sums += "  " + kernel + "static_threadgroup_bytes = " + variables + ".bytes;\n";
      if (lanes) sums += "  " + kernel + "variables = " + variables + ".first;\n";
    }
    const std::string table = entries_.empty() ? "nullptr" : "softmetal_kernels";
    return (entries_.empty() ? "" : "static SoftmetalKernel softmetal_kernels[] = {\n" + rows + "};\n") +
           "static const SoftmetalUnit softmetal_this_unit = {" + table + ", " +
           std::to_string(entries_.size()) + "};\nextern \"C\" const SoftmetalUnit* softmetal_unit_" +
           options_.unit_name + "() {\n" + sums + "  return &softmetal_this_unit;\n}\n";
  }

  KernelReflection reflect(const Entry& e) const {
    const Kernel& k = kernels_[e.kernel];
    const Token& t = token(k.entity->name_at);
    KernelReflection r;
    r.name = e.name;
    r.function = e.instantiation ? s_.text(e.instantiation->callee) : k.entity->name;
    r.mode = k.mode == Mode::Grid ? "threads" : "threadgroups";
    r.max_threads_per_threadgroup = max_threads(k);
    r.uses_threadgroup = k.meets;
    r.file = s_.stream->files[t.file];
    r.line = t.line;
    for (const Argument& a : k.arguments) {
      if (a.kind == Argument::Builtin) {
        r.builtins.emplace_back(a.builtin->name);
        continue;
      }
      bool read = a.space == "constant";
      for (size_t i = a.parameter.type.begin; i < a.parameter.type.end && !is(i, "*") && !is(i, "&"); ++i)
        read = read || is(i, "const");
      r.arguments.push_back({a.name, type_name(a), a.kind == Argument::Buffer ? "buffer" : "threadgroup",
                             a.index, a.space, read ? "read" : "read-write", a.parameter.reference,
                             a.active == kNone ? "" : s_.constants[a.active].name});
    }
    for (size_t c : k.constants) {
      std::string type;
      for (size_t i = s_.constants[c].type.begin; i < s_.constants[c].type.end; ++i)
        if (!is(i, "constant") && !is(i, "const") && !is(i, "static"))
          type += (type.empty() || !token(i).space_before ? "" : " ") + std::string(token(i).text);
      r.constants.push_back(
          {s_.constants[c].name, type, s_.text(s_.constants[c].index), !s_.constants[c].queried});
    }
    return r;
  }

  TranslateOptions options_;
  TokenStream stream_;
  Syntax s_;
  std::unordered_map<std::string_view, std::vector<size_t>> by_name_;  // declarations
  std::vector<size_t> operators_;
  std::vector<std::vector<const std::vector<size_t>*>> reaches_;
  std::vector<bool> meets_;
  std::vector<uint32_t> features_;
  std::vector<bool> parts_;         // of declarations: lanes meet in them
  std::vector<uint32_t> meetings_;  // before each token: those at which lanes meet
  std::vector<Kernel> kernels_;
  std::vector<Entry> entries_;
  unsigned slots_ = 0;
  std::unordered_map<size_t, std::string> replaced_, before_, after_, derived_;
  std::unordered_set<size_t> ends_of_do_;  // each `while` that belongs to a `do`
  std::string out_;
  uint32_t out_file_ = static_cast<uint32_t>(-1);
  uint32_t out_line_ = 0;
  bool pending_space_ = false;
};

}  // namespace

bool Translation::ok() const {
  return std::none_of(diagnostics.begin(), diagnostics.end(),
                      [](const Diagnostic& d) { return d.severity == Severity::Error; });
}

std::string Translation::log() const {
  std::string out;
  for (const Diagnostic& d : diagnostics) out += d.text() + "\n";
  return out;
}

Translation translate(std::string_view preprocessed, const std::string& file_name,
                      const TranslateOptions& options) {
  return Translator(preprocessed, file_name, options).run();
}

}  // namespace softmetal::msl
