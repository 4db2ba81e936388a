#pragma once

#include <string>
#include <vector>

#include "softmetal/runtime/object.h"

namespace softmetal {

class String final : public Object {
 public:
  String() = default;
  explicit String(std::string text) : value(std::move(text)) {}
  static String* immortal(const char* text);

  const char* class_name() const override { return "NS::String"; }
  std::string describe() const override { return value; }
  bool equals(const Object& other) const override;
  size_t hash() const override { return std::hash<std::string>()(value); }

  std::string value;
};
SOFTMETAL_BRIDGE(NS::String, String)

class Array final : public Object {
 public:
  const char* class_name() const override { return "NS::Array"; }
  std::string describe() const override;
  bool equals(const Object& other) const override;

  void add(Object* object) { items.emplace_back(object); }

  std::vector<Ref<Object>> items;
};
SOFTMETAL_BRIDGE(NS::Array, Array)

class Data final : public Object {
 public:
  explicit Data(size_t size) : bytes(size) {}
  const char* class_name() const override { return "NS::Data"; }
  std::string describe() const override { return text("{length = %zu}", bytes.size()); }
  bool equals(const Object& other) const override;

  std::vector<char> bytes;
};
SOFTMETAL_BRIDGE(NS::Data, Data)

// A handful of entries at most, so a list that is searched.
class Dictionary final : public Object {
 public:
  const char* class_name() const override { return "NS::Dictionary"; }
  std::string describe() const override;

  void set(Object* key, Object* object);
  Object* find(const Object* key) const;

  std::vector<std::pair<Ref<Object>, Ref<Object>>> items;
};
SOFTMETAL_BRIDGE(NS::Dictionary, Dictionary)

class Enumerator final : public Object {
 public:
  const char* class_name() const override { return "NS::Enumerator"; }

  std::vector<Ref<Object>> items;
  size_t next = 0;
};

class Value final : public Object {
 public:
  enum class Kind { Pointer, Signed, Unsigned, Real };

  Value(Kind which) : kind(which) {}
  const char* class_name() const override { return "NS::Value"; }
  std::string describe() const override;
  bool equals(const Object& other) const override;
  size_t hash() const override;

  template <class T>
  T as() const {
    switch (kind) {
      case Kind::Signed:
        return static_cast<T>(integer);
      case Kind::Unsigned:
        return static_cast<T>(natural);
      case Kind::Real:
        return static_cast<T>(real);
      case Kind::Pointer:
        break;
    }
    return T();
  }

  const Kind kind;
  union {
    const void* pointer;
    int64_t integer;
    uint64_t natural = 0;
    double real;
  };
};
SOFTMETAL_BRIDGE(NS::Value, Value)
inline Value* impl(const NS::Number* number) { return impl(static_cast<const NS::Value*>(number)); }

class Error final : public Object {
 public:
  Error() = default;
  Error(const char* domain_name, int64_t error_code, std::string message);
  const char* class_name() const override { return "NS::Error"; }
  std::string describe() const override;
  std::string message() const;

  Ref<String> domain;
  int64_t code = 0;
  Ref<Dictionary> info;
};
SOFTMETAL_BRIDGE(NS::Error, Error)

class URL final : public Object {
 public:
  const char* class_name() const override { return "NS::URL"; }
  std::string describe() const override { return "file://" + path; }
  bool equals(const Object& other) const override;
  size_t hash() const override { return std::hash<std::string>()(path); }

  std::string path;
};
SOFTMETAL_BRIDGE(NS::URL, URL)

class ProcessInfo final : public Object {
 public:
  ProcessInfo() { make_immortal(); }
  const char* class_name() const override { return "NS::ProcessInfo"; }
};
SOFTMETAL_BRIDGE(NS::ProcessInfo, ProcessInfo)

// Fills the caller's NS::Error** with an autoreleased error and returns null.
std::nullptr_t fail(NS::Error** error, const char* domain, int64_t code, const std::string& message);

inline std::string str(const NS::String* string) { return string ? impl(string)->value : std::string(); }
inline NS::String* autoreleased_string(const std::string& value) {
  return face(autoreleased(new String(value)));
}

// A label as objects keep it: empty means none, which the getter gives back as null.
inline NS::String* label_string(const std::string& label) {
  return label.empty() ? nullptr : autoreleased_string(label);
}

}  // namespace softmetal
