// Running a compiler: an argument vector, never a shell.
#pragma once

#include <string>
#include <vector>

namespace softmetal::msl {

struct ProcessResult {
  bool started = false;
  bool timed_out = false;
  int status = -1;     // exit status; 128 + the signal that ended it
  std::string output;  // standard output and error together, or why it did not start

  bool ok() const { return started && !timed_out && status == 0; }
};

// Runs `arguments` with `environment` ("NAME=value") added to this process's, and waits for it.
ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment, int limit_seconds);

// A directory of our own, removed with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }  // empty when it could not be made
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace softmetal::msl
