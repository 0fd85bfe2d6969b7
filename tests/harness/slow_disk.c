// Preloaded into a process, makes the syncs of the files below one directory slow. A file says by
// how many milliseconds: 8 bytes, the machine's byte order; a sync under way while the number is
// negative doesn't come back before it changes. The file is mapped, so that the disk can become
// slow, and well again, while the process runs.
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *late_ms;
static int64_t none;
static const char *directory;

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("SLOW_DISK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    late_ms = mapped == MAP_FAILED ? &none : mapped;
    if (file >= 0) close(file);
    directory = getenv("SLOW_DISK_DIR");
}

static void pause_ms(int64_t ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

int fdatasync(int file) {
    char name[64], path[PATH_MAX + 1] = {0};
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    if (directory && readlink(name, path, PATH_MAX) > 0 &&
        !strncmp(path, directory, strlen(directory))) {
        while (*late_ms < 0) pause_ms(10);
        if (*late_ms > 0) pause_ms(*late_ms);
    }
    return (int)syscall(SYS_fdatasync, file);
}
