/* team.c: the second thread.

   A ticket holds the number of the task, how many parts it has and which is the next: a part is taken by counting the
   ticket up, in one atomic step, so that a thread that comes late for a task finds another ticket and takes nothing. The
   caller leaves a task when all of its parts are done; until then what the task points to stays in place. */
#include "team.h"

#if (defined(__unix__) || defined(__APPLE__)) && !defined(__STDC_NO_ATOMICS__)

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { LOOKS = 4000 /* before a waiting thread gives way: some ten microseconds */ };

struct bptt_team {
    _Atomic uint64_t ticket; /* task number << 32 | parts << 16 | next part */
    atomic_size_t done;      /* parts of the present task */
    atomic_int over;
    bptt_task *task;
    void *what;
    pthread_t helper;
};

static void wait_a_little(unsigned *looks) {
    if (++*looks < LOOKS) {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
        __builtin_ia32_pause();
#endif
    } else {
        sched_yield();
    }
}

/* Does parts as long as there are some. */
static void take_parts(bptt_team *team, int member) {
    for (;;) {
        uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
        const size_t next = ticket & 0xffff, parts = ticket >> 16 & 0xffff;
        if (next >= parts) return;
        if (!atomic_compare_exchange_weak_explicit(&team->ticket, &ticket, ticket + 1, memory_order_acq_rel,
                                                   memory_order_relaxed)) {
            continue;
        }
        team->task(team->what, next, member);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
    }
}

static int is_open(const bptt_team *team) {
    const uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    return (ticket & 0xffff) < (ticket >> 16 & 0xffff);
}

static void *help(void *given) {
    bptt_team *team = given;
    unsigned looks = 0;
    while (!atomic_load_explicit(&team->over, memory_order_acquire)) {
        if (is_open(team)) {
            take_parts(team, 1);
            looks = 0;
        } else {
            wait_a_little(&looks);
        }
    }
    return NULL;
}

bptt_team *bptt_team_start(void) {
    bptt_team *team = calloc(1, sizeof *team);
    if (!team) return NULL;
    atomic_init(&team->ticket, 0);
    atomic_init(&team->done, 0);
    atomic_init(&team->over, 0);
    if (pthread_create(&team->helper, NULL, help, team) != 0) {
        free(team);
        return NULL;
    }
    return team;
}

void bptt_team_end(bptt_team *team) {
    if (!team) return;
    atomic_store_explicit(&team->over, 1, memory_order_release);
    pthread_join(team->helper, NULL);
    free(team);
}

void bptt_team_do(bptt_team *team, bptt_task *task, void *what, size_t parts) {
    if (!team || parts < 2) {
        for (size_t part = 0; part < parts; part++) task(what, part, 0);
        return;
    }
    team->task = task;
    team->what = what;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    const uint64_t number = (atomic_load_explicit(&team->ticket, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&team->ticket, number << 32 | (uint64_t)parts << 16, memory_order_release);
    take_parts(team, 0);
    for (unsigned looks = 0; atomic_load_explicit(&team->done, memory_order_acquire) < parts;) wait_a_little(&looks);
}

#else

bptt_team *bptt_team_start(void) { return NULL; }

void bptt_team_end(bptt_team *team) { (void)team; }

void bptt_team_do(bptt_team *team, bptt_task *task, void *what, size_t parts) {
    (void)team;
    for (size_t part = 0; part < parts; part++) task(what, part, 0);
}

#endif
