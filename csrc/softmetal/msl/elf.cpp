#include "softmetal/msl/elf.h"

#include <cxxabi.h>
#include <elf.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace softmetal::msl {
namespace {

std::string demangle(const char* symbol) {
  int status = 0;
  char* text = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
  std::string result = status == 0 && text ? text : symbol;
  std::free(text);
  return result;
}

template <class T>
bool read_at(const std::string& file, uint64_t offset, T& value) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return false;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return true;
}

}  // namespace

std::vector<std::string> undefined_symbols(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string file((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  std::vector<std::string> names;
  Elf64_Ehdr header;
  if (!read_at(file, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return names;
  for (uint64_t n = 0; n < header.e_shnum; ++n) {
    Elf64_Shdr symbols, strings;
    if (!read_at(file, header.e_shoff + n * header.e_shentsize, symbols) || symbols.sh_type != SHT_DYNSYM)
      continue;
    if (!read_at(file, header.e_shoff + uint64_t{symbols.sh_link} * header.e_shentsize, strings)) continue;
    for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= symbols.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      if (!read_at(file, symbols.sh_offset + at, symbol)) break;
      const uint64_t name = strings.sh_offset + symbol.st_name;
      if (symbol.st_shndx != SHN_UNDEF || symbol.st_name == 0 || ELF64_ST_BIND(symbol.st_info) == STB_WEAK)
        continue;
      if (name < file.size()) names.push_back(demangle(file.c_str() + name));
    }
  }
  return names;
}

}  // namespace softmetal::msl
