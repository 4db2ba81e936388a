// What the library throws. Python has a class of the same name for each.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace metalloid {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An argument that breaks a precondition. Nothing has been encoded and no buffer touched.
class ValidationError : public Error {
 public:
  using Error::Error;
};

// A shader that does not compile; log() is what the compiler said.
class CompileError : public Error {
 public:
  CompileError(const std::string& message, std::string log) : Error(message), log_(std::move(log)) {}
  const std::string& log() const { return log_; }

 private:
  std::string log_;
};

// The device refused or failed: no such device, out of memory, a command buffer that ended in an error.
class DeviceError : public Error {
 public:
  explicit DeviceError(const std::string& message, std::string code = {})
      : Error(message), code_(std::move(code)) {}
  // Which one, where Metal says so: a name of command_buffer_error.h.
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

// Joins its arguments into a message: text("weight has ", n, " elements").
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

}  // namespace metalloid
