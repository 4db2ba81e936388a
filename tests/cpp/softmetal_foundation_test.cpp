#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <type_traits>

#include "softmetal_kernels.h"

using test::string;
using test::text;

namespace {

int64_t live() { return softmetal::live_objects(); }

NS::SharedPtr<NS::AutoreleasePool> new_pool() {
  return NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
}

}  // namespace

// The classes are names for objects that only the runtime makes.
static_assert(!std::is_default_constructible_v<MTL::Buffer>);
static_assert(!std::is_copy_constructible_v<MTL::Device>);
static_assert(!std::is_destructible_v<NS::String>);
static_assert(std::is_convertible_v<NS::SharedPtr<MTL::Buffer>, NS::SharedPtr<MTL::Resource>>);
static_assert(!std::is_convertible_v<NS::SharedPtr<MTL::Resource>, NS::SharedPtr<MTL::Buffer>>);
static_assert(!std::is_convertible_v<NS::SharedPtr<MTL::Buffer>, bool>);
static_assert(!std::is_default_constructible_v<NS::Range>);

TEST_CASE("alloc and new give a reference that release takes back") {
  const int64_t before = live();
  NS::String* string = NS::String::alloc()->init("abc", NS::UTF8StringEncoding);
  CHECK(live() == before + 1);
  CHECK(string->retainCount() == 1);
  CHECK(string->retain() == string);
  CHECK(string->retainCount() == 2);
  string->release();
  string->release();
  CHECK(live() == before);
}

TEST_CASE("everything else is autoreleased") {
  const int64_t before = live();
  {
    auto pool = new_pool();
    NS::String* outer = string("outer");
    {
      auto inner_pool = new_pool();
      string("inner");
      CHECK(live() == before + 4);
    }
    CHECK(live() == before + 2);
    CHECK(text(outer) == "outer");
  }
  CHECK(live() == before);

  std::thread([] { string("no pool"); }).join();
  CHECK(live() == before);
}

TEST_CASE("a string keeps its text") {
  auto pool = new_pool();
  CHECK(string("gr\xc3\xbc\xc3\x9f")->length() == 4);
  CHECK(string("gr\xc3\xbc\xc3\x9f")->lengthOfBytes(NS::UTF8StringEncoding) == 6);
  CHECK(string("\xf0\x9f\xa4\x98")->length() == 2);  // a surrogate pair
  CHECK(string("\xf0\x9f\xa4\x98")->character(0) == 0xd83e);
  CHECK(string("\xf0\x9f\xa4\x98")->character(1) == 0xdd18);
  CHECK(string("a")->isEqualToString(string("a")));
  CHECK_FALSE(string("a")->isEqualToString(string("b")));
  CHECK(string("a")->hash() == string("a")->hash());
  CHECK(text(string("a")->stringByAppendingString(string("b"))) == "ab");
  CHECK(string("B")->caseInsensitiveCompare(string("a")) == NS::OrderedDescending);
  CHECK(NS::String::string("gr\xc3\xbc", NS::ASCIIStringEncoding) == nullptr);
  CHECK(MTLSTR("constant")->isEqualToString(string("constant")));
}

TEST_CASE("collections retain what they hold") {
  const int64_t before = live();
  {
    auto pool = new_pool();
    const NS::Object* objects[] = {string("a"), NS::Number::number(2)};
    NS::Array* array = NS::Array::array(objects, 2);
    CHECK(array->count() == 2);
    CHECK(text(array->object<NS::String>(0)) == "a");
    CHECK(array->object<NS::Number>(1)->intValue() == 2);
    CHECK(text(array->description()) == "(a, 2)");
    int seen = 0;
    for (auto* walk = array->objectEnumerator(); walk->nextObject();) ++seen;
    CHECK(seen == 2);

    const NS::Object* keys[] = {string("x"), string("y")};
    NS::Dictionary* dictionary = NS::Dictionary::dictionary(objects, keys, 2);
    CHECK(dictionary->object<NS::Number>(string("y"))->intValue() == 2);
    CHECK(dictionary->object(string("z")) == nullptr);
    CHECK(dictionary->keyEnumerator<NS::String>()->allObjects()->count() == 2);
  }
  CHECK(live() == before);
}

TEST_CASE("numbers convert and compare by value") {
  auto pool = new_pool();
  CHECK(NS::Number::number(3.75)->intValue() == 3);
  CHECK(NS::Number::number(-1)->longLongValue() == -1);
  CHECK(NS::Number::number(true)->boolValue());
  CHECK(NS::Number::number(0.5f)->boolValue());
  CHECK(NS::Number::number(2)->isEqualToNumber(NS::Number::number(2.0)));
  CHECK_FALSE(NS::Number::number(-1)->isEqualToNumber(NS::Number::number(~0ull)));
  CHECK(text(NS::Number::number(7u)->stringValue()) == "7");
}

TEST_CASE("an error describes itself") {
  auto pool = new_pool();
  auto* info = NS::Dictionary::dictionary(string("what happened"), NS::LocalizedDescriptionKey);
  auto* error = NS::Error::error(string("Domain"), 7, info);
  CHECK(error->code() == 7);
  CHECK(text(error->domain()) == "Domain");
  CHECK(text(error->localizedDescription()) == "what happened");
  CHECK(text(error->description()) == "Error Domain=Domain Code=7 \"what happened\"");
  CHECK(text(NS::Error::error(string("D"), 1, nullptr)->localizedDescription()).find("D error 1") !=
        std::string::npos);
}

TEST_CASE("a shared pointer owns one reference") {
  const int64_t before = live();
  {
    auto a = NS::TransferPtr(NS::String::alloc()->init());
    NS::SharedPtr<NS::String> b = a;
    CHECK(a->retainCount() == 2);
    NS::SharedPtr<NS::Object> c = std::move(b);
    CHECK_FALSE(b);
    CHECK(c == a);
    c = a;
    CHECK(a->retainCount() == 2);
    c = nullptr;
    CHECK(a->retainCount() == 1);
    auto d = NS::RetainPtr(a.get());
    d.reset();
    CHECK(a->retainCount() == 1);
    CHECK_FALSE(NS::RetainPtr<NS::String>(nullptr));
  }
  CHECK(live() == before);
}

TEST_CASE("a release too many is noticed") {
  // In a process of its own, since it dies; under the debug layer, so that every build notices.
  int output[2];
  REQUIRE(pipe(output) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(output[1], STDERR_FILENO);
    setenv("MTL_DEBUG_LAYER", "1", 1);
    execl("/proc/self/exe", "softmetal_foundation_test", "release-twice", nullptr);
    _exit(127);
  }
  close(output[1]);
  std::string message(4096, '\0');
  const ssize_t length = read(output[0], message.data(), message.size());
  message.resize(length > 0 ? static_cast<size_t>(length) : 0);
  close(output[0]);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(message.find("release: NS::String at") != std::string::npos);
  CHECK(message.find("has already been freed") != std::string::npos);
}

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "release-twice") {
    NS::String* string = NS::String::alloc()->init();
    string->release();
    string->release();
    return 0;
  }
  return doctest::Context(argc, argv).run();
}
