/* pairs.c: a problem in balls of pairs, as oracle/pairs.py asks for it: the steps, the passes back, and what is done
   with whole arrays. An array of n balls is one of 3 n float64: all hi, all lo, all radii. The tapes are its too. */
#include "pairs.h"

#include <string.h>

#include "tape.h"

static balls planes(double *data, size_t n) { return (balls){data, data + n, data + 2 * n}; }

static balls read_balls(tape *from, size_t n, const char *what) {
    double *data = tape_read(from, 3 * n, 0, what);
    return data ? planes(data, n) : (balls){0};
}

static balls write_balls(tape *from, size_t n, const char *what) {
    double *data = tape_write(from, 3 * n, what);
    return data ? planes(data, n) : (balls){0};
}

static balls new_balls(arena *memory, size_t n) {
    double *data = arena_doubles(memory, 3 * n);
    return data ? planes(data, n) : (balls){0};
}

static void clear(balls all, size_t n) {
    memset(all.hi, 0, n * sizeof(double));
    memset(all.lo, 0, n * sizeof(double));
    memset(all.rad, 0, n * sizeof(double));
}

/* sum += other */
static void add_balls(balls sum, balls other, size_t n) {
    for (size_t j = 0; j < n; j++) put(sum, j, plus(get(sum, j), get(other, j)));
}

/* ---- whole arrays ---------------------------------------------------------------------------------------------- */

enum { ADD, SUB, MUL, DIV, EXP, LOG, ROW_SUMS, ENTRYWISE_OPS };

/* tape: op, n, columns, A (n, columns), B (n, columns) or -1, out: as A, or (n) for ROW_SUMS. */
int pairs_entrywise(tape *from, arena *memory) {
    (void)memory;
    const int64_t op = tape_next(from, 0, ENTRYWISE_OPS - 1, "operation");
    const size_t n = (size_t)tape_next(from, 0, TAPE_LARGEST, "rows");
    const size_t columns = (size_t)tape_next(from, 0, TAPE_LARGEST, "columns");
    if (columns && n > TAPE_LARGEST * 4 / columns) from->wrong = "size";
    if (from->wrong) return -1;
    const size_t count = n * columns;
    const balls A = read_balls(from, count, "first operand");
    const balls B = op <= DIV ? read_balls(from, count, "second operand") : A;
    const balls out = write_balls(from, op == ROW_SUMS ? n : count, "result");
    if (from->wrong) return -1;
    if (op == ROW_SUMS) {
        for (size_t i = 0; i < n; i++) {
            ball sum = exactly(0.0);
            for (size_t j = 0; j < columns; j++) sum = plus(sum, get(A, i * columns + j));
            put(out, i, sum);
        }
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        const ball a = get(A, i), b = get(B, i);
        ball value = a;
        switch (op) {
        case ADD: value = plus(a, b); break;
        case SUB: value = minus(a, b); break;
        case MUL: value = times(a, b); break;
        case DIV: value = over(a, b); break;
        case EXP: value = exp_of(a); break;
        case LOG: value = log_of(a); break;
        }
        put(out, i, value);
    }
    return 0;
}

/* tape: transposed, n, m, k, X (n, m), Y: out (n, k) += X Y, Y (m, k), or out (m, k) += X^T Y, Y (n, k). */
int pairs_product(tape *from, arena *memory) {
    (void)memory;
    const int64_t transposed = tape_next(from, 0, 1, "transposed");
    const size_t n = (size_t)tape_next(from, 0, TAPE_LARGEST, "rows");
    const size_t m = (size_t)tape_next(from, 0, TAPE_LARGEST, "columns");
    const size_t k = (size_t)tape_next(from, 0, TAPE_LARGEST, "width");
    const balls X = read_balls(from, n * m, "first factor");
    const balls Y = read_balls(from, (transposed ? n : m) * k, "second factor");
    const balls out = write_balls(from, (transposed ? m : n) * k, "product");
    if (from->wrong) return -1;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < m; j++) {
            const size_t to = transposed ? j : i, by = transposed ? i : j;
            add_multiple(at(out, to * k), get(X, i * m + j), at(Y, by * k), k);
        }
    }
    return 0;
}

