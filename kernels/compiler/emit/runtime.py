"""The C around the layers: the network's memory, its threads, its weights file, and the functions that a user calls."""

from dataclasses import dataclass

from .calls import all_calls
from .program import MAX_THREADS, Program

__all__ = ["ERRORS", "FORMAT_VERSION", "HEADER_BYTES", "MAGIC", "Facts", "after_layers", "before_layers", "header"]

MAGIC = b"ESPALIER"
FORMAT_VERSION = 1
HEADER_BYTES = 64

#: How often a thread looks for the next inference before it sleeps: some 0.2 ms.
_SPINS = 10_000

#: Where the processor says that it has some instructions: in the words of its leaves 1 and 7.
_CPUID = {
    "avx2": "seventh >> 5",
    "avx512bw": "seventh >> 30",
    "avx512dq": "seventh >> 17",
    "avx512f": "seventh >> 16",
    "avx512vl": "seventh >> 31",
    "fma": "first >> 12",
}

#: What the functions return -> what it means.
ERRORS = {
    1: "the weights file cannot be opened",
    2: "the file is no weights file of Espalier, or of another version of its format",
    3: "the weights file belongs to another network",
    4: "the weights file is damaged",
    5: "there is not enough memory",
    6: "this processor lacks instructions that the network was compiled for",
    7: "an argument is out of range",
    8: "a thread cannot be started",
}


@dataclass(frozen=True)
class Facts:
    """What a compiled network says of itself.

    Attributes:
        prefix: Of its functions.
        json: What its function `version` returns.
        structure: 64 bits that say which weights file fits.
        input_floats: Of one input.
        output_floats: Of one output.
    """

    prefix: str
    json: str
    structure: int
    input_floats: int
    output_floats: int


_BEFORE = """
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#define SCRATCH @SCRATCH@
#define PRIVATE @PRIVATE@
#define PRIVATE_FLOATS @PRIVATE_FLOATS@

struct network {
  float *arena;
  char *data;
  int threads;
  const float *input;
  float *output;
  pthread_mutex_t *lock;
};

struct @PREFIX@_network {
  struct network net;
  pthread_mutex_t running, lock;
  pthread_cond_t wake;
  pthread_t workers[@MAX_THREADS@];
  int n_workers, is_ending;
  /* Each in a line of its own, so that who waits for one does not slow down who changes another. */
  _Alignas(64) atomic_ulong round;
  struct { _Alignas(64) atomic_uint count; } arrived[@MAX_THREADS@];
  struct worker { struct @PREFIX@_network *whole; int t; } tasks[@MAX_THREADS@];
};

/* Leaves the processor's units to a thread that shares them. */
static inline void pause_spinning(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* All threads of a network wait here for each other. */
static void wait_for_all(const struct network *n, int t) {
  if (n->threads == 1) return;
  struct @PREFIX@_network *whole = (struct @PREFIX@_network *)(void *)n;
  const unsigned mine = atomic_load_explicit(&whole->arrived[t].count, memory_order_relaxed) + 1;
  atomic_store_explicit(&whole->arrived[t].count, mine, memory_order_release);
  for (int other = 0, spins = 0; other < n->threads; spins++) {
    const unsigned count = atomic_load_explicit(&whole->arrived[other].count, memory_order_acquire);
    if ((int)(count - mine) >= 0) { other++; continue; }
    pause_spinning();
    if (spins > 20000) sched_yield();
  }
}
"""

