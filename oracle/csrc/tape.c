/* tape.c: reading a tape, and the memory of a call. */
#include "tape.h"

#include <stdlib.h>

int64_t tape_next(tape *from, int64_t low, int64_t high, const char *what) {
    if (from->wrong) return low;
    if (from->next >= from->length || from->numbers[from->next] < low || from->numbers[from->next] > high) {
        from->wrong = what;
        return low;
    }
    return from->numbers[from->next++];
}

double tape_real(tape *from, const char *what) {
    if (from->real_count == 0) {
        if (!from->wrong) from->wrong = what;
        return 0.0;
    }
    return from->reals[tape_next(from, 0, (int64_t)from->real_count - 1, what)];
}

static double *array_of(tape *from, size_t entries, int optional, int writable, const char *what) {
    const int64_t index = tape_next(from, optional ? -1 : 0, (int64_t)from->array_count - 1, what);
    if (from->wrong || index < 0) return NULL;
    const tape_array *array = &from->arrays[index];
    if (!array->data || array->entries != entries || (writable && !array->writable)) {
        from->wrong = what;
        return NULL;
    }
    return array->data;
}

double *tape_read(tape *from, size_t entries, int optional, const char *what) {
    return array_of(from, entries, optional, 0, what);
}

double *tape_write(tape *from, size_t entries, const char *what) { return array_of(from, entries, 0, 1, what); }

struct block {
    block *next;
    double data[];
};

void *arena_bytes(arena *from, size_t bytes) {
    block *new = from->failed || bytes > SIZE_MAX / 2 ? NULL : calloc(1, sizeof(block) + bytes + sizeof(double));
    if (!new) {
        from->failed = 1;
        return NULL;
    }
    new->next = from->blocks;
    from->blocks = new;
    return new->data;
}

double *arena_doubles(arena *from, size_t count) {
    if (count > SIZE_MAX / 4 / sizeof(double)) {
        from->failed = 1;
        return NULL;
    }
    return arena_bytes(from, count * sizeof(double));
}

void arena_free(arena *all) {
    while (all->blocks) {
        block *first = all->blocks;
        all->blocks = first->next;
        free(first);
    }
}
