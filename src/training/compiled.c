// Training steps of NCF: what steps.TrainSteps computes. Sums run in one order, whatever the number of threads.
// Widths are multiples of C, filled up with zeros, which stay zeros. See compiled.py.
#include <math.h>
#include <stdlib.h>
#include <string.h>
enum { PART = 160, R = 4, C = 16 };  // samples computed at a time; rows and columns of a product that are kept in registers
typedef float V __attribute__((vector_size(2 * C), aligned(4), may_alias));  // half a row of these
typedef struct { int n, f, wide, layers; const int *w, *index[2]; float *table[2], *row[2], *weights, *turned; } Batch;

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

static void adam(int n, float *p, float *m, float *v, float *g, float rate, const float *o, float decay) {
    for (int k = 0; k < n; k++) {
        m[k] += (g[k] - m[k]) * (1 - o[0]);
        v[k] += (g[k] * g[k] - v[k]) * (1 - o[1]);
        p[k] -= rate * (m[k] / (sqrtf(v[k]) + o[2]) + decay * p[k]);
        g[k] = 0;
    }
}
static int number(const Batch *t, int b, int i) { return t->index[b][b ? i : i / t->n]; }  // of sample i's user or item

// Loss of s samples of so many, from one on, or -1 without memory; adds to `sum`, the weights' gradients, and sets those of the rows: `row`.
static double part_of(const Batch *t, int from, int s, int of, float *sum) {
    int f = t->f, wide = t->wide, h = wide - f, most = 0, at = f;
    for (int k = 0; k <= t->layers; k++) most = t->w[k] > most ? t->w[k] : most;
    size_t step = (size_t)(s + R) * most;
    float *a = calloc((t->layers + 3) * step, sizeof *a), *start = a, *d = a + (t->layers + 1) * step, *e = d + step;
    double loss = 0;
    if (!start) return -1;
    for (int i = 0; i < 2 * s; i++)
        memcpy(a + i * h, t->table[i % 2] + (size_t)number(t, i % 2, from + i / 2) * wide + f, h * sizeof *a);
    for (int k = 0; k < t->layers; k++, a += step) {  // a: inputs of the layer
        int in = t->w[k], out = t->w[k + 1];
        for (int i = 0; i < s; i++) memcpy(a + step + i * out, t->weights + at + in * out, out * sizeof *a);
        add_product(s, in, out, a, in, 1, t->turned + at, a + step);
        for (int i = 0; k + 1 < t->layers && i < s * out; i++) a[step + i] = a[step + i] < 0 ? 0 : a[step + i];
        at += (in + 1) * out;
    }
    for (int i = 0; i < s; i++) {
        const float *p = t->table[0] + (size_t)number(t, 0, from + i) * wide, *gmf = t->weights;
        const float *q = t->table[1] + (size_t)number(t, 1, from + i) * wide;
        float z = a[i * C], positive = (from + i) % t->n == 0;
        for (int x = 0; x < f; x++) z += p[x] * q[x] * gmf[x];
        float small = expf(-fabsf(z)), slope = ((z > 0 ? 1 : small) / (1 + small) - positive) / of;
        loss += log1pf(small) + (z < 0 ? 0 : z) - positive * z;
        for (int x = 0; x < f; x++) {
            sum[x] += slope * p[x] * q[x];
            t->row[0][(size_t)(from + i) * wide + x] = slope * q[x] * gmf[x];
            t->row[1][(size_t)(from + i) * wide + x] = slope * p[x] * gmf[x];
        }
        d[i * C] = slope;
    }
    for (int k = t->layers - 1; k >= 0; k--) {
        int in = t->w[k], out = t->w[k + 1];
        a -= step, at -= (in + 1) * out;
        for (int i = 0; i < s; i++)
            for (int x = 0; x < out; x++) sum[at + in * out + x] += d[i * out + x];
        add_product(out, s, in, d, 1, out, a, sum + at);
        memset(e, 0, step * sizeof *e);
        add_product(s, out, in, d, out, 1, t->weights + at, e);
        for (int i = 0; i < s * in; i++) d[i] = k && a[i] <= 0 ? 0 : e[i];
    }
    for (int i = 0; i < 2 * s; i++) memcpy(t->row[i % 2] + (size_t)(from + i / 2) * wide + f, d + i * h, h * sizeof *d);
    return free(start), loss;
}

