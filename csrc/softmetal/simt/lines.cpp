#include "softmetal/simt/lines.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <unordered_map>

namespace softmetal::simt {

namespace {

// The numbers of DWARF 4 that matter here (dwarfstd.org, sections 7.5 and 7.21).
enum Tag : uint64_t { kCompileUnit = 0x11, kInlinedSubroutine = 0x1d, kSubprogram = 0x2e };
enum AttributeName : uint64_t {
  kName = 0x03,
  kStatementList = 0x10,
  kLowPc = 0x11,
  kHighPc = 0x12,
  kAbstractOrigin = 0x31,
  kSpecification = 0x47,
  kRanges = 0x55,
  kCallFile = 0x58,
  kCallLine = 0x59,
};
enum Form : uint64_t {
  kFormAddress = 0x01,
  kFormBlock2 = 0x03,
  kFormBlock4 = 0x04,
  kFormData2 = 0x05,
  kFormData4 = 0x06,
  kFormData8 = 0x07,
  kFormString = 0x08,
  kFormBlock = 0x09,
  kFormBlock1 = 0x0a,
  kFormData1 = 0x0b,
  kFormFlag = 0x0c,
  kFormSigned = 0x0d,
  kFormStringOffset = 0x0e,
  kFormUnsigned = 0x0f,
  kFormReferenceAddress = 0x10,
  kFormReference1 = 0x11,
  kFormReference2 = 0x12,
  kFormReference4 = 0x13,
  kFormReference8 = 0x14,
  kFormReferenceUnsigned = 0x15,
  kFormIndirect = 0x16,
  kFormSectionOffset = 0x17,
  kFormExpression = 0x18,
  kFormFlagPresent = 0x19,
  kFormSignature = 0x20,
};

// Reads little-endian numbers; past the end everything is zero and bad() is true.
class Cursor {
 public:
  Cursor() = default;
  explicit Cursor(std::string_view data, size_t at = 0) : data_(data), at_(std::min(at, data.size())) {
    bad_ = at > data.size();
  }
  bool bad() const { return bad_; }
  bool done() const { return bad_ || at_ >= data_.size(); }
  size_t at() const { return at_; }

  void skip(uint64_t bytes) {
    if (bytes > data_.size() - at_) bad_ = true;
    at_ += bad_ ? 0 : static_cast<size_t>(bytes);
  }
  uint64_t fixed(size_t bytes) {
    uint64_t value = 0;
    if (bytes > data_.size() - at_) {
      bad_ = true;
      return 0;
    }
    std::memcpy(&value, data_.data() + at_, bytes);
    at_ += bytes;
    return value;
  }
  uint64_t leb() {
    uint64_t value = 0;
    for (unsigned shift = 0; !bad_; shift += 7) {
      const uint64_t byte = fixed(1);
      if (shift < 64) value |= (byte & 0x7f) << shift;
      if (!(byte & 0x80)) break;
    }
    return value;
  }
  int64_t signed_leb() {
    uint64_t value = 0;
    unsigned shift = 0;
    uint64_t byte = 0x80;
    while (!bad_ && (byte & 0x80)) {
      byte = fixed(1);
      if (shift < 64) value |= (byte & 0x7f) << shift;
      shift += 7;
    }
    if (shift < 64 && (byte & 0x40)) value |= ~uint64_t{0} << shift;
    return static_cast<int64_t>(value);
  }
  std::string_view string() {
    const size_t end = data_.find('\0', at_);
    if (end == std::string_view::npos) {
      bad_ = true;
      return {};
    }
    const std::string_view result = data_.substr(at_, end - at_);
    at_ = end + 1;
    return result;
  }
  // The next `bytes` bytes by themselves.
  Cursor part(uint64_t bytes) {
    const size_t begin = at_;
    skip(bytes);
    Cursor result(data_.substr(0, at_), begin);
    result.bad_ = bad_;
    return result;
  }

