/* backward.c: the passes of oracle/budget/backward.py, one by one and row by row; that file has the theorem.

   Of a row's adjoints, V (losses,width) are signed, one for each loss that the pass has met, and bounds (4,width) are
   what float64 did to V; q; E; and Z. Rows without a loss in a pass take no part in it. */
#include "transport.h"

typedef struct {
    size_t into;
    const double *factor, *size, *gain, *there, *float64; /* (T,B,width) each; factor, size, float64 may be missing */
    double lost;
} edge;

typedef struct {
    size_t into, start;
    double terms, underflown;
} product;

typedef struct {
    int64_t op, cut;
    int constant, known;
    size_t width, source, start;                           /* of `columns` */
    double *kept;                                          /* (3,T,B,width), out: M, E, Z */
    const double *cut_abs;                                 /* (T,B,S,width), where cut >= 0 */
    size_t terms;                                          /* m of Groups, 0 without */
    const double *X, *factor;                              /* (T,B,m), (T,B,width) or none */
    double *by_loss, *summed, *lost;                       /* (T,m,width), (T,B,width) twice, out */
    size_t total, product_count, x_count, edge_count;      /* of a linear: the width of its inputs together */
    const double *W, *W_abs;                               /* (width,total) */
    double *inputs;                                        /* (T,B,D), out */
    product *products;
    size_t *x;
    edge *edges;
    double *V, *bounds, *M, *computed;
} place;

typedef struct {
    size_t T, B, S, D, passes, cuts, place_count, output_count, input_count;
    double u, slack, tiny;
    place *places;
    size_t outputs[4], inputs[4];
    const double *seeds, *first;                           /* (passes,T,B), (passes,B) */
    const double *Jt, *J_abs, *cut;                        /* (T,B,S,S) twice, (T,B,cuts,S) */
    const double *values, *errors, *scales;                /* (T,B,S) */
    double *M, *E, *Z, *peak;                              /* (B,S), (B,S), (B,S), (1,), out */
    size_t *losses, loss_count;                            /* of the row at hand */
    double *each, *here, *pending, *cut_q, *back, *wide;   /* (T,S), (4,S), (2,S+cuts), (cuts,), and for a linear */
} backward;

/* The sum of |V| over the losses, entry by entry, with `bound` added. */
static void sizes_of(double *to, const double *V, size_t losses, size_t width, const double *bound) {
    for (size_t j = 0; j < width; j++) {
        double sum = 0.0;
        for (size_t l = 0; l < losses; l++) sum += fabs(V[l * width + j]);
        to[j] = sum + bound[j];
    }
}

/* Where a place's adjoint is added to: zeroed, if nothing has been. */
static place *given(const backward *f, size_t k) {
    place *to = &f->places[k];
    if (!to->known) {
        memset(to->V, 0, f->loss_count * to->width * sizeof(double));
        memset(to->bounds, 0, 4 * to->width * sizeof(double));
        to->known = 1;
    }
    return to;
}

/* Terms X^T V of a step, for each loss, and added up: see Groups. */
static void group(const backward *f, const place *p, size_t at, double underflow) {
    const double *X = p->X + at * p->terms, *factor = p->factor ? p->factor + at * p->width : NULL;
    for (size_t j = 0; j < p->width; j++) {
        const double by = factor ? factor[j] : 1.0;
        double sum = 0.0;
        for (size_t l = 0; l < f->loss_count; l++) {
            const double v = p->V[l * p->width + j] * by;
            double *into = p->by_loss + f->losses[l] * p->terms * p->width + j;
            for (size_t i = 0; i < p->terms; i++) into[i * p->width] += X[i] * v;
            sum += v;
        }
        p->summed[at * p->width + j] += sum;
        p->lost[at * p->width + j] += (p->bounds[j] + underflow) * fabs(by);
    }
}

