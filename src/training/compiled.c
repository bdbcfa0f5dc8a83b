// Training steps of NCF: what steps.TrainSteps computes; of several ranks with an exchange between `tell` and `take`. Sums
// run in one order, whatever the number of threads. Widths of layers are multiples of C, filled up with zeros, which stay so.
#include <math.h>
#include <omp.h>
#include <string.h>
enum { PART = 160, R = 4, C = 16 };  // samples computed at a time; rows and columns of a product that are kept in registers
typedef float V __attribute__((vector_size(2 * C), aligned(4), may_alias));  // half a row of these

// n: samples of each of `groups` groups a step; f, h: widths of GMF's and the MLP's tables; full: f filled up; size: weights;
// lazy: 1 if only rows move that occur, else 0; told: numbers that a rank tells; room: numbers that a thread needs.
// w: inputs of the first layer, outputs of each; own: groups of each step, all: samples of all ranks; options: beta1, beta2,
// epsilon, decay of tables. p, m, v: parameters and moments: the users' two tables, the items', and weights: GMF's, then
// weight (out, in), bias of each layer. row: gradients of each sample's user and item; sum: see `row_of`; place: in it.
typedef struct {
    long n, groups, f, full, h, layers, size, lazy, threads, ranks, told, room, rows[2];
    const int *w, *users, *items, *own, *all;
    const float *rates, *options;
    float *p[5], *m[5], *v[5], *turned, *sums, *scratch, *row[2], *sum[2];
    int *place[2];
    double *losses, *loss;
} Steps;

// c (n, m) += a (n, k) b (k, m); a_ij is a[i * down + j * right]; a and c have R rows to spare
static void add_product(int n, int k, int m, const float *a, int down, int right, const float *b, float *c) {
    for (int i = 0; i < n; i += R)
        for (int j = 0; j < m; j += C) {
            V sum[R][2] = {{{0}}}, *to;
            for (int l = 0; l < k; l++) {
                V first = *(V *)(b + l * m + j), rest = *(V *)(b + l * m + j + C / 2);
                for (int r = 0; r < R; r++) {
                    sum[r][0] += a[(i + r) * down + l * right] * first;
                    sum[r][1] += a[(i + r) * down + l * right] * rest;
                }
            }
            for (int r = 0; r < R; r++) to = (V *)(c + (i + r) * m + j), to[0] += sum[r][0], to[1] += sum[r][1];
        }
}

static void adam(const Steps *s, int of, size_t at, int n, float *g, float rate, float decay) {
    float *p = s->p[of] + at * n, *m = s->m[of] + at * n, *v = s->v[of] + at * n;
    const float *o = s->options;
    for (int k = 0; k < n; k++) {
        m[k] += (g[k] - m[k]) * (1 - o[0]);
        v[k] += (g[k] * g[k] - v[k]) * (1 - o[1]);
        p[k] -= rate * (m[k] / (sqrtf(v[k]) + o[2]) + decay * p[k]);
        g[k] = 0;
    }
}

static int number(const Steps *s, int step, int t, int i) {  // of sample i's user or item
    return t ? s->items[step * s->groups * s->n + i] : s->users[step * s->groups + i / s->n];
}

// Loss of c samples, from one on; adds to `sum`, the weights' gradients, and sets those of the rows: `row`.
static double part_of(const Steps *s, int step, int from, int c, float *sum) {
    int f = s->f, full = s->full, h = s->w[0] / 2, wide = f + s->h, most = 0, at = full;
    for (int k = 0; k <= s->layers; k++) most = s->w[k] > most ? s->w[k] : most;
    size_t room = (size_t)(c + R) * most;
    float *a = s->scratch + omp_get_thread_num() * s->room, *d = a + (s->layers + 1) * room, *e = d + room, *gmf = e + room;
    double loss = 0;
    memset(a, 0, s->room * sizeof *a);
    for (int i = 0; i < 2 * c; i++) {
        size_t row = number(s, step, i % 2, from + i / 2);
        memcpy(a + i * h, s->p[i % 2 * 2 + 1] + row * s->h, s->h * sizeof *a);
        memcpy(gmf + i * full, s->p[i % 2 * 2] + row * f, f * sizeof *a);
    }
    for (int k = 0; k < s->layers; k++, a += room) {  // a: inputs of the layer
        int in = s->w[k], out = s->w[k + 1];
        for (int i = 0; i < c; i++) memcpy(a + room + i * out, s->p[4] + at + in * out, out * sizeof *a);
        add_product(c, in, out, a, in, 1, s->turned + at, a + room);
        for (int i = 0; k + 1 < s->layers && i < c * out; i++) a[room + i] = a[room + i] < 0 ? 0 : a[room + i];
        at += (in + 1) * out;
    }
    for (int i = 0; i < c; i++) {
        const float *p = gmf + 2 * i * full, *q = p + full, *weight = s->p[4];
        float z = a[i * C], positive = (from + i) % s->n == 0;
        for (int x = 0; x < full; x++) z += p[x] * q[x] * weight[x];
        float small = expf(-fabsf(z)), slope = ((z > 0 ? 1 : small) / (1 + small) - positive) / s->all[step];
        loss += log1pf(small) + (z < 0 ? 0 : z) - positive * z;
        for (int x = 0; x < full; x++) sum[x] += slope * p[x] * q[x];
        for (int x = 0; x < f; x++) {
            s->row[0][(size_t)(from + i) * wide + x] = slope * q[x] * weight[x];
            s->row[1][(size_t)(from + i) * wide + x] = slope * p[x] * weight[x];
        }
        d[i * C] = slope;
    }
    for (int k = s->layers - 1; k >= 0; k--) {
        int in = s->w[k], out = s->w[k + 1];
        a -= room, at -= (in + 1) * out;
        for (int i = 0; i < c; i++)
            for (int x = 0; x < out; x++) sum[at + in * out + x] += d[i * out + x];
        add_product(out, c, in, d, 1, out, a, sum + at);
        memset(e, 0, room * sizeof *e);
        add_product(c, out, in, d, out, 1, s->p[4] + at, e);
        for (int i = 0; i < c * in; i++) d[i] = k && a[i] <= 0 ? 0 : e[i];
    }
    for (int i = 0; i < 2 * c; i++)
        memcpy(s->row[i % 2] + (size_t)(from + i / 2) * wide + f, d + i * h, s->h * sizeof *d);
    return loss;
}