/* ---- the steps ------------------------------------------------------------------------------------------------- */

enum { MOST_PLACES = 1 << 10, MOST_STATES = 4 };

typedef struct {
    int64_t op, products, inputs, input[TAPE_INPUTS], start, state; /* state: which old state it is, or -1 */
    int constant, is_x;
    size_t width, rows;
    balls value, slope; /* (T,B,width), of a state (T+1,B,width), of a parameter (rows,width) */
    balls total;        /* (T,B,width), out: dL/dvalue over all passes */
    balls adjoint;      /* (width), of the pass and step at hand */
    balls turned;       /* a parameter's transpose, (width,rows) */
    int there;          /* whether the adjoint is more than zeros */
} place;

typedef struct {
    size_t T, B, place_count, state_count;
    place *places;
    int64_t outputs[MOST_STATES], olds[MOST_STATES];
    const double *lengths; /* (B) */
} steps;

static int has_slope(const place *p) { return p->op == OP_TANH || p->op == OP_SIGMOID || p->op == OP_RELU; }

static int is_inner(const place *p) { return !p->constant && p->op != OP_LEAF; }

/* Whether what a place reads fits it: no loop below looks at widths again. */
static const char *misfit(const steps *s, const place *p, int64_t own) {
    for (int64_t i = 0; i < p->inputs; i++) {
        if (p->input[i] >= own) return "input";
    }
    const place *first = p->inputs ? &s->places[p->input[0]] : NULL;
    int64_t entrywise = 0;
    switch (p->op) {
    case OP_LEAF: return p->inputs ? "inputs of a leaf" : NULL;
    case OP_LINEAR:
        if (2 * p->products > p->inputs) return "products";
        for (int64_t i = 0; i < p->products; i++) {
            const place *X = &s->places[p->input[2 * i]], *W = &s->places[p->input[2 * i + 1]];
            if (X->constant || !W->constant || W->rows != X->width || W->width != p->width) return "product";
        }
        entrywise = 2 * p->products;
        break;
    case OP_COLUMNS:
        if (p->inputs != 1 || first->constant || (size_t)p->start + p->width > first->width) return "columns";
        return NULL;
    case OP_MUL:
    case OP_ADD:
        if (p->inputs != 2) return "operands";
        break;
    case OP_MIX:
        if (p->inputs != 3) return "operands";
        break;
    default:
        if (p->inputs != 1) return "argument";
    }
    for (int64_t i = entrywise; i < p->inputs; i++) {
        const place *a = &s->places[p->input[i]];
        if (a->width != p->width || (a->constant && a->rows != 1)) return "operand";
        if (a->constant && p->op != OP_LINEAR && p->op != OP_MUL) return "operand";
    }
    return NULL;
}