/* What the products of a linear node give back. */
static void back(const backward *f, const place *p, size_t at) {
    const size_t n = p->total, w = p->width, L = f->loss_count;
    double *V = f->back, *bounds = V + L * n, *sizes = bounds + 4 * n, largest = 0.0;
    memset(V, 0, (L + 5) * n * sizeof(double));
    for (size_t l = 0; l < L; l++) multiply(V + l * n, p->V + l * w, w, p->W, n);
    for (size_t i = 0; i < 4; i++) multiply(bounds + i * n, p->bounds + i * w, w, p->W_abs, n);
    multiply(sizes, p->computed, w, p->W_abs, n);
    for (size_t j = 0; j < n; j++) *f->peak = most(*f->peak, sizes[j]); /* NaN stays: then nothing is bounded */
    for (size_t i = 0; i < p->x_count; i++) {
        for (size_t j = 0; j < f->D; j++) {
            double sum = bounds[p->x[i] + j];
            for (size_t l = 0; l < L; l++) sum += fabs(V[l * n + p->x[i] + j]);
            p->inputs[at * f->D + j] += sum;
        }
    }
    for (size_t j = 0; j < w; j++) largest = most(largest, p->computed[j]);
    for (size_t i = 0; i < p->product_count; i++) {
        const product *one = &p->products[i];
        place *to = given(f, one->into);
        for (size_t j = 0; j < to->width; j++) {
            const size_t from = one->start + j;
            const double r = one->terms * sizes[from] + (largest > 0 ? one->underflown : 0.0);
            for (size_t l = 0; l < L; l++) to->V[l * to->width + j] += V[l * n + from];
            for (size_t k = 0; k < 4; k++) {
                to->bounds[k * to->width + j] += bounds[k * n + from] + (k == 1 || k == 2 ? r : 0.0);
            }
        }
    }
}

/* What an entrywise use gives back: (3). */
static void through(const backward *f, const place *p, const edge *e, size_t at) {
    place *to = given(f, e->into);
    for (size_t j = 0; j < p->width; j++) {
        const size_t i = at * p->width + j;
        const double r = p->computed[j] * e->gain[i] + (p->computed[j] > 0 && e->there[i] != 0 ? e->lost : 0.0);
        const double factor = e->factor ? e->factor[i] : 1.0, size = e->size ? e->size[i] : 1.0;
        for (size_t l = 0; l < f->loss_count; l++) to->V[l * p->width + j] += p->V[l * p->width + j] * factor;
        for (size_t k = 0; k < 4; k++) {
            double bound = p->bounds[k * p->width + j] * size;
            if (k == 0 && e->float64) bound += e->float64[i] * p->M[j];
            if (k == 1 || k == 2) bound += r;
            to->bounds[k * p->width + j] += bound;
        }
    }
}

/* From the adjoint of the states after a step, `each` and `here`, that of those before it, and q of the cuts. */
static void step(backward *f, size_t at, double underflow) {
    const size_t S = f->S, L = f->loss_count, rows = f->T * f->B;
    for (size_t k = 0; k < f->place_count; k++) f->places[k].known = 0;
    memset(f->cut_q, 0, f->cuts * sizeof(double));
    size_t end = 0;
    for (size_t i = 0; i < f->output_count; i++) {
        place *p = given(f, f->outputs[i]);
        for (size_t j = 0; j < p->width; j++) {
            for (size_t l = 0; l < L; l++) p->V[l * p->width + j] = f->each[l * S + end + j];
            for (size_t n = 0; n < 4; n++) p->bounds[n * p->width + j] = f->here[n * S + end + j];
        }
        end += p->width;
    }
    for (size_t k = f->place_count; k-- > 0;) {
        place *p = &f->places[k];
        const size_t w = p->width;
        if (p->constant || !p->known) continue;
        sizes_of(p->M, p->V, L, w, p->bounds);
        for (size_t j = 0; j < w; j++) {
            double *kept = p->kept + at * w + j;
            kept[0] += p->M[j];
            kept[rows * w] += p->bounds[2 * w + j];
            kept[2 * rows * w] += p->bounds[3 * w + j];
        }
        if (p->op == OP_LEAF || p->op == OP_HOLD) continue;
        if (p->cut >= 0) {
            memcpy(f->cut_q + p->cut, p->bounds + w, w * sizeof(double));
            memset(p->bounds + w, 0, w * sizeof(double));
        }
        if (p->terms) group(f, p, at, underflow);
        if (p->op == OP_COLUMNS) {
            place *to = given(f, p->source);
            for (size_t j = 0; j < w; j++) {
                for (size_t l = 0; l < L; l++) to->V[l * to->width + p->start + j] += p->V[l * w + j];
                for (size_t n = 0; n < 4; n++) to->bounds[n * to->width + p->start + j] += p->bounds[n * w + j];
            }
            continue;
        }
        for (size_t j = 0; j < w; j++) p->computed[j] = p->M[j] + f->u * p->bounds[2 * w + j];
        if (p->op == OP_LINEAR) back(f, p, at);
        for (size_t i = 0; i < p->edge_count; i++) through(f, p, &p->edges[i], at);
    }
    end = 0;
    for (size_t i = 0; i < f->input_count; i++) {
        const place *p = given(f, f->inputs[i]);
        for (size_t j = 0; j < p->width; j++) {
            for (size_t l = 0; l < L; l++) f->each[l * S + end + j] = p->V[l * p->width + j];
            f->pending[end + j] = p->bounds[p->width + j];
        }
        end += p->width;
    }
    memcpy(f->pending + S, f->cut_q, f->cuts * sizeof(double));
}

