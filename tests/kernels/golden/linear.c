static void rows_0(const float *restrict x, const uint16_t *restrict offsets,
    const float *restrict w, int columns, const float *restrict bias, float *restrict out,
    const int32_t *restrict rows, int count, int is_adjacent, const float *restrict residual) {
  (void)residual; (void)is_adjacent;
  v a0_0_0 = splat(0.0f);
  v a0_0_1 = splat(0.0f);
  v a0_0_2 = splat(0.0f);
  v a0_0_3 = splat(0.0f);
  v a0_0_4 = splat(0.0f);
  v a0_0_5 = splat(0.0f);
  v a0_0_6 = splat(0.0f);
  v a0_0_7 = splat(0.0f);
  int c = 0;
  for (; c + 8 <= columns; c += 8) {
    for (int i = 0; i < 8 * L; i += 16) PREFETCH(w + i);
    { const float *p = x + offsets[c + 0];
      v w0 = LOAD(w + 0 * L);
      v x0 = splat(p[0]);
      a0_0_0 += w0 * x0;
    }
    { const float *p = x + offsets[c + 1];
      v w0 = LOAD(w + 1 * L);
      v x0 = splat(p[0]);
      a0_0_1 += w0 * x0;
    }
    { const float *p = x + offsets[c + 2];
      v w0 = LOAD(w + 2 * L);
      v x0 = splat(p[0]);
      a0_0_2 += w0 * x0;
    }
    { const float *p = x + offsets[c + 3];
      v w0 = LOAD(w + 3 * L);
      v x0 = splat(p[0]);
      a0_0_3 += w0 * x0;
    }
    { const float *p = x + offsets[c + 4];
      v w0 = LOAD(w + 4 * L);
      v x0 = splat(p[0]);
      a0_0_4 += w0 * x0;
    }
    { const float *p = x + offsets[c + 5];
      v w0 = LOAD(w + 5 * L);
      v x0 = splat(p[0]);
      a0_0_5 += w0 * x0;
    }
    { const float *p = x + offsets[c + 6];
      v w0 = LOAD(w + 6 * L);
      v x0 = splat(p[0]);
      a0_0_6 += w0 * x0;
    }
    { const float *p = x + offsets[c + 7];
      v w0 = LOAD(w + 7 * L);
      v x0 = splat(p[0]);
      a0_0_7 += w0 * x0;
    }
    w += 8 * L;
  }
  for (; c < columns; c++) {
    { const float *p = x + offsets[c + 0];
      v w0 = LOAD(w + 0 * L);
      v x0 = splat(p[0]);
      a0_0_0 += w0 * x0;
    }
    w += 1 * L;
  }
  v s0_0 = a0_0_0 + a0_0_1 + a0_0_2 + a0_0_3 + a0_0_4 + a0_0_5 + a0_0_6 + a0_0_7;
  if (is_adjacent) {
    STORE(out + rows[0 * L] + 0, act_relu(s0_0 + LOAD(bias + 0 * L)));
    return;
  }
  float buffer[1 * L] __attribute__((aligned(64)));
  STORE(buffer + 0 * L, s0_0 + LOAD(bias + 0 * L));
  static const int32_t places[1] = {0};
  for (int row = 0; row < count; row++)
    for (int k = 0; k < 1; k++) {
      float y = buffer[((row / L) * 1 + k) * L + row % L];
      float *o = out + rows[row] + places[k];
      *o = act_relu(splat(y))[0];
    }
}

/* linear: 10 of 30 weights in 1 groups of rows */
static void layer_0(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  static const int32_t panels[2][8] = {
    {1, 2, 0, 0, 0, 0, 4, 1},
    {1, 2, 0, 8, 4, 4, 1, 0}};
  static const int32_t rows[5] = {0, 1, 2, 3, 4};
  static const int32_t costs[3] = {0, 8, 16};
  const float *x = (n->input);
  const float *w = ((const float *)(n->data + 64));
  const float *bias = ((const float *)(n->data + 128));
  const uint16_t *offsets = ((const uint16_t *)(n->data + 0));
  float *o = (a + 64);
  const float *r = o;
  int from, to;
  share_costs(costs, 2, t, threads, &from, &to);
  for (int p = from; p < to; p++) {
    const int32_t *q = panels[p];
    for (int i = 0; i < 1; i++)
      switch (q[0]) {
      case 1: rows_0(x + i * 0, offsets + q[2], w + q[3], q[1], bias + q[5], o + i * 0, rows + q[4], q[6], q[7], r + i * 0); break;
      }
  }
}

/* output */
static void layer_1(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  const float *i = (a + 64);
  float *o = n->output;
  int first, last; share(5, t, threads, &first, &last);
  for (int y = 0; y < 1; y++)
  for (int x = 0; x < 1; x++)
  for (int c = first; c < last; c++)
  { o[(c * 1 + y) * 1 + x] = i[((ptrdiff_t)(c) * 1 + ((y) * 1 + (x)) * 5)]; }
}