/* tape: T, B, lengths, places; each op, constant, rows, width, products, inputs, start, role, value, slope; outputs. */
static void read_steps(tape *from, arena *memory, steps *s) {
    s->T = (size_t)tape_next(from, 1, TAPE_LARGEST, "T");
    s->B = (size_t)tape_next(from, 1, TAPE_LARGEST, "B");
    if (s->T > TAPE_LARGEST / s->B) from->wrong = "T and B";
    s->lengths = tape_read(from, s->B, 0, "lengths");
    s->place_count = (size_t)tape_next(from, 1, MOST_PLACES, "places");
    s->state_count = (size_t)tape_next(from, 1, MOST_STATES, "states");
    s->places = arena_bytes(memory, s->place_count * sizeof(place));
    if (from->wrong || memory->failed) return;
    for (size_t i = 0; i < s->state_count; i++) s->olds[i] = -1;
    for (size_t k = 0; k < s->place_count && !from->wrong; k++) {
        place *p = &s->places[k];
        p->op = tape_next(from, 0, OPS - 1, "op");
        p->constant = (int)tape_next(from, 0, 1, "constant");
        p->rows = (size_t)tape_next(from, 0, TAPE_LARGEST, "rows");
        p->width = (size_t)tape_next(from, 1, TAPE_LARGEST, "width");
        p->products = tape_next(from, 0, TAPE_INPUTS, "products");
        p->inputs = tape_next(from, 0, TAPE_INPUTS, "inputs");
        for (int64_t i = 0; i < p->inputs; i++) p->input[i] = tape_next(from, 0, (int64_t)s->place_count - 1, "input");
        p->start = tape_next(from, 0, TAPE_LARGEST, "start");
        const int64_t role = tape_next(from, -2, (int64_t)s->state_count - 1, "role"); /* -2 none, -1 x, or a state */
        p->state = role >= 0 ? role : -1;
        p->is_x = role == -1;
        if (role >= 0) s->olds[role] = (int64_t)k;
        if (!from->wrong && (p->constant ? role != -2 : (p->op == OP_LEAF) != (role != -2))) from->wrong = "role";
        if (!from->wrong && !p->constant) from->wrong = misfit(s, p, (int64_t)k);
        const size_t over_time = (s->T + (p->state >= 0)) * s->B;
        p->value = p->constant ? read_balls(from, p->rows * p->width, "parameter")
                   : p->is_x   ? read_balls(from, over_time * p->width, "x")
                               : write_balls(from, over_time * p->width, "value");
        if (has_slope(p)) p->slope = write_balls(from, over_time * p->width, "slope");
    }
    for (size_t i = 0; i < s->state_count; i++) {
        s->outputs[i] = tape_next(from, 0, (int64_t)s->place_count - 1, "output");
        if (from->wrong) return;
        const place *new = &s->places[s->outputs[i]];
        if (s->olds[i] < 0 || !is_inner(new) || new->width != s->places[s->olds[i]].width) from->wrong = "state";
    }
}

/* One place of row b at one step; whether a relu's sign is open. */
static int evaluate(const steps *s, const place *p, size_t row) {
    const balls out = at(p->value, row * p->width);
    const place *in[TAPE_INPUTS];
    balls from[TAPE_INPUTS];
    for (int64_t i = 0; i < p->inputs; i++) {
        in[i] = &s->places[p->input[i]];
        from[i] = in[i]->constant ? in[i]->value : at(in[i]->value, row * in[i]->width);
    }
    int open = 0;
    if (p->op == OP_LINEAR) {
        clear(out, p->width);
        for (int64_t i = 0; i < p->products; i++) {
            for (size_t m = 0; m < in[2 * i]->width; m++) {
                add_multiple(out, get(from[2 * i], m), at(from[2 * i + 1], m * p->width), p->width);
            }
        }
        for (int64_t i = 2 * p->products; i < p->inputs; i++) add_balls(out, from[i], p->width);
        return 0;
    }
    for (size_t j = 0; j < p->width; j++) {
        const ball a = get(from[0], p->op == OP_COLUMNS ? (size_t)p->start + j : j);
        ball value = a, slope = exactly(1.0);
        switch (p->op) {
        case OP_MUL: value = times(a, get(from[1], j)); break;
        case OP_ADD: value = plus(a, get(from[1], j)); break;
        case OP_MIX: value = plus(get(from[1], j), times(a, minus(get(from[2], j), get(from[1], j)))); break;
        case OP_TANH: value = tanh_of(a, &slope); break;
        case OP_SIGMOID: value = sigmoid_of(a, &slope); break;
        case OP_RELU:
            if (!(a.hi > 0 && a.hi - fabs(a.lo) > a.rad)) {
                if (!(a.hi < 0 ? -a.hi - fabs(a.lo) >= a.rad : a.hi == 0 && a.lo == 0 && a.rad == 0)) open = 1;
                value = slope = exactly(0.0);
            }
            break;
        }
        put(out, j, value);
        if (has_slope(p)) put(at(p->slope, row * p->width), j, slope);
    }
    return open;
}

