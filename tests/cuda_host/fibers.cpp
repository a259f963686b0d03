// The threads of a block as fibers on one thread of the host. Not for several threads of the host at once.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

extern "C" char __start_cuda_host_shared[] __attribute__((weak));
extern "C" char __stop_cuda_host_shared[] __attribute__((weak));

namespace {

constexpr size_t kStack = 256 * 1024;
constexpr unsigned kWarp = 32;

#if defined(__x86_64__)
// The C library's swapcontext asks the system for the signal mask each time: thirty times slower.
struct Context {
  void* stack_pointer = nullptr;
};
extern "C" void cuda_host_switch(void** save, void* load);
asm(R"(
.text
.globl cuda_host_switch
.hidden cuda_host_switch
.type cuda_host_switch, @function
cuda_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_host_switch, .-cuda_host_switch
)");
void swap(Context& from, Context& to) { cuda_host_switch(&from.stack_pointer, to.stack_pointer); }
void prepare(Context& context, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack) + kStack) & ~uintptr_t{15});
  top[-2] = reinterpret_cast<void*>(entry);  // as a call leaves it: eight below a multiple of sixteen
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
  context.stack_pointer = top - 8;
}
#else
using Context = ucontext_t;
void swap(Context& from, Context& to) { swapcontext(&from, &to); }
void prepare(Context& context, char* stack, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
#endif

enum class State { kReady, kWaiting, kDone };

struct Fiber {
  Context context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  cuda_host::Place place;
  State state;
  unsigned index, turn;  // turn: of the warp's two sets of slots
  void* fake_stack;
};

// Threads that meet: a warp, or the block.
struct Meeting {
  unsigned members, arrived;
  const char* file;
  int line;
  int yes;
  int result[2];
  unsigned round;
  uint64_t slots[2][kWarp];
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Meeting> warps;
Meeting block;
Fiber* current = nullptr;
Context scheduler;
[[maybe_unused]] void* scheduler_stack = nullptr;
[[maybe_unused]] size_t scheduler_size = 0;
const std::function<void()>* body = nullptr;
unsigned threads = 0, seed = 0, launches = 0;
cudaError_t wanted_error = cudaSuccess;

[[noreturn]] void fail(const char* what, const char* file, int line) {
  std::fprintf(stderr, "cuda_host: %s (block %u,%u, %s:%d)\n", what, current->place.block.x, current->place.block.y,
               file == nullptr ? "?" : file, line);
  std::abort();
}

void leave(bool for_good) {
  Fiber* me = current;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &me->fake_stack, scheduler_stack, scheduler_size);
#else
  static_cast<void>(for_good);
#endif
  swap(me->context, scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(me->fake_stack, nullptr, nullptr);
#endif
}

void entry() {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &scheduler_size);
  scheduler_stack = const_cast<void*>(bottom);
#endif
  (*body)();
  current->state = State::kDone;
  leave(true);
}

void resume(Fiber& fiber) {
  current = &fiber;
  cuda_host::here = &fiber.place;
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStack);
#endif
  swap(scheduler, fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

// Arrives; true if everybody has. They must all stand at the same place of the source.
bool arrive(Meeting& meeting, const char* file, int line) {
  if (meeting.arrived++ == 0) {
    meeting.file = file;
    meeting.line = line;
  } else if (meeting.line != line || std::strcmp(meeting.file, file) != 0) {
    fail("threads that should meet wait at different places", file, line);
  }
  if (meeting.arrived < meeting.members) return false;
  meeting.arrived = 0;
  return true;
}

void release(unsigned first, unsigned count) {
  for (unsigned i = first; i < first + count; ++i) fibers[i]->state = State::kReady;
}

void start_block(dim3 at, dim3 size) {
  if (__start_cuda_host_shared != nullptr)
    std::memset(__start_cuda_host_shared, 0xff, __stop_cuda_host_shared - __start_cuda_host_shared);
  block = Meeting{};
  block.members = threads;
  warps.assign(threads / kWarp, Meeting{});
  for (Meeting& warp : warps) warp.members = kWarp;
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = *fibers[i];
    fiber.place = {dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y)), at};
    fiber.state = State::kReady;
    fiber.index = i;
    fiber.turn = 0;
#if defined(__SANITIZE_ADDRESS__)  // the last thread on this stack never returned from its first function
    ASAN_UNPOISON_MEMORY_REGION(fiber.stack.get(), kStack);
#endif
    prepare(fiber.context, fiber.stack.get(), entry);
  }
}

void run_block(std::minstd_rand& random) {
  std::vector<unsigned> ready;
  for (;;) {
    ready.clear();
    unsigned done = 0;
    for (unsigned i = 0; i < threads; ++i) {
      if (fibers[i]->state == State::kReady) ready.push_back(i);
      done += fibers[i]->state == State::kDone;
    }
    if (done == threads) return;
    if (ready.empty()) {
      const Meeting* stuck = &block;
      for (const Meeting& warp : warps)
        if (warp.arrived != 0) stuck = &warp;
      fail(done != 0 ? "threads left while others wait" : "threads wait for each other", stuck->file, stuck->line);
    }
    if (seed != 0) std::shuffle(ready.begin(), ready.end(), random);
    for (unsigned i : ready) resume(*fibers[i]);
  }
}

}  // namespace

dim3 blockDim, gridDim;

namespace cuda_host {

Place* here = nullptr;

cudaError_t pending_error() { return wanted_error; }
unsigned lane() { return current->index % kWarp; }

int block_barrier(bool yes, const char* file, int line) {
  const unsigned round = block.round & 1;
  block.yes += yes;
  current->state = State::kWaiting;
  if (arrive(block, file, line)) {
    block.result[round] = block.yes;
    block.yes = 0;
    ++block.round;
    release(0, threads);
  } else {
    leave(false);
  }
  return block.result[round];
}

const uint64_t* warp_exchange(unsigned mask, uint64_t value, const char* file, int line) {
  if (mask != ~0u) fail("a warp's vote leaves lanes out", file, line);
  Meeting& warp = warps[current->index / kWarp];
  const unsigned turn = current->turn++ & 1;
  warp.slots[turn][lane()] = value;
  current->state = State::kWaiting;
  if (arrive(warp, file, line)) {
    release(current->index / kWarp * kWarp, kWarp);
  } else {
    leave(false);
  }
  return warp.slots[turn];
}

cudaError_t launch(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
  if (wanted_error != cudaSuccess) return wanted_error;
  const dim3 grid = config.gridDim, size = config.blockDim;
  threads = size.x * size.y * size.z;
  const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  const bool possible = blocks > 0 && grid.y <= 65535 && grid.z <= 65535 && grid.x <= 0x7fffffffu;
  if (!possible || threads == 0 || threads > 1024 || threads % kWarp != 0) return cudaErrorInvalidValue;
  ++launches;
  while (fibers.size() < threads) fibers.push_back(std::make_unique<Fiber>());
  body = &kernel;
  blockDim = size;
  gridDim = grid;
  std::minstd_rand random(seed + launches);
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (seed != 0) std::shuffle(order.begin(), order.end(), random);
  for (uint32_t i : order) {
    start_block(dim3(i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)), size);
    run_block(random);
  }
  return cudaSuccess;
}

}  // namespace cuda_host

// What tests set. A seed of 0 runs everything in order.
extern "C" void cuda_host_set_seed(unsigned value) { seed = value; }
extern "C" void cuda_host_set_error(int error) { wanted_error = static_cast<cudaError_t>(error); }
extern "C" unsigned cuda_host_launches() { return launches; }
