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
