/* forward.c: the steps of oracle/budget/forward.py, row by row; that file has the theorem and the names. */
#include "transport.h"

typedef struct {
    int64_t op, products, inputs, input[TAPE_INPUTS], start, lane, state;
    int constant, is_leaf_state;
    size_t width, rows;    /* rows of a parameter */
    const double *value;   /* (T,B,width), or of a parameter (rows,width) */
    const double *slope;   /* (T,B,width) */
    const double *fixed;   /* (T,B,width): the size of a linear's sum */
    const double *terms;   /* (T,B): how many it has */
    double *bound;         /* (T,B,width), out: D */
    double *D, *q;         /* (width), of the step at hand */
} place;

typedef struct {
    size_t width;
    double roundings;
    const double *signed_, *absolute; /* (T,B,S,width) */
    double *out;                      /* (T,B,width) */
} probe;

typedef struct {
    size_t T, B, S, lanes, place_count, probe_count, output_count;
    double u, eta, eta_function, ulp, overflow, kappa, tiny;
    place *places;
    probe *probes;
    int64_t outputs[4];
    const double *active, *J, *J_abs, *signed_, *absolute; /* (T,B), (T,B,S,S) twice, (T,B,S,lanes) twice */
    double *states, *kinks;                                /* (T+1,B,S), (1,) */
    double *image, *local, *arrived;
} forward;

static const double ROUND = 0x1p-53, INFLATE = 1 + 0x1p-20;
static const double SUP2_TANH = 0.7698003589195011, SUP2_SIGMOID = 0.09622504486493765;

static void linear(const forward *f, const place *p, size_t at, int active) {
    for (size_t j = 0; j < p->width; j++) p->D[j] = p->q[j] = 0.0;
    for (int64_t i = 0; i < p->products; i++) {
        const place *X = &f->places[p->input[2 * i]], *W = &f->places[p->input[2 * i + 1]];
        for (size_t m = 0; m < X->width; m++) {
            const double *row = W->value + m * p->width;
            for (size_t j = 0; j < p->width; j++) {
                p->D[j] += X->D[m] * fabs(row[j]);
                p->q[j] += X->q[m] * fabs(row[j]);
            }
        }
    }
    for (int64_t i = 2 * p->products; i < p->inputs; i++) {
        const place *a = &f->places[p->input[i]];
        for (size_t j = 0; !a->constant && j < p->width; j++) p->D[j] += a->D[j], p->q[j] += a->q[j];
    }
    const double n = p->terms[at];
    for (size_t j = 0; j < p->width; j++) {
        const double size = p->fixed[at * p->width + j] + f->u * p->D[j];
        if (p->lane >= 0) p->D[j] = least(p->D[j], f->image[(size_t)p->lane + j] + p->q[j]); /* (5) */
        const double value = fabs(p->value[at * p->width + j]) + f->u * p->D[j];
        double r = least(n * size, size + (n - 1) * (size + value) / 2 + f->u * n * n * size);
        r += size > 0 ? n * f->eta * (1 + n * f->u) : 0.0;
        if (!(size < f->overflow) && active) r = INFINITY;
        p->D[j] += r, p->q[j] += r;
    }
}

static void activation(const forward *f, const place *p, size_t at, int active) {
    const place *a = &f->places[p->input[0]];
    for (size_t j = 0; j < p->width; j++) {
        const double Da = a->D[j], slope = p->slope[at * p->width + j], z = fabs(p->value[at * p->width + j]);
        double add = 0.0, by = slope;
        if (p->op == OP_IDENTITY) {
            by = 1.0;
        } else if (p->op == OP_RELU) {
            const int kink = fabs(a->value[at * p->width + j]) <= f->u * Da * INFLATE;
            if (kink && active) *f->kinks += 1.0;
            add = kink ? Da : 0.0; /* |relu(a + d) - relu(a) - relu'(a) d| <= |d| */
        } else {
            const double sup2 = p->op == OP_TANH ? SUP2_TANH : SUP2_SIGMOID;
            const double steepest = slope + sup2 * f->u * Da;                              /* |phi'| over the tube */
            const double remainder = 0.5 * least(sup2, 2 * steepest) * f->u * Da * Da;     /* (4) */
            const double moved = f->u * (slope * Da + remainder);
            double r = 2 * f->ulp * (z + moved) + (z + Da > 0 ? f->eta_function : 0.0);
            if (p->op == OP_SIGMOID) r = most(r, f->ulp * (fabs(1 - 2 * z) + 2 * moved)) + 4 * z;
            add = remainder + r;
        }
        p->D[j] = by * Da + add;
        p->q[j] = by * a->q[j] + add;
    }
}