/* tape: the steps, with the old states' values at t = 0; then open (1): how many relu units have an open sign. */
int pairs_forward(tape *from, arena *memory) {
    steps s = {0};
    read_steps(from, memory, &s);
    double *open = tape_write(from, 1, "open");
    if (from->wrong || memory->failed) return -1;
    for (size_t t = 0; t < s.T; t++) {
        for (size_t b = 0; b < s.B; b++) {
            const size_t row = t * s.B + b;
            for (size_t k = 0; k < s.place_count; k++) {
                if (is_inner(&s.places[k])) *open += evaluate(&s, &s.places[k], row);
            }
            for (size_t i = 0; i < s.state_count; i++) {
                const place *old = &s.places[s.olds[i]], *new = (double)t < s.lengths[b] ? &s.places[s.outputs[i]] : old;
                const balls to = at(old->value, (row + s.B) * old->width), value = at(new->value, row * old->width);
                for (size_t j = 0; j < old->width; j++) put(to, j, get(value, j));
            }
        }
    }
    return 0;
}

/* ---- the passes back ------------------------------------------------------------------------------------------- */

/* The adjoint of a place, to be added to. */
static balls opened(place *p) {
    if (!p->there) clear(p->adjoint, p->width);
    p->there = 1;
    return p->adjoint;
}

/* Whether errors travel on to a place. */
static int carries(const place *p) { return !p->constant && !p->is_x && p->op != OP_HOLD; }

/* From a place, whose adjoint is dz, to what it reads. */
static void pull(const steps *s, const place *p, size_t row) {
    const balls dz = p->adjoint;
    place *in[TAPE_INPUTS];
    for (int64_t i = 0; i < p->inputs; i++) in[i] = &s->places[p->input[i]];
    if (p->op == OP_HOLD) return;
    if (p->op == OP_LINEAR) {
        for (int64_t i = 0; i < p->products; i++) {
            place *X = in[2 * i];
            if (!carries(X)) continue;
            const balls to = opened(X), turned = in[2 * i + 1]->turned;
            for (size_t j = 0; j < p->width; j++) add_multiple(to, get(dz, j), at(turned, j * X->width), X->width);
        }
        for (int64_t i = 2 * p->products; i < p->inputs; i++) {
            if (!in[i]->constant) add_balls(opened(in[i]), dz, p->width);
        }
        return;
    }
    if (p->op == OP_COLUMNS) {
        add_balls(at(opened(in[0]), (size_t)p->start), dz, p->width);
        return;
    }
    if (p->op == OP_MUL) {
        for (int i = 0; i < 2; i++) {
            if (!carries(in[i])) continue;
            const place *other = in[1 - i];
            const balls to = opened(in[i]), by = other->constant ? other->value : at(other->value, row * p->width);
            for (size_t j = 0; j < p->width; j++) put(to, j, plus(get(to, j), times(get(dz, j), get(by, j))));
        }
        return;
    }
    if (p->op == OP_MIX) {
        const balls z = at(in[0]->value, row * p->width), n = at(in[1]->value, row * p->width);
        const balls h = at(in[2]->value, row * p->width);
        const balls to_z = opened(in[0]), to_n = opened(in[1]), to_h = opened(in[2]);
        for (size_t j = 0; j < p->width; j++) {
            const ball by = get(dz, j), through = times(by, get(z, j));
            put(to_z, j, plus(get(to_z, j), times(by, minus(get(h, j), get(n, j)))));
            put(to_n, j, plus(get(to_n, j), minus(by, through)));
            put(to_h, j, plus(get(to_h, j), through));
        }
        return;
    }
    if (has_slope(p)) {
        const balls to = opened(in[0]), slope = at(p->slope, row * p->width);
        for (size_t j = 0; j < p->width; j++) put(to, j, plus(get(to, j), times(get(dz, j), get(slope, j))));
        return;
    }
    for (int64_t i = 0; i < p->inputs; i++) add_balls(opened(in[i]), dz, p->width); /* add, identity */
}

typedef struct {
    balls seeds, known, initial, carry; /* (T,B,width), twice, (B,width), (width) */
} state_adjoint;