static void run_row(backward *f, transport *moved, size_t pass, size_t b) {
    const size_t B = f->B, S = f->S, rows = S + f->cuts;
    const double *seeded = f->seeds + pass * f->T * B + b, stop = f->first[pass * B + b];
    size_t last = f->T;
    while (last > 0 && seeded[(last - 1) * B] == 0) last--;
    if (last == 0) return;
    f->loss_count = moved->count = 0;
    memset(f->pending, 0, 2 * rows * sizeof(double));
    for (size_t t = last;; t--) { /* at the state after step t, counted from 1; 0 is the initial one */
        if (t > 0 && (double)t < stop) return;
        const size_t at = (t - 1) * B + b; /* of step t; not used at the initial state */
        if (t < last) transport_advance(moved, f->Jt + (at + B) * S * S);
        double *errors = transport_add(moved);
        if (t < last) {
            memcpy(moved->products + ((moved->count - 1) * rows + S) * S, f->cut + (at + B) * f->cuts * S,
                   f->cuts * S * sizeof(double));
        }
        memcpy(errors, f->pending, 2 * rows * sizeof(double));
        if (t > 0 && seeded[(t - 1) * B] != 0) {
            const double *g = f->values + at * S;
            memcpy(f->each + f->loss_count * S, g, S * sizeof(double));
            f->losses[f->loss_count++] = t - 1;
            for (size_t j = 0; j < S; j++) { /* forward mode ends in a product with dL_t/ds_t, of S terms */
                errors[j] += f->errors[at * S + j] + (double)S * fabs(g[j]);
                errors[rows + j] += f->slack * fabs(g[j]);
                errors[2 * rows + j] += f->scales[at * S + j];
            }
        }
        double *F = f->here, *E = f->here + 2 * S, *Z = f->here + 3 * S;
        transport_arrive(moved, E, 0, NULL, S);
        transport_arrive(moved, F, 1, NULL, S);
        transport_arrive(moved, Z, 2, NULL, S);
        sizes_of(f->wide, f->each, f->loss_count, S, F);
        if (t == 0) {
            for (size_t j = 0; j < S; j++) {
                f->M[b * S + j] += f->wide[j];
                f->E[b * S + j] += E[j];
                f->Z[b * S + j] += Z[j];
            }
            return;
        }
        double sent = 0.0, arrived = 0.0;
        for (size_t j = 0; j < S; j++) sent += f->wide[j];
        for (size_t i = 0; i < moved->count; i++) {
            for (size_t j = 0; j < rows; j++) arrived += moved->sources[i * 3 * rows + j];
        }
        for (size_t j = 0; j < S; j++) {
            f->here[S + j] = 0.0;
            F[j] += f->slack * f->wide[j]; /* what this step's products in float64 add */
        }
        step(f, at, f->tiny * sent);
        add_coimage(f->pending, f->slack, E, S, f->J_abs + at * S * S, S);
        for (size_t k = 0; k < f->place_count; k++) {
            const place *p = &f->places[k];
            if (p->cut < 0) continue;
            add_coimage(f->pending, f->slack, f->cut_q + p->cut, S, p->cut_abs + at * S * p->width, p->width);
        }
        memset(f->pending + rows, 0, rows * sizeof(double));
        add_coimage(f->pending + rows, f->slack, f->wide, S, f->J_abs + at * S * S, S);
        for (size_t j = 0; j < S; j++) {
            f->pending[j] += f->tiny * arrived;
            f->pending[rows + j] += f->tiny * sent;
        }
    }
}

