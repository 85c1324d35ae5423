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
