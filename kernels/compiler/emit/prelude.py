"""The C that every emitted file begins with: vectors, functions of numbers, sharing work among threads."""

from ...instruction_set import InstructionSet

__all__ = ["activated", "prelude"]

#: exp by range reduction and a polynomial of degree 7, after Cephes (Moshier 1989), relative error below 3e-7.
_TEXT = """
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define L @LANES@
typedef float v __attribute__((vector_size(@BYTES@)));
typedef int32_t vi __attribute__((vector_size(@BYTES@)));
typedef float vu __attribute__((vector_size(@BYTES@), aligned(4), may_alias));
typedef int32_t viu __attribute__((vector_size(@BYTES@), aligned(4), may_alias));

#define LOAD(p) ((v)*(const vu *)(p))
#define LOADI(p) ((vi)*(const viu *)(p))
#define STORE(p, x) (*(vu *)(p) = (vu)(x))
/* Weights are read once and in order: 2 KB ahead they arrive in time from the last cache. */
#define PREFETCH(w) __builtin_prefetch((const char *)(w) + 2048)
#define INLINE static inline __attribute__((always_inline, unused))
#define UNUSED __attribute__((unused))

INLINE v splat(float x) { return (v){@SPLAT@}; }
INLINE v choose(vi m, v x, v y) { return (v)(((vi)x & m) | ((vi)y & ~m)); }
INLINE v masked(v x, vi m) { return (v)((vi)x & m); }
INLINE v at_least(v x, float low) { v l = splat(low); return choose(x < l, l, x); }
INLINE v at_most(v x, float high) { v h = splat(high); return choose(x > h, h, x); }
INLINE v largest(v x, v y) { return choose(x < y, y, x); }

INLINE v exponential(v x) {
  x = at_most(at_least(x, -87.0f), 88.0f);
  v r = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  v f = x - r * 0.693359375f + r * 2.12194440e-4f;
  v y = splat(1.9875691500e-4f);
  y = y * f + 1.3981999507e-3f;
  y = y * f + 8.3334519073e-3f;
  y = y * f + 4.1665795894e-2f;
  y = y * f + 1.6666665459e-1f;
  y = y * f + 5.0000001201e-1f;
  y = y * f * f + f + 1.0f;
  vi e = (__builtin_convertvector(r, vi) + 127) << 23;
  return y * (v)e;
}
#if defined(__AVX512F__) && L == 16
/* An approximation of 14 bits and a step of Newton's method, several times as fast as a division. */
INLINE v reciprocal(v x) {
  v y = (v)_mm512_rcp14_ps((__m512)x);
  return y * (2.0f - x * y);
}
#else
INLINE v reciprocal(v x) { return 1.0f / x; }
#endif
/* For states: the error is small beside 1, not beside a small result. */
INLINE v quick_tanh(v x) { return 1.0f - 2.0f * reciprocal(exponential(x + x) + 1.0f); }
INLINE v act_none(v x) { return x; }
INLINE v act_relu(v x) { return at_least(x, 0.0f); }
INLINE v act_relu6(v x) { return at_most(at_least(x, 0.0f), 6.0f); }
INLINE v act_sigmoid(v x) { return reciprocal(1.0f + exponential(-x)); }
INLINE v act_silu(v x) { return x * act_sigmoid(x); }
INLINE v act_hardsigmoid(v x) { return act_relu6(x + 3.0f) * (1.0f / 6.0f); }
INLINE v act_hardswish(v x) { return x * act_hardsigmoid(x); }
INLINE v act_tanh(v x) {
  v size = choose(x < 0.0f, -x, x);
  v s = x * x;
  v p = splat(-5.70498872745e-3f);
  p = p * s + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  v small = x + x * s * p;
  v large = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
  return choose(size < 0.625f, small, choose(x < 0.0f, -large, large));
}

/* Halley's iteration for exp(y) = x, from a power of two; x is a sum of which one term is 1. */
INLINE float logarithm(float x) {
  int32_t bits;
  memcpy(&bits, &x, 4);
  float y = (float)((bits >> 23) - 127) * 0.693147181f;
  for (int i = 0; i < 3; i++) {
    const float e = exponential(splat(y))[0];
    y += 2.0f * (x - e) / (x + e);
  }
  return y;
}

/* The nearest number of a grid; ties as PyTorch breaks them, before the zero point is added. */
INLINE float rounded(float x, float scale, float zero, float lowest, float highest) {
  float code = x * (1.0f / scale);
  code = code < lowest - zero ? lowest - zero : code > highest - zero ? highest - zero : code;
  return ((code + 12582912.0f) - 12582912.0f) * scale;
}

/* The part of `count` things that thread t of `threads` does. */
INLINE void share(int count, int t, int threads, int *first, int *last) {
  *first = (int)((int64_t)count * t / threads);
  *last = (int)((int64_t)count * (t + 1) / threads);
}

/* The same where things cost differently: costs[i] is what those before the i-th cost together. */
INLINE UNUSED void share_costs(const int32_t *costs, int count, int t, int threads, int *first, int *last) {
  int bounds[2];
  for (int side = 0; side < 2; side++) {
    int64_t goal = (int64_t)costs[count] * (t + side) / threads;
    int i = 0;
    while (i < count && costs[i] < goal) i++;
    bounds[side] = i;
  }
  *first = bounds[0];
  *last = t + 1 == threads ? count : bounds[1];
}
"""


def prelude(instruction_set: InstructionSet) -> str:
    """The text for an instruction set."""
    text = _TEXT.replace("@LANES@", str(instruction_set.lanes)).replace("@BYTES@", str(instruction_set.vector_bytes))
    return text.replace("@SPLAT@", ", ".join(["x"] * instruction_set.lanes))


def activated(expression: str, activation: str) -> str:
    """C for an activation of a vector."""
    return f"act_{activation or 'none'}({expression})"
