#include <time.h>

static double times_us[@CALLS@];

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

EXPORT const double *@PREFIX@_times(void) { return times_us; }