/* The part of a place that only a linear has. */
static void read_linear(tape *from, arena *memory, const backward *f, place *p, size_t k) {
    p->total = (size_t)tape_next(from, 1, TAPE_LARGEST, "the width of a linear's inputs");
    p->W = tape_read(from, p->width * p->total, 0, "a linear's parameters");
    p->W_abs = tape_read(from, p->width * p->total, 0, "a linear's parameters' sizes");
    p->inputs = tape_write(from, f->T * f->B * f->D, "what reaches x");
    p->product_count = (size_t)tape_next(from, 0, TAPE_INPUTS, "a number of products");
    p->products = arena_bytes(memory, TAPE_INPUTS * sizeof(product));
    p->x = arena_bytes(memory, TAPE_INPUTS * sizeof(size_t));
    if (memory->failed) return;
    for (size_t i = 0; i < p->product_count && !from->wrong; i++) {
        product *one = &p->products[i];
        one->into = (size_t)tape_next(from, 0, (int64_t)k - 1, "a product's input");
        one->start = (size_t)tape_next(from, 0, TAPE_LARGEST, "a product's first column");
        one->terms = tape_real(from, "a product's terms");
        one->underflown = tape_real(from, "a product's underflow");
        const place *to = &f->places[one->into];
        if (to->constant || one->start + to->width > p->total) from->wrong = "a product's columns";
    }
    p->x_count = (size_t)tape_next(from, 0, TAPE_INPUTS, "how often x is an input");
    for (size_t i = 0; i < p->x_count && !from->wrong; i++) {
        p->x[i] = (size_t)tape_next(from, 0, TAPE_LARGEST, "x's first column");
        if (p->x[i] + f->D > p->total) from->wrong = "x's columns";
    }
}

static void read_place(tape *from, arena *memory, backward *f, size_t k) {
    place *p = &f->places[k];
    const size_t rows = f->T * f->B;
    p->op = tape_next(from, 0, OPS - 1, "an operation");
    p->constant = (int)tape_next(from, 0, 1, "whether a place is a parameter");
    if (p->constant) return;
    p->width = (size_t)tape_next(from, 1, TAPE_LARGEST, "a width");
    const size_t size = rows * p->width;
    p->kept = tape_write(from, 3 * size, "what is kept of a place");
    p->cut = tape_next(from, -1, (int64_t)f->cuts, "a cut");
    if (p->cut >= 0) {
        p->cut_abs = tape_read(from, size * f->S, 0, "a cut's sizes");
        if ((size_t)p->cut + p->width > f->cuts) from->wrong = "a cut's end";
    }
    p->terms = (size_t)tape_next(from, 0, TAPE_LARGEST, "a gradient's rows");
    if (p->terms) {
        p->X = tape_read(from, rows * p->terms, 0, "X");
        p->factor = tape_read(from, size, 1, "a factor");
        p->by_loss = tape_write(from, f->T * p->terms * p->width, "sums by loss");
        p->summed = tape_write(from, size, "sums by step");
        p->lost = tape_write(from, size, "what float64 lost");
    }
    if (p->op == OP_COLUMNS) {
        p->source = (size_t)tape_next(from, 0, (int64_t)k - 1, "a source");
        p->start = (size_t)tape_next(from, 0, TAPE_LARGEST, "a first column");
        const place *source = &f->places[p->source];
        if (source->constant || p->start + p->width > source->width) from->wrong = "a source's columns";
    }
    if (p->op == OP_LINEAR) read_linear(from, memory, f, p, k);
    p->edge_count = (size_t)tape_next(from, 0, TAPE_INPUTS, "a number of edges");
    p->edges = arena_bytes(memory, TAPE_INPUTS * sizeof(edge));
    if (memory->failed) return;
    for (size_t i = 0; i < p->edge_count && !from->wrong; i++) {
        edge *e = &p->edges[i];
        e->into = (size_t)tape_next(from, 0, (int64_t)k - 1, "an edge's input");
        e->factor = tape_read(from, size, 1, "an edge's factor");
        e->size = tape_read(from, size, 1, "an edge's size");
        e->gain = tape_read(from, size, 0, "an edge's gain");
        e->there = tape_read(from, size, 0, "where an edge is");
        e->lost = tape_real(from, "what an edge loses");
        e->float64 = tape_read(from, size, 1, "what float64 does to an edge");
        const place *to = &f->places[e->into];
        if (to->constant || to->width != p->width) from->wrong = "an edge's width";
    }
    p->V = arena_doubles(memory, f->T * p->width);
    p->bounds = arena_doubles(memory, 4 * p->width);
    p->M = arena_doubles(memory, p->width);
    p->computed = arena_doubles(memory, p->width);
}

