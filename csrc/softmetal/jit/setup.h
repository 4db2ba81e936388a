// With what, and where, kernels are compiled at run time.
#pragma once

#include <string>
#include <vector>

namespace softmetal::jit {

struct Setup {
  std::vector<std::string> compiler;  // the command; empty: none was found
  std::string missing;                // why, and what to install
  std::string headers;                // the directory that holds softmetal/msl and softmetal/runtime
  std::string cache;                  // the directory of compiled libraries; empty: keep nothing
  std::string identity;               // differs when anything above that makes the code does
};

// Replaces the search below. `find` is called at the next compilation.
void set_finder(Setup (*find)());

// What the finder says; without one, what the environment names or the machine has. Found once.
const Setup& setup();

}  // namespace softmetal::jit