/* Row b of one pass: seeds (T,B), from its last loss back to the step `first`. */
static void one_row(const steps *s, const double *seeds, int64_t first, size_t b, state_adjoint *of) {
    int started = 0;
    for (size_t i = 0; i < s->state_count; i++) clear(of[i].carry, s->places[s->olds[i]].width);
    for (size_t t = s->T; t-- > 0 && (int64_t)t + 1 >= first;) {
        const size_t row = t * s->B + b;
        if (seeds[row] != 0) {
            started = 1;
            for (size_t i = 0; i < s->state_count; i++) {
                const size_t width = s->places[s->olds[i]].width;
                add_balls(of[i].carry, at(of[i].seeds, row * width), width);
            }
        }
        if (!started) continue;
        for (size_t k = 0; k < s->place_count; k++) s->places[k].there = 0;
        for (size_t i = 0; i < s->state_count; i++) {
            place *new = &s->places[s->outputs[i]];
            add_balls(at(of[i].known, row * new->width), of[i].carry, new->width);
            add_balls(opened(new), of[i].carry, new->width);
        }
        for (size_t k = s->place_count; k-- > 0;) {
            place *p = &s->places[k];
            if (!p->there || !is_inner(p)) continue;
            add_balls(at(p->total, row * p->width), p->adjoint, p->width);
            pull(s, p, row);
        }
        for (size_t i = 0; i < s->state_count; i++) {
            place *old = &s->places[s->olds[i]];
            const balls arrived = opened(old);
            for (size_t j = 0; j < old->width; j++) put(of[i].carry, j, get(arrived, j));
        }
    }
    if (first != 1) return;
    for (size_t i = 0; i < s->state_count; i++) {
        const size_t width = s->places[s->olds[i]].width;
        add_balls(at(of[i].initial, b * width), of[i].carry, width);
    }
}

/* tape: the steps; the total of each place that is computed; of each state seeds, known, initial; the number of passes,
   their seeds (passes,T,B) and first steps (passes,B). */
int pairs_backward(tape *from, arena *memory) {
    steps s = {0};
    state_adjoint of[MOST_STATES];
    read_steps(from, memory, &s);
    if (from->wrong || memory->failed) return -1;
    const size_t rows = s.T * s.B;
    for (size_t k = 0; k < s.place_count; k++) {
        place *p = &s.places[k];
        if (is_inner(p)) p->total = write_balls(from, rows * p->width, "total");
        if (!p->constant) p->adjoint = new_balls(memory, p->width);
    }
    for (size_t i = 0; i < s.state_count; i++) {
        const size_t width = s.places[s.olds[i]].width;
        of[i].seeds = read_balls(from, rows * width, "seeds of a state");
        of[i].known = write_balls(from, rows * width, "adjoint of a state");
        of[i].initial = write_balls(from, s.B * width, "adjoint of an initial state");
        of[i].carry = new_balls(memory, width);
    }
    const size_t passes = (size_t)tape_next(from, 0, TAPE_LARGEST, "passes");
    const double *seeds = tape_read(from, passes * rows, 0, "seeds");
    const double *first = tape_read(from, passes * s.B, 0, "first steps");
    for (size_t k = 0; k < s.place_count; k++) {
        const place *p = &s.places[k];
        for (int64_t i = 0; p->op == OP_LINEAR && i < p->products && !from->wrong; i++) {
            place *W = &s.places[p->input[2 * i + 1]];
            if (W->turned.hi) continue;
            W->turned = new_balls(memory, W->rows * W->width);
            if (memory->failed) return -1;
            for (size_t m = 0; m < W->rows; m++) {
                for (size_t j = 0; j < W->width; j++) put(W->turned, j * W->rows + m, get(W->value, m * W->width + j));
            }
        }
    }
    if (from->wrong || memory->failed) return -1;
    for (size_t n = 0; n < passes; n++) {
        for (size_t b = 0; b < s.B; b++) one_row(&s, seeds + n * rows, (int64_t)first[n * s.B + b], b, of);
    }
    return 0;
}