_AFTER = """
static void work(const struct network *n, int t) {
@CALLS@}

static void *worker(void *argument) {
  struct worker *task = argument;
  struct @PREFIX@_network *whole = task->whole;
  unsigned long seen = 0;
  for (;;) {
    /* The next inference often follows at once, and waking up takes longer than a small layer. */
    for (int spins = 0; spins < @SPINS@ && atomic_load_explicit(&whole->round, memory_order_acquire) == seen; spins++)
      pause_spinning();
    pthread_mutex_lock(&whole->lock);
    while (whole->round == seen && !whole->is_ending) pthread_cond_wait(&whole->wake, &whole->lock);
    seen = whole->round;
    const int is_ending = whole->is_ending;
    pthread_mutex_unlock(&whole->lock);
    if (is_ending) return NULL;
    work(&whole->net, task->t);
  }
}

struct indices { int64_t offset, count, smallest, largest; int bytes; };
static const struct indices index_sections[] = {@INDICES@};

/* Every offset that a kernel will follow lies inside its tensor. */
static int indices_are_sound(const char *data) {
  for (size_t i = 0; i < sizeof index_sections / sizeof *index_sections; i++) {
    const struct indices s = index_sections[i];
    for (int64_t k = 0; k < s.count; k++) {
      int64_t value;
      if (s.bytes == 2) { uint16_t x; memcpy(&x, data + s.offset + 2 * k, 2); value = x; }
      else { int32_t x; memcpy(&x, data + s.offset + 4 * k, 4); value = x; }
      if (value < s.smallest || value > s.largest) return 0;
    }
  }
  return 1;
}

static uint64_t checksum(const char *data, size_t bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes / 8; i++) {
    uint64_t word;
    memcpy(&word, data + 8 * i, 8);
    sum += word * (2 * (uint64_t)i + 1);
  }
  return sum;
}

static int read_weights(const char *path, char *data) {
  FILE *file = fopen(path, "rb");
  if (!file) return 1;
  unsigned char head[@HEADER@];
  uint32_t version, order;
  uint64_t structure, bytes, sum;
  int error = 2;
  if (fread(head, 1, sizeof head, file) == sizeof head && !memcmp(head, "@MAGIC@", 8)) {
    memcpy(&version, head + 8, 4);
    memcpy(&order, head + 12, 4);
    memcpy(&structure, head + 16, 8);
    memcpy(&bytes, head + 24, 8);
    memcpy(&sum, head + 32, 8);
    if (version == @FORMAT@ && order == 0x01020304) {
      error = structure == @STRUCTURE@ull && bytes == @DATA@ull ? 4 : 3;
      if (error == 4 && fread(data, 1, @DATA@, file) == @DATA@ && fgetc(file) == EOF && checksum(data, @DATA@) == sum &&
          indices_are_sound(data))
        error = 0;
    }
  }
  fclose(file);
  return error;
}

/* Large pages spare the address translation misses; who does not know them ignores the advice. */
static void *pages(size_t bytes) {
  const size_t huge = 1 << 21;
  bytes = (bytes + huge - 1) / huge * huge;
  void *memory = aligned_alloc(huge, bytes);
#ifdef MADV_HUGEPAGE
  if (memory) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

#if @HAS_NEEDS@
#include <cpuid.h>
#endif

/* Asks the processor itself: what __builtin_cpu_supports reads is not filled in by every compiler's library. */
static int processor_fits(void) {
#if @HAS_NEEDS@
  unsigned a, b, first, seventh, d, low, high;
  const unsigned state = @STATE@;
  if (!__get_cpuid(1, &a, &b, &first, &d) || !(first >> 27 & 1)) return 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & state) != state || !__get_cpuid_count(7, 0, &a, &seventh, &b, &d)) return 0;
  return @NEEDS@;
#else
  return 1;
#endif
}

EXPORT void @PREFIX@_free(struct @PREFIX@_network *whole) {
  if (!whole) return;
  pthread_mutex_lock(&whole->lock);
  whole->is_ending = 1;
  pthread_cond_broadcast(&whole->wake);
  pthread_mutex_unlock(&whole->lock);
  for (int i = 0; i < whole->n_workers; i++) pthread_join(whole->workers[i], NULL);
  pthread_mutex_destroy(&whole->lock);
  pthread_mutex_destroy(&whole->running);
  pthread_cond_destroy(&whole->wake);
  free(whole->net.arena);
  free(whole->net.data);
  free(whole);
}

EXPORT int @PREFIX@_load(const char *weights_path, int threads, struct @PREFIX@_network **network) {
  if (!weights_path || !network || threads < 1 || threads > @MAX_THREADS@) return 7;
  *network = NULL;
  if (!processor_fits()) return 6;
  struct @PREFIX@_network *whole = aligned_alloc(64, sizeof *whole);
  if (!whole) return 5;
  memset(whole, 0, sizeof *whole);
  pthread_mutex_init(&whole->lock, NULL);
  pthread_mutex_init(&whole->running, NULL);
  pthread_cond_init(&whole->wake, NULL);
  whole->net.arena = pages(@ARENA@ + (size_t)threads * @PRIVATE@);
  whole->net.data = pages(@DATA@);
  int error = whole->net.arena && whole->net.data ? read_weights(weights_path, whole->net.data) : 5;
  if (!error) {
    memset(whole->net.arena, 0, @ARENA@ + (size_t)threads * @PRIVATE@);
    float *a = whole->net.arena;
    (void)a;
@MASKS@
    whole->net.threads = threads;
    for (int t = 1; t < threads && !error; t++) {
      whole->tasks[t] = (struct worker){whole, t};
      if (pthread_create(&whole->workers[t - 1], NULL, worker, &whole->tasks[t])) error = 8;
      else whole->n_workers++;
    }
  }
  if (error) { @PREFIX@_free(whole); return error; }
  *network = whole;
  return 0;
}

EXPORT int @PREFIX@_run(struct @PREFIX@_network *whole, const float *input, float *output, int batch) {
  if (!whole || !input || !output || batch < 0) return 7;
  pthread_mutex_lock(&whole->running);
  for (int i = 0; i < batch; i++) {
    whole->net.input = input + (size_t)i * @INPUT@;
    whole->net.output = output + (size_t)i * @OUTPUT@;
    if (whole->net.threads > 1) {
      pthread_mutex_lock(&whole->lock);
      whole->round++;
      pthread_cond_broadcast(&whole->wake);
      pthread_mutex_unlock(&whole->lock);
    }
    work(&whole->net, 0);
  }
  pthread_mutex_unlock(&whole->running);
  return 0;
}

EXPORT const char *@PREFIX@_version(void) { return @JSON@; }
"""

