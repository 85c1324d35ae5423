static void rows_0(const float *restrict x, const uint16_t *restrict offsets,
    const float *restrict w, int columns, const float *restrict bias, float *restrict out,
    const int32_t *restrict rows, int count, int is_adjacent, const float *restrict residual) {
  (void)residual;
  v a0_0_0 = splat(0.0f);
  v a1_0_0 = splat(0.0f);
  v a0_0_1 = splat(0.0f);
  v a1_0_1 = splat(0.0f);
  v a0_0_2 = splat(0.0f);
  v a1_0_2 = splat(0.0f);
  v a0_0_3 = splat(0.0f);
  v a1_0_3 = splat(0.0f);
  int c = 0;
  for (; c + 4 <= columns; c += 4) {
    { const float *p = x + offsets[c + 0];
      PREFETCH(w);
      v w0 = LOAD(w + 0 * L);
      v w1 = LOAD(w + 1 * L);
      v x0 = splat(p[0]);
      a0_0_0 += w0 * x0;
      a1_0_0 += w1 * x0;
    }
    { const float *p = x + offsets[c + 1];
      PREFETCH(w);
      v w0 = LOAD(w + 2 * L);
      v w1 = LOAD(w + 3 * L);
      v x0 = splat(p[0]);
      a0_0_1 += w0 * x0;
      a1_0_1 += w1 * x0;
    }
    { const float *p = x + offsets[c + 2];
      PREFETCH(w);
      v w0 = LOAD(w + 4 * L);
      v w1 = LOAD(w + 5 * L);
      v x0 = splat(p[0]);
      a0_0_2 += w0 * x0;
      a1_0_2 += w1 * x0;
    }
    { const float *p = x + offsets[c + 3];
      PREFETCH(w);
      v w0 = LOAD(w + 6 * L);
      v w1 = LOAD(w + 7 * L);
      v x0 = splat(p[0]);
      a0_0_3 += w0 * x0;
      a1_0_3 += w1 * x0;
    }
    w += 8 * L;
  }
  for (; c < columns; c++) {
    { const float *p = x + offsets[c + 0];
      PREFETCH(w);
      v w0 = LOAD(w + 0 * L);
      v w1 = LOAD(w + 1 * L);
      v x0 = splat(p[0]);
      a0_0_0 += w0 * x0;
      a1_0_0 += w1 * x0;
    }
    w += 2 * L;
  }
  v s0_0 = a0_0_0 + a0_0_1 + a0_0_2 + a0_0_3;
  v s1_0 = a1_0_0 + a1_0_1 + a1_0_2 + a1_0_3;
  if (is_adjacent) {
    float *o = out + rows[0];
    const float *r = residual + rows[0]; (void)r;
    STORE(o + 0 + 0 * L, act_relu(s0_0 + LOAD(bias + 0 * L)));
    STORE(o + 0 + 1 * L, act_relu(s1_0 + LOAD(bias + 1 * L)));
    (void)o; return;
  }
  float buffer[2 * L] __attribute__((aligned(64)));
  STORE(buffer + 0 * L, s0_0 + LOAD(bias + 0 * L));
  STORE(buffer + 1 * L, s1_0 + LOAD(bias + 1 * L));
  static const int32_t places[1] = {0};
  for (int row = 0; row < count; row++)
    for (int k = 0; k < 1; k++) {
      float y = buffer[((row / L) * 1 + k) * L + row % L];
      float *o = out + rows[row] + places[k];
      *o = act_relu(splat(y))[0];
    }
}

/* input */
static void layer_0(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  const float *i = n->input;
  float *o = (a + 0);
  int first, last; share(6, t, threads, &first, &last);
  for (int y = 0; y < 1; y++)
  for (int x = 0; x < 1; x++)
  for (int c = first; c < last; c++)
  { o[((ptrdiff_t)(c) * 1 + ((y) * 1 + (x)) * 6)] = i[(c * 1 + y) * 1 + x]; }
}

/* linear: 10 of 30 weights in 1 groups of rows */
static void layer_1(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  static const int32_t panels[1][8] = {
    {2, 2, 0, 0, 0, 0, 5, 0}};
  static const int32_t rows[5] = {0, 1, 2, 3, 4};
  static const int32_t costs[2] = {0, 16};
  const float *x = (a + 0), *w = ((const float *)(n->data + 64));
  const float *bias = ((const float *)(n->data + 128));
  const uint16_t *offsets = ((const uint16_t *)(n->data + 0));
  float *o = (a + 80);
  const float *r = o;
  int from, to;
  share_costs(costs, 1, t, threads, &from, &to);
  for (int p = from; p < to; p++) {
    const int32_t *q = panels[p];
    for (int i = 0; i < 1; i++)
      switch (q[0]) {
      case 2: rows_0(x + i * 0, offsets + q[2], w + q[3], q[1], bias + q[5], o + i * 0, rows + q[4], q[6], q[7], r + i * 0); break;
      }
  }
}

/* output */
static void layer_2(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  const float *i = (a + 80);
  float *o = n->output;
  int first, last; share(5, t, threads, &first, &last);
  for (int y = 0; y < 1; y++)
  for (int x = 0; x < 1; x++)
  for (int c = first; c < last; c++)
  { o[(c * 1 + y) * 1 + x] = i[((ptrdiff_t)(c) * 1 + ((y) * 1 + (x)) * 5)]; }
}