// A sum: gradients of weights; then of each row of a table, or if lazy how many rows, and the number and gradient of each.
static float *row_of(const Steps *s, float *sum, size_t k) {
    return sum + s->size + s->lazy + k * (s->f + s->h + s->lazy) + s->lazy;
}
static int *rows_of(const Steps *s, float *sum) { return (int *)(sum + s->size); }
static void add_row(const Steps *s, int t, float *sum, int row, const float *from) {
    int at = row, *rows = rows_of(s, sum);
    if (s->lazy && ((at = s->place[t][row]) >= *rows || ((int *)row_of(s, sum, at))[-1] != row))
        at = s->place[t][row] = (*rows)++, ((int *)row_of(s, sum, at))[-1] = row;
    float *to = row_of(s, sum, at);
    for (int x = 0; x < s->f + s->h; x++) to[x] += from[x];
}

static void gradients(const Steps *s, int step, float *told) {  // adds to sum[0], of users, and to `told`
    int samples = s->own[step] * s->n, parts = (samples + PART - 1) / PART;
    for (int k = 0, at = s->full; k < s->layers; at += (s->w[k] + 1) * s->w[k + 1], k++)  // each weight as (in, out)
        for (int i = 0; i < s->w[k] * s->w[k + 1]; i++)
            s->turned[at + i % s->w[k] * s->w[k + 1] + i / s->w[k]] = s->p[4][at + i];
    #pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int k = 0; k < parts; k++)
        s->losses[k] = part_of(s, step, k * PART, k + 1 < parts ? PART : samples - k * PART, s->sums + k * s->size);
    for (int k = 0; k < parts; *s->loss += s->losses[k++] / s->all[step])
        for (int x = 0; x < s->size; x++) told[x] += s->sums[k * s->size + x], s->sums[k * s->size + x] = 0;
    #pragma omp parallel for num_threads(s->threads)
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < samples; i++)
            add_row(s, t, t ? told : s->sum[0], number(s, step, t, i), s->row[t] + (size_t)i * (s->f + s->h));
}

static void move(const Steps *s, int step, float *items) {  // by sum[0] and `items`, which become zeros
    float *sum[2] = {s->sum[0], items}, rate = s->rates[step];
    int number[2];
    for (int t = 0; t < 2; t++) number[t] = s->lazy ? *rows_of(s, sum[t]) : s->rows[t];
    adam(s, 4, 0, s->size, items, rate, 0);
    #pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int i = 0; i < number[0] + number[1]; i++) {
        int t = i >= number[0], k = i - t * number[0];
        float *g = row_of(s, sum[t], k);
        size_t row = s->lazy ? ((int *)g)[-1] : k;
        adam(s, 2 * t, row, s->f, g, rate, s->options[3]);
        adam(s, 2 * t + 1, row, s->h, g + s->f, rate, s->options[3]);
    }
    for (int t = 0; t < 2 && s->lazy; t++) *rows_of(s, sum[t]) = 0;
}

void run(const Steps *s, int steps) {  // of one process
    for (int step = 0; step < steps; step++) gradients(s, step, s->sum[1]), move(s, step, s->sum[1]);
}

// As MindSpore calls them: (Steps, step) -> what this rank tells; (Steps, step, what each told, or its sum) -> the next step
int tell(int count, void **p) {
    const Steps *s = p[0];
    memset(p[2], 0, s->told * sizeof(float));
    return gradients(s, *(int *)p[1], p[2]), 0;
}
int take(int count, void **p) {
    const Steps *s = p[0];
    float *told = p[2], *row;
    for (int r = 0; r < s->ranks && s->lazy; r++, told += s->told) {
        for (int x = 0; x < s->size; x++) s->sum[1][x] += told[x];
        for (int k = 0; k < *rows_of(s, told); k++)
            row = row_of(s, told, k), add_row(s, 1, s->sum[1], ((int *)row)[-1], row);
    }
    move(s, *(int *)p[1], s->lazy ? s->sum[1] : told);
    *(int *)p[3] = *(int *)p[1] + 1;
    return 0;
}