// Sum of the mean losses of steps of so many samples, n for each of `users`; -1 without memory for them. p, m, v: parameters and moments: tables of
// users and items (f columns of GMF, then the MLP's), and `size` weights: GMF's, then weight (out, in), bias of each layer.
// w: inputs of the first layer, outputs of each; rows: of the tables; o: beta1, beta2, epsilon, decay of the tables.
double run(int steps, int samples, int n, int f, int layers, const int *w, const int *rows, size_t size, int dense,
           int threads, const int *users, const int *items, const float *rates, const float *o, float **p, float **m,
           float **v) {
    int wide = f + w[0] / 2, parts = (samples + PART - 1) / PART, *last[2], ok;
    float *turned = malloc(sizeof(float) * size), *sums = calloc(parts * size, sizeof(float)), *grad[2], *row[2];
    double loss = 0, losses[parts];
    for (int t = 0; t < 2; t++)
        grad[t] = calloc((size_t)rows[t] * wide, sizeof(float)), last[t] = malloc(sizeof(int) * rows[t]),
        row[t] = malloc((size_t)samples * wide * sizeof(float));
    ok = turned && sums && grad[0] && grad[1] && last[0] && last[1] && row[0] && row[1];
    for (int step = 0; ok && step < steps; step++, users += samples / n, items += samples) {
        Batch batch = {n, f, wide, layers, w, {users, items}, {p[0], p[1]}, {row[0], row[1]}, p[2], turned};
        for (int k = 0, at = f; k < layers; at += (w[k] + 1) * w[k + 1], k++)  // each weight as (in, out)
            for (int i = 0; i < w[k] * w[k + 1]; i++) turned[at + i % w[k] * w[k + 1] + i / w[k]] = p[2][at + i];
        #pragma omp parallel for num_threads(threads) schedule(dynamic)
        for (int k = 0; k < parts; k++)
            losses[k] = part_of(&batch, k * PART, k + 1 < parts ? PART : samples - k * PART, samples, sums + k * size);
        for (int k = 0; k < parts; k++) ok = ok && !(losses[k] < 0);  // which no loss is, but NaN may be one
        if (!ok) break;
        for (int k = 0; k < parts; loss += losses[k++] / samples)
            for (int x = 0; k && x < size; x++) sums[x] += sums[k * size + x], sums[k * size + x] = 0;
        adam(size, p[2], m[2], v[2], sums, rates[step], o, 0);
        #pragma omp parallel for num_threads(threads)
        for (int t = 0; t < 2; t++)
            for (int i = 0; i < samples; i++) {
                float *to = grad[t] + (size_t)number(&batch, t, i) * wide, *from = row[t] + (size_t)i * wide;
                for (int x = 0; x < wide; x++) to[x] += from[x];
                last[t][number(&batch, t, i)] = i;
            }
        #pragma omp parallel for num_threads(threads) schedule(static)
        for (int i = 0; i < (dense ? rows[0] + rows[1] : 2 * samples); i++) {
            int t = dense ? i >= rows[0] : i % 2, at = dense ? i - t * rows[0] : number(&batch, t, i / 2);
            size_t to = (size_t)at * wide;
            if (dense || last[t][at] == i / 2)  // a row that occurs several times moves once
                adam(wide, p[t] + to, m[t] + to, v[t] + to, grad[t] + to, rates[step], o, o[3]);
        }
    }
    for (int t = 0; t < 2; t++) free(grad[t]), free(row[t]), free(last[t]);
    return free(turned), free(sums), ok ? loss : -1;
}