static void multiplied(const forward *f, const place *p, size_t at) {
    const place *a = &f->places[p->input[0]], *b = &f->places[p->input[1]];
    for (size_t j = 0; j < p->width; j++) {
        const double x = fabs(a->value[a->constant ? j : at * p->width + j]), Dx = a->constant ? 0.0 : a->D[j];
        const double y = fabs(b->value[b->constant ? j : at * p->width + j]), Dy = b->constant ? 0.0 : b->D[j];
        const double r = (x + f->u * Dx) * (y + f->u * Dy) + f->eta, add = f->u * Dx * Dy + r;
        p->D[j] = x * Dy + y * Dx + add; /* (3) */
        p->q[j] = x * (b->constant ? 0.0 : b->q[j]) + y * (a->constant ? 0.0 : a->q[j]) + add;
    }
}

static void added(const forward *f, const place *p, size_t at) {
    const place *a = &f->places[p->input[0]], *b = &f->places[p->input[1]];
    for (size_t j = 0; j < p->width; j++) {
        const size_t i = at * p->width + j;
        const double D = a->D[j] + b->D[j], r = fabs(a->value[i]) + fabs(b->value[i]) + f->u * D + f->eta;
        p->D[j] = D + r;
        p->q[j] = a->q[j] + b->q[j] + r;
    }
}

static void mixed(const forward *f, const place *p, size_t at) {
    const place *z = &f->places[p->input[0]], *n = &f->places[p->input[1]], *h = &f->places[p->input[2]];
    for (size_t j = 0; j < p->width; j++) {
        const size_t i = at * p->width + j;
        const double vz = z->value[i], vn = n->value[i], vh = h->value[i], both = n->D[j] + h->D[j];
        const double r = 4 * (fabs(vn) + fabs(vh) + f->u * both) * (1 + f->u * z->D[j]) + 4 * f->eta;
        const double add = f->u * z->D[j] * both + r, to_z = fabs(vh - vn), to_n = fabs(1 - vz), to_h = fabs(vz);
        p->D[j] = to_z * z->D[j] + to_n * n->D[j] + to_h * h->D[j] + add;
        p->q[j] = to_z * z->q[j] + to_n * n->q[j] + to_h * h->q[j] + add;
    }
}

/* D and q of every node of a step of one row, from the bound of the state before it. */
static void step(const forward *f, size_t at, int active, const double *before) {
    for (size_t k = 0; k < f->place_count; k++) {
        const place *p = &f->places[k];
        if (p->constant) continue;
        const place *from = &f->places[p->input[0]];
        switch (p->op) {
        case OP_LEAF:
            for (size_t j = 0; j < p->width; j++) {
                p->D[j] = p->state >= 0 ? before[(size_t)p->state + j] : 0.0;
                p->q[j] = 0.0;
            }
            break;
        case OP_LINEAR: linear(f, p, at, active); break;
        case OP_MUL: multiplied(f, p, at); break;
        case OP_ADD: added(f, p, at); break;
        case OP_MIX: mixed(f, p, at); break;
        case OP_COLUMNS:
        case OP_HOLD:
            for (size_t j = 0; j < p->width; j++) {
                p->D[j] = from->D[(size_t)p->start + j];
                p->q[j] = from->q[(size_t)p->start + j];
            }
            break;
        default: activation(f, p, at, active);
        }
    }
}

