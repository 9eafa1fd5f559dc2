/* drive_worker.c: serves streams from a file, each as if it were a process's standard input.

       drive_worker STREAMS ANSWERS        STREAMS: for each stream its length, 8 bytes, little-endian, and its bytes

   Appends what is answered to ANSWERS, and prints how many streams ended with status 0 and with status 2. */
#define _GNU_SOURCE
#define main worker_main
#include "worker.c"
#undef main

int main(int count, char **words) {
    FILE *streams = count == 3 ? fopen(words[1], "rb") : NULL, *answers = count == 3 ? fopen(words[2], "wb") : NULL;
    size_t ended[3] = {0, 0, 0};
    unsigned char head[8];
    if (!streams || !answers) return 3;
    while (fread(head, 1, 8, streams) == 8) {
        const size_t size = (size_t)little_endian(head);
        char *bytes = malloc(size ? size : 1);
        if (!bytes || fread(bytes, 1, size, streams) < size) return 3;
        FILE *in = size ? fmemopen(bytes, size, "rb") : fopen("/dev/null", "rb");
        if (!in) return 3;
        const int status = serve(in, answers);
        fclose(in);
        free(bytes);
        if (status != 0 && status != 2) return 4;
        ended[status]++;
    }
    fclose(streams);
    printf("%zu %zu\n", ended[0], ended[2]);
    return fclose(answers) ? 3 : 0;
}
