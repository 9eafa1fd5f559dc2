/* team.h: a second thread for the products of one call, where the sizes make it pay.

   A task is cut into parts that the two threads take one after another, whoever comes first. The helper is started with
   the call and ends with it; between tasks it looks out for the next, at first without pause, then giving way to others.
   If it is kept waiting by the system, the caller does all parts itself. Which thread does a part changes no result. */
#ifndef TEAM_H
#define TEAM_H

#include <stddef.h>

enum { BPTT_MEMBERS = 2, BPTT_MOST_PARTS = 65535 };

typedef struct bptt_team bptt_team;

/* Does one part; member is 0 or 1, and never works on two parts at once. */
typedef void bptt_task(void *what, size_t part, int member);

/* Starts a team that lives until the end, or returns NULL where there are no threads. */
bptt_team *bptt_team_start(void);
void bptt_team_end(bptt_team *team);

/* Does all parts and returns when they are done; team may be NULL. parts <= BPTT_MOST_PARTS */
void bptt_team_do(bptt_team *team, bptt_task *task, void *what, size_t parts);

#endif