 private:
  std::string_view data_;
  size_t at_ = 0;
  bool bad_ = false;
};

}  // namespace

class DwarfReader {
 public:
  DwarfReader(Lines& lines, std::string_view object) : lines_(lines), object_(object) {}

  void read() {
    if (!find_sections()) return;
    Cursor info(info_);
    while (!info.done()) {
      const size_t start = info.at();
      const uint64_t length = info.fixed(4);
      if (length >= 0xfffffff0) return;  // 64-bit DWARF, which no compiler writes unless told to
      read_unit(start, info.part(length));
    }
    name_scopes();
    const auto by_address = [](const Lines::Row& a, const Lines::Row& b) {
      // Where one sequence ends another one may begin.
      return a.address != b.address ? a.address < b.address : a.end > b.end;
    };
    std::stable_sort(lines_.rows_.begin(), lines_.rows_.end(), by_address);
  }

 private:
  struct Attribute {
    uint64_t name, form;
  };
  struct Abbreviation {
    uint64_t tag = 0;
    bool children = false;
    std::vector<Attribute> attributes;
  };
  struct Value {
    uint64_t number = 0;
    std::string_view text;
    uint64_t form = 0;
  };
  // What of a debugging entry is of use.
  struct Entry {
    uint64_t low = 0, high = 0, ranges = 0, origin = 0, call_file = 0, call_line = 0, statements = 0;
    bool has_low = false, has_high = false, high_is_size = false, has_ranges = false, has_statements = false;
    std::string_view name;
  };
  // A function's name, or the entry that has it.
  struct Named {
    std::string_view name;
    uint64_t origin;
  };

  bool find_sections() {
    Elf64_Ehdr header;
    if (object_.size() < sizeof(header)) return false;
    std::memcpy(&header, object_.data(), sizeof(header));
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
      return false;
    std::vector<Elf64_Shdr> sections(header.e_shnum);
    const size_t bytes = sections.size() * sizeof(Elf64_Shdr);
    if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shoff > object_.size() ||
        bytes > object_.size() - header.e_shoff || header.e_shstrndx >= sections.size())
      return false;
    std::memcpy(sections.data(), object_.data() + header.e_shoff, bytes);
    const auto contents = [&](const Elf64_Shdr& section) -> std::string_view {
      if (section.sh_type == SHT_NOBITS || (section.sh_flags & SHF_COMPRESSED) ||
          section.sh_offset > object_.size() || section.sh_size > object_.size() - section.sh_offset)
        return {};
      return object_.substr(section.sh_offset, section.sh_size);
    };
    const std::string_view names = contents(sections[header.e_shstrndx]);
    for (const Elf64_Shdr& section : sections) {
      const std::string_view name = Cursor(names, section.sh_name).string();
      if (name == ".debug_info") info_ = contents(section);
      if (name == ".debug_abbrev") abbreviations_ = contents(section);
      if (name == ".debug_line") statements_ = contents(section);
      if (name == ".debug_str") strings_ = contents(section);
      if (name == ".debug_ranges") ranges_ = contents(section);
    }
    return !info_.empty() && !abbreviations_.empty() && !statements_.empty();
  }

  void read_unit(size_t start, Cursor unit) {
    const uint64_t version = unit.fixed(2);
    if (version < 2 || version > 4) return;
    const auto& abbreviations = abbreviations_at(unit.fixed(4));
    address_size_ = unit.fixed(1);
    unit_start_ = start;
    unit_base_ = 0;
    unit_files_.clear();
    if (address_size_ != 8) return;
    uint32_t depth = 0;
    while (!unit.done()) {
      const size_t place = unit.at();
      const uint64_t code = unit.leb();
      if (code == 0) {
        if (depth > 0) --depth;
        continue;
      }
      if (code >= abbreviations.size() || abbreviations[code].tag == 0) return;
      const Abbreviation& abbreviation = abbreviations[code];
      Entry entry;
      for (const Attribute& attribute : abbreviation.attributes) {
        const Value value = read_value(unit, attribute.form);
        if (unit.bad()) return;
        note(entry, attribute.name, value);
      }
      use(abbreviation.tag, place, entry, depth);
      if (abbreviation.children) ++depth;
    }
  }