/* The places of the states, as many as the widths of them add up to S. */
static size_t read_states(tape *from, const backward *f, size_t *places) {
    const size_t count = (size_t)tape_next(from, 1, 4, "a number of states");
    size_t total = 0;
    for (size_t i = 0; i < count && !from->wrong; i++) {
        places[i] = (size_t)tape_next(from, 0, (int64_t)f->place_count - 1, "a state's place");
        if (f->places[places[i]].constant) from->wrong = "a state's place";
        total += f->places[places[i]].width;
    }
    if (total != f->S && !from->wrong) from->wrong = "the states' width";
    return count;
}

int backward_bounds(tape *from, arena *memory) {
    backward f = {0};
    f.T = (size_t)tape_next(from, 1, TAPE_LARGEST, "T");
    f.B = (size_t)tape_next(from, 1, TAPE_LARGEST, "B");
    f.S = (size_t)tape_next(from, 1, TAPE_LARGEST, "S");
    f.D = (size_t)tape_next(from, 1, TAPE_LARGEST, "D");
    f.cuts = (size_t)tape_next(from, 0, TAPE_LARGEST, "the cuts");
    f.passes = (size_t)tape_next(from, 0, TAPE_LARGEST, "a number of passes");
    f.u = tape_real(from, "u");
    f.slack = tape_real(from, "the slack");
    f.tiny = tape_real(from, "what underflows");
    const size_t rows = f.T * f.B;
    f.seeds = tape_read(from, f.passes * rows, 0, "the passes' losses");
    f.first = tape_read(from, f.passes * f.B, 0, "the passes' first steps");
    f.Jt = tape_read(from, rows * f.S * f.S, 0, "the Jacobians");
    f.J_abs = tape_read(from, rows * f.S * f.S, 0, "the Jacobians' sizes");
    f.cut = tape_read(from, rows * f.cuts * f.S, 0, "the cuts' Jacobians");
    f.values = tape_read(from, rows * f.S, 0, "dL/ds");
    f.errors = tape_read(from, rows * f.S, 0, "the errors of dL/ds");
    f.scales = tape_read(from, rows * f.S, 0, "the scales of dL/ds");
    f.M = tape_write(from, f.B * f.S, "M of the initial state");
    f.E = tape_write(from, f.B * f.S, "E of the initial state");
    f.Z = tape_write(from, f.B * f.S, "Z of the initial state");
    f.peak = tape_write(from, 1, "the peak");
    f.place_count = (size_t)tape_next(from, 1, 256, "a number of places");
    f.places = arena_bytes(memory, f.place_count * sizeof(place));
    if (!f.places) return -1;
    size_t widest = 1;
    for (size_t k = 0; k < f.place_count && !from->wrong && !memory->failed; k++) {
        read_place(from, memory, &f, k);
        if (f.places[k].total > widest) widest = f.places[k].total;
    }
    f.output_count = read_states(from, &f, f.outputs);
    f.input_count = read_states(from, &f, f.inputs);
    if (from->wrong || memory->failed) return -1;
    const size_t together = f.S + f.cuts;
    transport moved;
    transport_open(&moved, memory, f.T + 1, f.S, together, 3, f.S);
    f.losses = arena_bytes(memory, f.T * sizeof(size_t));
    f.each = arena_doubles(memory, f.T * f.S);
    f.here = arena_doubles(memory, 4 * f.S);
    f.pending = arena_doubles(memory, 2 * together);
    f.cut_q = arena_doubles(memory, f.cuts);
    f.back = arena_doubles(memory, (f.T + 5) * widest);
    f.wide = arena_doubles(memory, f.S);
    if (memory->failed) return -1;
    for (size_t pass = 0; pass < f.passes; pass++) {
        for (size_t b = 0; b < f.B; b++) run_row(&f, &moved, pass, b);
    }
    return 0;
}