static void run_row(const forward *f, transport *moved, size_t b) {
    const size_t B = f->B, S = f->S, lanes = f->lanes;
    double arrived = 0.0; /* the sum of all local errors so far */
    moved->count = 0;
    transport_add(moved);
    for (size_t t = 0; t < f->T; t++) {
        const size_t at = t * B + b;
        const int active = f->active[at] != 0;
        const double *before = f->states + at * S;
        double *after = f->states + (at + B) * S;
        transport_arrive(moved, f->image, 0, f->signed_ + at * S * lanes, lanes);
        add_image(f->image, f->kappa * ROUND, before, S, f->absolute + at * S * lanes, lanes);
        for (size_t j = 0; j < lanes; j++) f->image[j] += f->tiny * arrived;
        step(f, at, active, before);
        size_t end = 0;
        for (size_t i = 0; i < f->output_count; i++) {
            const place *p = &f->places[f->outputs[i]];
            memcpy(f->local + end, p->q, p->width * sizeof(double));
            end += p->width;
        }
        add_image(f->local, f->kappa * ROUND, before, S, f->J_abs + at * S * S, S); /* (2) of transport */
        double sum = 0.0;
        for (size_t j = 0; j < S; j++) {
            f->local[j] = active ? f->local[j] + f->tiny * arrived : 0.0;
            sum += f->local[j];
        }
        arrived += sum;
        transport_advance(moved, f->J + at * S * S);
        memcpy(transport_add(moved), f->local, S * sizeof(double));
        transport_arrive(moved, after, 0, NULL, S);
        for (size_t k = 0; k < f->place_count; k++) {
            const place *p = &f->places[k];
            if (!p->constant) memcpy(p->bound + at * p->width, p->D, p->width * sizeof(double));
        }
        end = 0;
        for (size_t i = 0; i < f->output_count; i++) {
            const place *p = &f->places[f->outputs[i]];
            double *bound = p->bound + at * p->width;
            for (size_t j = 0; j < p->width; j++) bound[j] = least(bound[j], after[end + j]);
            end += p->width;
        }
        for (size_t i = 0; i < f->probe_count; i++) {
            const probe *L = &f->probes[i];
            const double *absolute = L->absolute + at * S * L->width;
            double *into = L->out + at * L->width, largest = 0.0;
            for (size_t j = 0; j < S * L->width; j++) largest = most(largest, absolute[j]);
            transport_arrive(moved, into, 0, L->signed_ + at * S * L->width, L->width);
            for (size_t j = 0; j < L->width; j++) into[j] += f->tiny * arrived * (1 + (double)S * largest);
            add_image(into, (f->kappa + L->roundings) * ROUND, after, S, absolute, L->width);
        }
    }
}

/* A place from the tape: its inputs stand before it, and are as wide as its operation needs them. */
static void read_place(tape *from, arena *memory, forward *f, size_t k) {
    place *p = &f->places[k];
    const size_t rows = f->T * f->B;
    p->op = tape_next(from, 0, OPS - 1, "an operation");
    p->constant = (int)tape_next(from, 0, 1, "whether a place is a parameter");
    p->rows = (size_t)tape_next(from, 0, TAPE_LARGEST, "a parameter's rows");
    p->width = (size_t)tape_next(from, 1, TAPE_LARGEST, "a width");
    p->products = tape_next(from, 0, TAPE_INPUTS / 2, "a number of products");
    p->inputs = tape_next(from, 2 * p->products, TAPE_INPUTS, "a number of inputs");
    for (int64_t i = 0; i < p->inputs; i++) p->input[i] = tape_next(from, 0, (int64_t)k - 1, "an input");
    p->start = tape_next(from, 0, TAPE_LARGEST, "a first column");
    p->lane = tape_next(from, -1, (int64_t)f->lanes, "a lane");
    p->state = tape_next(from, -1, (int64_t)f->S, "a place in the state");
    p->value = tape_read(from, (p->constant ? p->rows : rows) * p->width, 0, "a value");
    if (from->wrong || p->constant) return;
    p->bound = tape_write(from, rows * p->width, "a bound");
    const int function = p->op >= OP_TANH;
    if (function) p->slope = tape_read(from, rows * p->width, 0, "a slope");
    if (p->op == OP_LINEAR) {
        p->fixed = tape_read(from, rows * p->width, 0, "a sum's size");
        p->terms = tape_read(from, rows, 0, "a sum's terms");
    }
    const int64_t wanted[] = {[OP_LEAF] = 0, [OP_MUL] = 2, [OP_ADD] = 2, [OP_MIX] = 3, [OP_COLUMNS] = 1, [OP_HOLD] = 1};
    if (p->op != OP_LINEAR && p->inputs != (function ? 1 : wanted[p->op])) from->wrong = "how many inputs a place has";
    for (int64_t i = 0; i < p->inputs && !from->wrong; i++) {
        const place *other = &f->places[p->input[i]];
        int fits = p->op == OP_COLUMNS ? (size_t)p->start + p->width <= other->width : other->width == p->width;
        if (i < 2 * p->products && i % 2 == 0) {
            fits = !other->constant && other->width == f->places[p->input[i + 1]].rows;
        } else if (i < 2 * p->products) {
            fits = fits && other->constant;
        } else if (other->constant) {
            fits = fits && other->rows == 1 && (p->op == OP_LINEAR || p->op == OP_MUL);
        }
        if (!fits) from->wrong = "the width of an input";
    }
    if (p->lane >= 0 && (size_t)p->lane + p->width > f->lanes) from->wrong = "a lane's end";
    if (p->state >= 0 && (size_t)p->state + p->width > f->S) from->wrong = "a state's end";
    if (p->op != OP_COLUMNS) p->start = 0;
    p->D = arena_doubles(memory, p->width);
    p->q = arena_doubles(memory, p->width);
}