  const std::vector<Abbreviation>& abbreviations_at(uint64_t offset) {
    auto [it, added] = tables_.try_emplace(offset);
    std::vector<Abbreviation>& table = it->second;
    if (!added) return table;
    Cursor cursor(abbreviations_, offset);
    constexpr uint64_t kMost = 1 << 16;  // they are numbered one by one
    for (uint64_t code = cursor.leb(); code != 0 && code < kMost && !cursor.bad(); code = cursor.leb()) {
      if (table.size() <= code) table.resize(code + 1);
      Abbreviation& abbreviation = table[code];
      abbreviation.tag = cursor.leb();
      abbreviation.children = cursor.fixed(1) != 0;
      while (!cursor.bad()) {
        const Attribute attribute{cursor.leb(), cursor.leb()};
        if (attribute.name == 0 && attribute.form == 0) break;
        abbreviation.attributes.push_back(attribute);
      }
    }
    return table;
  }

  Value read_value(Cursor& unit, uint64_t form) {
    Value value;
    value.form = form;
    switch (form) {
      case kFormAddress:
      case kFormData8:
      case kFormReference8:
      case kFormSignature:
        value.number = unit.fixed(8);
        break;
      case kFormData4:
      case kFormReference4:
      case kFormReferenceAddress:
      case kFormSectionOffset:
        value.number = unit.fixed(4);
        break;
      case kFormData2:
      case kFormReference2:
        value.number = unit.fixed(2);
        break;
      case kFormData1:
      case kFormReference1:
      case kFormFlag:
        value.number = unit.fixed(1);
        break;
      case kFormUnsigned:
      case kFormReferenceUnsigned:
        value.number = unit.leb();
        break;
      case kFormSigned:
        value.number = static_cast<uint64_t>(unit.signed_leb());
        break;
      case kFormFlagPresent:
        value.number = 1;
        break;
      case kFormString:
        value.text = unit.string();
        break;
      case kFormStringOffset:
        value.text = Cursor(strings_, unit.fixed(4)).string();
        break;
      case kFormBlock1:
        unit.skip(unit.fixed(1));
        break;
      case kFormBlock2:
        unit.skip(unit.fixed(2));
        break;
      case kFormBlock4:
        unit.skip(unit.fixed(4));
        break;
      case kFormBlock:
      case kFormExpression:
        unit.skip(unit.leb());
        break;
      case kFormIndirect: {
        const uint64_t actual = unit.leb();
        if (actual != kFormIndirect) return read_value(unit, actual);
        unit.skip(UINT64_MAX);
        break;
      }
      default:
        unit.skip(UINT64_MAX);  // unknown, so the rest of the unit cannot be read
    }
    // References are counted from the unit's start, but for one form.
    if ((form >= kFormReference1 && form <= kFormReferenceUnsigned)) value.number += unit_start_;
    return value;
  }

  static void note(Entry& entry, uint64_t name, const Value& value) {
    switch (name) {
      case kName:
        entry.name = value.text;
        break;
      case kLowPc:
        entry.low = value.number;
        entry.has_low = true;
        break;
      case kHighPc:
        entry.high = value.number;
        entry.has_high = true;
        entry.high_is_size = value.form != kFormAddress;
        break;
      case kRanges:
        entry.ranges = value.number;
        entry.has_ranges = true;
        break;
      case kAbstractOrigin:
      case kSpecification:
        entry.origin = value.number;
        break;
      case kCallFile:
        entry.call_file = value.number;
        break;
      case kCallLine:
        entry.call_line = value.number;
        break;
      case kStatementList:
        entry.statements = value.number;
        entry.has_statements = true;
        break;
      default:
        break;
    }
  }

