// What depends on the system: its shading language, and what its GPU has.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "core_support.h"
#include "metalloid/command_encoder.h"
#include "metalloid/compile.h"
#include "metalloid/graph.h"
#include "metalloid/program.h"
#include "metalloid/system.h"
#include "ops/elementwise.h"

using namespace metalloid;

TEST_CASE("each macOS has its newest shading language") {
  CHECK(newest_language(14) == std::string("3.1"));
  CHECK(newest_language(15) == std::string("3.2"));
  CHECK(newest_language(16) == std::string("4.0"));
  CHECK(newest_language(26) == std::string("4.0"));
  CHECK(newest_language(27) == std::string("4.0"));
  const Language known = language();
  CHECK_FALSE(known.system.empty());
  CHECK((known.newest == "3.1" || known.newest == "3.2" || known.newest == "4.0"));
}

TEST_CASE("indirect command buffers are made where the device has them and nobody says no") {
  const char* chosen = std::getenv("METALLOID_INDIRECT");
  const bool off = chosen && std::string(chosen) == "0";
  const bool indirect = device().has_indirect_commands();
  CHECK(indirect == (!off && device().metal()->supportsFamily(MTL::GPUFamilyApple7)));
  const Pipeline& pipeline = device().library().pipeline("add_f32");
  if (!indirect) CHECK_FALSE(pipeline.state->supportIndirectCommandBuffers());

  Buffer x = filled({64}, 1), y = filled({64}, 0), z = filled({64}, 0);
  Graph graph(device());
  ops::add(graph, x, x, &y);
  ops::add(graph, y, x, &z);
  graph.finish();
  const auto program = graph.program();
  uint32_t begin = 0, count = 0;
  const bool recorded = program->commands(0, begin, count) != nullptr;
  CHECK(recorded == (indirect && pipeline.state->supportIndirectCommandBuffers()));
  CHECK((recorded || program->resources().empty()));
  for (int i = 0; i < 3; ++i) {
    std::fill_n(floats(x), 64, static_cast<float>(i));
    CommandEncoder encoder(device());
    graph.encode(encoder, 0, 2);
    encoder.commit_and_wait();
    CHECK(all_near(z, 3.0f * static_cast<float>(i)));
  }
}