int forward_bounds(tape *from, arena *memory) {
    forward f = {0};
    f.T = (size_t)tape_next(from, 1, TAPE_LARGEST, "T");
    f.B = (size_t)tape_next(from, 1, TAPE_LARGEST, "B");
    f.S = (size_t)tape_next(from, 1, TAPE_LARGEST, "S");
    f.lanes = (size_t)tape_next(from, 0, TAPE_LARGEST, "the lanes");
    const size_t rows = f.T * f.B;
    double *const reals[] = {&f.u, &f.eta, &f.eta_function, &f.ulp, &f.overflow, &f.kappa, &f.tiny};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) *reals[i] = tape_real(from, "a real");
    f.active = tape_read(from, rows, 0, "active");
    f.J = tape_read(from, rows * f.S * f.S, 0, "J");
    f.J_abs = tape_read(from, rows * f.S * f.S, 0, "J_abs");
    f.signed_ = tape_read(from, rows * f.S * f.lanes, 0, "the lanes' images");
    f.absolute = tape_read(from, rows * f.S * f.lanes, 0, "the lanes' sizes");
    f.states = tape_write(from, (rows + f.B) * f.S, "states");
    f.kinks = tape_write(from, 1, "kinks");
    f.place_count = (size_t)tape_next(from, 1, 256, "a number of places");
    f.places = arena_bytes(memory, f.place_count * sizeof(place));
    if (!f.places) return -1;
    for (size_t k = 0; k < f.place_count && !from->wrong && !memory->failed; k++) read_place(from, memory, &f, k);
    f.output_count = (size_t)tape_next(from, 1, 4, "a number of states");
    size_t total = 0;
    for (size_t i = 0; i < f.output_count && !from->wrong; i++) {
        f.outputs[i] = tape_next(from, 0, (int64_t)f.place_count - 1, "a state's place");
        if (f.places[f.outputs[i]].constant) from->wrong = "a state's place";
        total += f.places[f.outputs[i]].width;
    }
    if (total != f.S && !from->wrong) from->wrong = "the states' width";
    f.probe_count = (size_t)tape_next(from, 0, 8, "a number of probes");
    f.probes = arena_bytes(memory, 8 * sizeof(probe));
    size_t widest = f.lanes > f.S ? f.lanes : f.S;
    for (size_t i = 0; f.probes && i < f.probe_count && !from->wrong; i++) {
        probe *L = &f.probes[i];
        L->width = (size_t)tape_next(from, 1, TAPE_LARGEST, "a probe's width");
        L->roundings = tape_real(from, "a probe's roundings");
        L->signed_ = tape_read(from, rows * f.S * L->width, 0, "a probe");
        L->absolute = tape_read(from, rows * f.S * L->width, 0, "a probe's sizes");
        L->out = tape_write(from, rows * L->width, "a probe's bounds");
        if (L->width > widest) widest = L->width;
    }
    if (from->wrong) return -1;
    transport moved;
    transport_open(&moved, memory, f.T + 1, f.S, f.S, 1, widest);
    f.image = arena_doubles(memory, widest);
    f.local = arena_doubles(memory, f.S);
    if (memory->failed) return -1;
    for (size_t b = 0; b < f.B; b++) run_row(&f, &moved, b);
    return 0;
}