  void use(uint64_t tag, size_t place, const Entry& entry, uint32_t depth) {
    if (tag == kCompileUnit) {
      if (entry.has_low) unit_base_ = entry.low;
      if (entry.has_statements) read_statements(entry.statements);
      return;
    }
    if (tag != kSubprogram && tag != kInlinedSubroutine) return;
    named_[place] = {entry.name, entry.origin};
    Lines::Scope scope{0, 0, depth, Lines::kNone, Lines::kNone, 0, tag == kInlinedSubroutine};
    if (scope.inlined) {
      scope.call_line = static_cast<uint32_t>(entry.call_line);
      if (entry.call_file < unit_files_.size()) scope.call_file = unit_files_[entry.call_file];
    }
    const auto add = [&](uint64_t low, uint64_t high) {
      // The linker leaves zero for what it dropped.
      if (low == 0 || high <= low) return;
      scope.low = low;
      scope.high = high;
      lines_.scopes_.push_back(scope);
      places_.push_back(place);
    };
    if (entry.has_ranges) {
      Cursor cursor(ranges_, entry.ranges);
      uint64_t base = unit_base_;
      while (!cursor.done()) {
        const uint64_t low = cursor.fixed(8), high = cursor.fixed(8);
        if (low == 0 && high == 0) break;
        if (low == UINT64_MAX)
          base = high;
        else
          add(base + low, base + high);
      }
    } else if (entry.has_low && entry.has_high) {
      add(entry.low, entry.high_is_size ? entry.low + entry.high : entry.high);
    }
  }

  uint32_t file_number(std::string_view directory, std::string_view name) {
    std::string path(name);
    if (!directory.empty() && !name.empty() && name[0] != '/') path = std::string(directory) + "/" + path;
    const auto [it, added] = numbers_.try_emplace(path, static_cast<uint32_t>(lines_.files_.size()));
    if (added) lines_.files_.push_back(path);
    return it->second;
  }

  // The program that makes the rows of one unit (section 6.2).
  void read_statements(uint64_t offset) {
    Cursor section(statements_, offset);
    const uint64_t length = section.fixed(4);
    Cursor program = section.part(length);
    const uint64_t version = program.fixed(2);
    if (section.bad() || version < 2 || version > 4) return;
    const uint64_t header = program.fixed(4);
    const size_t begin = program.at() + static_cast<size_t>(std::min<uint64_t>(header, length));
    const uint64_t instruction_bytes = program.fixed(1);
    if (version >= 4) program.fixed(1);  // operations per instruction: one on these processors
    program.fixed(1);                    // is_stmt
    const auto line_base = static_cast<int8_t>(program.fixed(1));
    const uint64_t line_range = program.fixed(1);
    const uint64_t first_special = program.fixed(1);
    std::vector<uint64_t> operands(first_special);
    for (size_t i = 1; i < operands.size(); ++i) operands[i] = program.fixed(1);
    std::vector<std::string_view> directories{""};
    for (std::string_view d = program.string(); !d.empty(); d = program.string()) directories.push_back(d);
    unit_files_ = {Lines::kNone};
    const auto add_file = [&](std::string_view name, Cursor& from) {
      const uint64_t directory = from.leb();
      from.leb();  // time of change
      from.leb();  // size
      unit_files_.push_back(file_number(directory < directories.size() ? directories[directory] : "", name));
    };
    for (std::string_view f = program.string(); !f.empty(); f = program.string()) add_file(f, program);
    if (program.bad() || line_range == 0 || begin < program.at()) return;
    program.skip(begin - program.at());

    uint64_t address = 0, file = 1;
    int64_t line = 1;
    size_t sequence = lines_.rows_.size();
    const auto add_row = [&](bool end) {
      const uint32_t number = file < unit_files_.size() ? unit_files_[file] : Lines::kNone;
      lines_.rows_.push_back({address, number, static_cast<uint32_t>(std::max<int64_t>(line, 0)), end});
    };
    const auto end_sequence = [&] {
      add_row(true);
      // Dropped code starts at zero.
      if (lines_.rows_[sequence].address == 0) lines_.rows_.resize(sequence);
      sequence = lines_.rows_.size();
      address = 0;
      file = 1;
      line = 1;
    };
    while (!program.done()) {
      const uint64_t code = program.fixed(1);
      if (code >= first_special) {
        const uint64_t advance = code - first_special;
        address += advance / line_range * instruction_bytes;
        line += line_base + static_cast<int64_t>(advance % line_range);
        add_row(false);
        continue;
      }
      switch (code) {
        case 0: {  // extended
          const uint64_t bytes = program.leb();
          Cursor operation = program.part(bytes);
          switch (operation.fixed(1)) {
            case 1:
              end_sequence();
              break;
            case 2:
              address = operation.fixed(8);
              break;
            case 3: {
              const std::string_view name = operation.string();
              add_file(name, operation);
              break;
            }
            default:
              break;
          }
          break;
        }
        case 1:
          add_row(false);
          break;
        case 2:
          address += program.leb() * instruction_bytes;
          break;
        case 3:
          line += program.signed_leb();
          break;
        case 4:
          file = program.leb();
          break;
        case 8:
          address += (255 - first_special) / line_range * instruction_bytes;
          break;
        case 9:
          address += program.fixed(2);
          break;
        default:
          for (uint64_t i = 0; i < operands[code]; ++i) program.leb();
      }
    }
    lines_.rows_.resize(sequence);  // what has no end has no meaning
  }