_HEADER = """/* @TITLE@ */
#ifndef @GUARD@_H
#define @GUARD@_H

#ifdef __cplusplus
extern "C" {
#endif

/* A network with its weights, its memory and its threads. */
typedef struct @PREFIX@_network @PREFIX@_network;

/* Read the weights. `threads`: 1 to @MAX_THREADS@. Returns 0, or
@ERRORS@ */
int @PREFIX@_load(const char *weights_path, int threads, @PREFIX@_network **network);

/* Run `batch` inferences one after the other: `input` holds batch * @INPUT@ floats, `output` batch * @OUTPUT@ floats.
   Calls with one network wait for each other. Returns 0, or 7. */
int @PREFIX@_run(@PREFIX@_network *network, const float *input, float *output, int batch);

/* End the threads and give the memory back. */
void @PREFIX@_free(@PREFIX@_network *network);

/* What was compiled, as JSON: version, instruction set, shapes. */
const char *@PREFIX@_version(void);

#ifdef __cplusplus
}
#endif
#endif
"""


def _filled(text: str, **values: object) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def before_layers(program: Program, facts: Facts) -> str:
    """What layers need: the network's structure, and waiting for other threads."""
    return _filled(
        _BEFORE,
        PREFIX=facts.prefix,
        MAX_THREADS=MAX_THREADS,
        SCRATCH=program.arena_floats,
        PRIVATE=program.arena_floats + program.scratch_floats,
        PRIVATE_FLOATS=program.private_floats,
    )


_TIMED = """
#include <time.h>

static double times_us[@CALLS@];

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

EXPORT const double *@PREFIX@_times(void) { return times_us; }
"""


def after_layers(program: Program, facts: Facts, is_timed: bool = False) -> str:
    """What calls the layers.

    Args:
        program: With all layers.
        facts: Of the network.
        is_timed: Whether the time of each call is kept, for a tuner.
    """
    calls, before = all_calls(program, is_timed), ""
    if is_timed:
        before = _filled(_TIMED, CALLS=max(1, len(program.calls)), PREFIX=facts.prefix)
    indices = [section for section in program.sections if section.index_bytes]
    lines = ", ".join(
        f"{{{s.offset}, {len(s.data) // s.index_bytes}, {s.smallest}, {s.largest}, {s.index_bytes}}}" for s in indices
    )
    arena_bytes = 4 * (program.arena_floats + program.scratch_floats + 16 * program.lanes)
    needed = program.instruction_set.needed
    return before + _filled(
        _AFTER,
        CALLS=calls,
        PREFIX=facts.prefix,
        INDICES=lines or "{0, 0, 0, 0, 4}",
        HEADER=HEADER_BYTES,
        MAGIC=MAGIC.decode(),
        FORMAT=FORMAT_VERSION,
        STRUCTURE=facts.structure,
        DATA=program.data_bytes,
        ARENA=arena_bytes,
        PRIVATE=4 * program.private_floats,
        MASKS=_masks(program),
        MAX_THREADS=MAX_THREADS,
        SPINS=_SPINS,
        HAS_NEEDS=int(bool(needed)),
        STATE="0xe6" if "avx512f" in needed else "0x6",
        NEEDS=" && ".join(f"({_CPUID[name]} & 1)" for name in needed) or "1",
        INPUT=facts.input_floats,
        OUTPUT=facts.output_floats,
        JSON='"' + facts.json.replace("\\", "\\\\").replace('"', '\\"') + '"',
    )


def _masks(program: Program) -> str:
    """All bits set where a point of a plane is a pixel."""
    lines = []
    for layout, place in program.masks.items():
        _, height, width = layout.shape
        lines.append(
            f"    for (int y = 0; y < {height}; y++)\n"
            f"      memset(a + {place} + y * {layout.row_stride}, 0xff, {4 * width});"
        )
    return "\n".join(lines)


def header(facts: Facts) -> str:
    """The header file."""
    errors = "\n".join(f"   {code}: {meaning}" for code, meaning in ERRORS.items())
    return _filled(
        _HEADER,
        TITLE="A network compiled by Espalier.",
        GUARD=facts.prefix.upper(),
        ERRORS=errors,
        PREFIX=facts.prefix,
        MAX_THREADS=MAX_THREADS,
        INPUT=facts.input_floats,
        OUTPUT=facts.output_floats,
    )
