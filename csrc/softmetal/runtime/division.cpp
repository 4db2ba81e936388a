#include "softmetal/runtime/division.h"

#if defined(__x86_64__) && defined(__linux__)
#include <link.h>
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>
#endif

namespace softmetal {

#if defined(__x86_64__) && defined(__linux__)

// Executable bytes of a library. Ranges are never freed, as a handler may look at them at any time: those
// that are over are empty, and used again.
struct CodeRange {
  std::atomic<uintptr_t> begin{0}, end{0};
  CodeRange* next = nullptr;       // of all
  CodeRange* companion = nullptr;  // of the same guard
};

namespace {

std::atomic<CodeRange*> ranges{nullptr};
std::atomic<DivisionObserver> observer{nullptr};
std::mutex mutex;            // over what follows and all changes of the ranges
struct sigaction earlier{};  // who handled SIGFPE before
std::atomic<bool> gave_up{false};

bool is_kernel_code(uintptr_t address) {
  for (const CodeRange* range = ranges.load(std::memory_order_acquire); range; range = range->next)
    if (address >= range->begin.load(std::memory_order_relaxed) &&
        address < range->end.load(std::memory_order_relaxed))
      return true;
  return false;
}

struct Division {
  unsigned length;  // of the instruction; 0: it is another one
  unsigned bytes;   // of an operand
  bool is_signed;
};

// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: F6 and F7 with /6 are DIV, with /7
// IDIV.
Division decode(const uint8_t* code) {
  const uint8_t* at = code;
  bool operand16 = false;
  uint8_t rex = 0;
  for (;; ++at) {
    if (*at == 0x66)
      operand16 = true;
    else if (*at != 0x67 && *at != 0x2e && *at != 0x36 && *at != 0x3e && *at != 0x26 && *at != 0x64 &&
             *at != 0x65)
      break;
  }
  if ((*at & 0xf0) == 0x40) rex = *at++;
  const uint8_t opcode = *at++;
  if (opcode != 0xf6 && opcode != 0xf7) return {};
  const unsigned modrm = *at++, mode = modrm >> 6, operation = modrm >> 3 & 7, operand = modrm & 7;
  if (operation != 6 && operation != 7) return {};
  const unsigned bytes = opcode == 0xf6 ? 1 : rex & 8 ? 8 : operand16 ? 2 : 4;
  if (mode != 3) {
    const bool has_base = operand != 4 || (*at++ & 7) != 5;
    if (mode == 1)
      at += 1;
    else if (mode == 2 || !has_base || operand == 5)
      at += 4;
  }
  return {static_cast<unsigned>(at - code), bytes, operation == 7};
}

// Gives the instruction its results. Says whether the dividend was the least number.
bool finish(const Division& division, greg_t* registers) {
  auto rax = static_cast<uint64_t>(registers[REG_RAX]), rdx = static_cast<uint64_t>(registers[REG_RDX]);
  if (division.bytes == 1) {  // AX by a byte, to AL and AH
    const uint64_t low = rax & 0xff;
    const bool least = division.is_signed && (rax & 0xffff) == 0xff80;
    rax = (rax & ~uint64_t{0xffff}) | (least ? 0x80 : low << 8);
    registers[REG_RAX] = static_cast<greg_t>(rax);
    return least;
  }
  const uint64_t mask = ~uint64_t{0} >> (64 - 8 * division.bytes);
  const uint64_t dividend = rax & mask;
  const bool least = division.is_signed && dividend == mask / 2 + 1 && (rdx & mask) == mask;
  // A result of 4 bytes clears the rest of its register, one of 2 leaves it.
  const uint64_t kept = division.bytes == 2 ? ~mask : 0;
  registers[REG_RAX] = static_cast<greg_t>((rax & kept) | (least ? dividend : 0));
  registers[REG_RDX] = static_cast<greg_t>((rdx & kept) | (least ? 0 : dividend));
  return least;
}

// The fault comes again, and finds the earlier handler. That one may hand it back to this one, which would
// go round for ever.
void give_up(const siginfo_t* info) {
  struct sigaction end{};
  end.sa_handler = SIG_DFL;
  sigaction(SIGFPE, gave_up.exchange(true) ? &end : &earlier, nullptr);
  if (info->si_code <= 0) raise(SIGFPE);  // somebody sent it
}

void handle(int, siginfo_t* info, void* context) {
  const int error = errno;
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto address = static_cast<uintptr_t>(registers[REG_RIP]);
  Division division{};
  if (info->si_code > 0 && is_kernel_code(address))
    division = decode(reinterpret_cast<const uint8_t*>(address));
  if (division.length == 0) {
    give_up(info);
  } else {
    registers[REG_RIP] += division.length;
    const bool least = finish(division, registers);
    if (const DivisionObserver told = observer.load(std::memory_order_acquire))
      told(reinterpret_cast<const void*>(address + division.length), least);
  }
  errno = error;
}

// Again with every library: others may have put theirs in place since. On the stack of the thread that
// divides, which is where the observer finds out who that is.
void install() {
  struct sigaction present{};
  if (sigaction(SIGFPE, nullptr, &present) != 0) return;
  if (present.sa_flags & SA_SIGINFO && present.sa_sigaction == handle) return;
  earlier = present;
  gave_up = false;
  struct sigaction ours{};
  ours.sa_sigaction = handle;
  ours.sa_flags = SA_SIGINFO;
  sigaction(SIGFPE, &ours, nullptr);
}

CodeRange* add(uintptr_t begin, uintptr_t end) {
  CodeRange* range = ranges.load(std::memory_order_relaxed);
  while (range && range->begin.load(std::memory_order_relaxed) != 0) range = range->next;
  if (!range) {
    range = new CodeRange;
    range->next = ranges.load(std::memory_order_relaxed);
    ranges.store(range, std::memory_order_release);
  }
  range->begin = begin;
  range->end = end;
  return range;
}

struct Wanted {
  uintptr_t address;
  CodeRange* first;
};

int add_object(dl_phdr_info* object, size_t, void* data) {
  auto& wanted = *static_cast<Wanted*>(data);
  const auto begin_of = [&](const auto& segment) { return uintptr_t{object->dlpi_addr} + segment.p_vaddr; };
  const auto segments = object->dlpi_phdr;
  bool found = false;
  for (unsigned i = 0; i < object->dlpi_phnum; ++i)
    found |= segments[i].p_type == PT_LOAD && wanted.address >= begin_of(segments[i]) &&
             wanted.address - begin_of(segments[i]) < segments[i].p_memsz;
  if (!found) return 0;
  for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
    if (segments[i].p_type != PT_LOAD || !(segments[i].p_flags & PF_X)) continue;
    CodeRange* made = add(begin_of(segments[i]), begin_of(segments[i]) + segments[i].p_memsz);
    made->companion = wanted.first;
    wanted.first = made;
  }
  return 1;
}

}  // namespace

DivisionGuard::DivisionGuard(const void* address) {
  const std::lock_guard lock(mutex);
  Wanted wanted{reinterpret_cast<uintptr_t>(address), nullptr};
  dl_iterate_phdr(add_object, &wanted);
  first_ = wanted.first;
  install();
}

DivisionGuard::~DivisionGuard() {
  const std::lock_guard lock(mutex);
  while (CodeRange* range = first_) {
    first_ = range->companion;
    range->end = 0;
    range->begin = 0;
  }
}

void observe_divisions(DivisionObserver told) { observer.store(told, std::memory_order_release); }

#else

DivisionGuard::DivisionGuard(const void*) {}
DivisionGuard::~DivisionGuard() = default;
void observe_divisions(DivisionObserver) {}

#endif

}  // namespace softmetal