  void name_scopes() {
    std::unordered_map<std::string_view, uint32_t> numbers;
    for (size_t i = 0; i < lines_.scopes_.size(); ++i) {
      std::string_view name;
      uint64_t place = places_[i];
      for (int steps = 0; steps < 8 && name.empty(); ++steps) {
        const auto it = named_.find(place);
        if (it == named_.end()) break;
        name = it->second.name;
        place = it->second.origin;
      }
      if (name.empty()) continue;
      const auto [it, added] = numbers.try_emplace(name, static_cast<uint32_t>(lines_.names_.size()));
      if (added) lines_.names_.emplace_back(name);
      lines_.scopes_[i].name = it->second;
    }
  }

  Lines& lines_;
  const std::string_view object_;
  std::string_view info_, abbreviations_, statements_, strings_, ranges_;
  std::unordered_map<uint64_t, std::vector<Abbreviation>> tables_;
  std::unordered_map<std::string, uint32_t> numbers_;  // of files
  std::unordered_map<uint64_t, Named> named_;
  std::vector<uint64_t> places_;  // of the entry of each scope
  uint64_t address_size_ = 8, unit_start_ = 0, unit_base_ = 0;
  std::vector<uint32_t> unit_files_;
};

Lines::Lines(const std::string& shared_object) {
  std::ifstream stream(shared_object, std::ios::binary);
  std::ostringstream object;
  object << stream.rdbuf();  // unlike an iterator it does not throw when the file is a directory
  DwarfReader(*this, object.str()).read();
}

std::vector<Frame> Lines::find(uint64_t address) const {
  auto row = std::upper_bound(rows_.begin(), rows_.end(), address,
                              [](uint64_t a, const Row& r) { return a < r.address; });
  if (row == rows_.begin() || (--row)->end) return {};
  std::vector<const Scope*> around;
  for (const Scope& scope : scopes_)
    if (address >= scope.low && address < scope.high) around.push_back(&scope);
  std::stable_sort(around.begin(), around.end(),
                   [](const Scope* a, const Scope* b) { return a->depth > b->depth; });
  std::vector<Frame> frames;
  uint32_t file = row->file, line = row->line;
  const auto add = [&](uint32_t name) {
    frames.push_back(
        {file == kNone ? std::string() : files_[file], line, name == kNone ? std::string() : names_[name]});
  };
  for (const Scope* scope : around) {
    add(scope->name);
    if (!scope->inlined) return frames;
    file = scope->call_file;
    line = scope->call_line;
  }
  add(kNone);
  return frames;
}

}  // namespace softmetal::simt
