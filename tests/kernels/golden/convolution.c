static void pixels_2x3_uint16_added_open(const float *restrict x, const uint16_t *restrict offsets,
    const float *restrict w, int columns, const float *restrict bias, float *restrict out,
    const int32_t *restrict rows, const float *restrict residual, const int32_t *restrict mask) {
  (void)bias; (void)residual; (void)mask;
  v a0_0 = LOAD(out + rows[0] + 0 * L);
  v a0_1 = LOAD(out + rows[0] + 1 * L);
  v a0_2 = LOAD(out + rows[0] + 2 * L);
  v a1_0 = LOAD(out + rows[1] + 0 * L);
  v a1_1 = LOAD(out + rows[1] + 1 * L);
  v a1_2 = LOAD(out + rows[1] + 2 * L);
  for (int c = 0; c < columns; c++) {
    const float *p = x + offsets[c];
    PREFETCH(w);
    v x0 = LOAD(p + 0 * L);
    v x1 = LOAD(p + 1 * L);
    v x2 = LOAD(p + 2 * L);
    v w0 = splat(w[0]);
    a0_0 += w0 * x0;
    a0_1 += w0 * x1;
    a0_2 += w0 * x2;
    v w1 = splat(w[1]);
    a1_0 += w1 * x0;
    a1_1 += w1 * x1;
    a1_2 += w1 * x2;
    w += 2;
  }
  STORE(out + rows[0] + 0 * L, a0_0);
  STORE(out + rows[0] + 1 * L, a0_1);
  STORE(out + rows[0] + 2 * L, a0_2);
  STORE(out + rows[1] + 0 * L, a1_0);
  STORE(out + rows[1] + 1 * L, a1_1);
  STORE(out + rows[1] + 2 * L, a1_2);
}

/* conv2d: copies of its input */
static void layer_0(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  {
  int first, last; share(2, t, threads, &first, &last);
  for (int c = first; c < last; c++) {
    const float *from = (n->input) + (ptrdiff_t)c * 20;
    float *to = (a + SCRATCH) + (size_t)c * 80;
    memset(to + 0, 0, 64);
    for (int j = 0; j < 6; j++) {
      float *restrict line = to + 16 + j * 6;
      const int y = j * 1 + -1;
      if (y < 0 || y >= 4) { memset(line, 0, 24); continue; }
      const float *restrict p = from + y * 5 + (0);
      for (int i = 0; i < 0; i++) line[i] = 0.0f;
      for (int i = 0; i < 5; i++) line[i] = p[i * 1];
      for (int i = 5; i < 6; i++) line[i] = 0.0f;
    }
  }
  }
}

/* conv2d: 18 of 72 weights in 2 groups of rows */
static void layer_1(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  static const int32_t panels[2][8] = {
    {2, 6, 0, 0, 0, 0, 2, 1},
    {2, 3, 6, 12, 2, 2, 2, 1}};
  static const int32_t rows[4] = {96, 144, 48, 144};
  const float *x = (a + SCRATCH);
  const float *w = ((const float *)(n->data + 64));
  const float *bias = ((const float *)(n->data + 192));
  const uint16_t *offsets = ((const uint16_t *)(n->data + 0));
  float *o = (a + 80);
  const float *r = NULL;
  const int32_t *m = ((const int32_t *)(a + 336));
  const int vectors = 3, whole = 1, tiles = 1;
  (void)whole; (void)vectors;
  int first, last, from = 0, to = 2;
  share(tiles, t, threads, &first, &last);
  const int blocks = last - first < 4 ? 1 : (last - first + 2) / 4;
  const int block = (last - first + blocks - 1) / blocks;
  for (int b = first; b < last; b += block) {
    const int e = b + block < last ? b + block : last;
    static const int32_t live[4] = {0, 48, 96, 144};
    const float *first_bias = ((const float *)(n->data + 256));
    const int v0 = b * 3, v1 = e * 3 < vectors ? e * 3 : vectors;
    for (int k = 0; k < 4; k++)
      for (int i = v0; i < v1; i++) STORE(o + live[k] + i * L, splat(first_bias[k]));
    for (int p = from; p < to; p++) {
      const int32_t *q = panels[p + 0];
      for (int i = b; i < e; i++) { if (1) switch (q[0]) { case 2: pixels_2x3_uint16_added_open(x + i * 3 * L, offsets + q[2], w + q[3], q[1], bias + q[5], o + i * 3 * L, rows + q[4], r ? r + i * 3 * L : r, m ? m + i * 3 * L : m); break; } }
    }
    for (int k = 0; k < 4; k++)
      for (int i = v0; i < v1; i++) STORE(o + live[k] + i * L, masked(act_none(LOAD(o + live[k] + i * L)), LOADI(m + i * L)));
  }
}

/* output */
static void layer_2(const struct network *n, int t) {
  float *restrict a = n->arena;
  const int threads = n->threads;
  (void)a; (void)threads; (void)t;
  const float *i = (a + 80);
  float *o = n->output;
  int first, last; share(4, t, threads, &first, &last);
  for (int c = first; c < last; c++)
  for (int y = 0; y < 4; y++)
  for (int x = 0; x < 5; x++)
  { o[(c * 4 + y) * 5 + x] = i[((ptrdiff_t)(c) * 48 + ((y) * 6 + (x)) * 1)]; }
}


