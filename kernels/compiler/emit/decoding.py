"""How kernels read weights of each type: decoded in registers, a vector at a time."""

from collections.abc import Iterable

from ...weight_types import BYTES, FLOAT32

__all__ = ["C_TYPES", "decoders", "loaded", "prefetched"]

#: Type of weights -> of the C array that holds them.
C_TYPES = {FLOAT32: "float", "bfloat16": "uint16_t", "int8": "int8_t"}

#: Bytes of a cache line.
_LINE = 64

#: GCC widens vectors of bytes by __builtin_convertvector number by number or by halves; told the instruction, it takes
#: one. Clang needs no telling.
_DECODERS = {
    "bfloat16": """
typedef uint16_t halves __attribute__((vector_size(2 * L), aligned(2), may_alias));
INLINE v of_bfloat16(const uint16_t *p) {
#if defined(__AVX512F__) && L == 16
  return (v)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
#elif defined(__AVX2__) && L == 8
  return (v)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
#else
  return (v)(__builtin_convertvector(*(const halves *)p, vi) << 16);
#endif
}
""",
    "int8": """
typedef int8_t bytes __attribute__((vector_size(L), aligned(1), may_alias));
INLINE v of_int8(const int8_t *p) {
#if defined(__AVX512F__) && L == 16
  return (v)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif defined(__AVX2__) && L == 8
  return (v)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#else
  return __builtin_convertvector(__builtin_convertvector(*(const bytes *)p, vi), v);
#endif
}
""",
}


def decoders(weight_types: Iterable[str]) -> str:
    """The C functions that decode some types."""
    texts = [_DECODERS[one] for one in sorted(weight_types) if one != FLOAT32]
    return "\n".join(["#ifdef __AVX2__\n#include <immintrin.h>\n#endif", *texts]) if texts else ""


def loaded(weight_type: str, address: str) -> str:
    """C for a vector of weights as floats."""
    return f"LOAD({address})" if weight_type == FLOAT32 else f"of_{weight_type}({address})"


def prefetched(weight_type: str, pointer: str, weights: str) -> str:
    """C that fetches what lies 2 KB behind so many weights, each line of the cache once."""
    return f"for (int i = 0; i < {weights}; i += {_LINE // BYTES[weight_type]}) PREFETCH({pointer} + i);"
