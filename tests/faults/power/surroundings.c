/* Shows a process a clock that somebody has set and a disk that is full, by LD_PRELOAD.

   STATE is a file with two numbers of 8 bytes: the seconds by which the clock is ahead, and whether the disk is full.
   FULL is the folder whose disk it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct state {
    long ahead, full;
};

static const volatile struct state *state(void) {
    static const struct state usual;
    static const volatile struct state *mapped;
    if (!mapped) {
        int file = open(STATE, O_RDONLY | O_CLOEXEC);
        void *place = file < 0 ? MAP_FAILED : mmap(0, sizeof usual, PROT_READ, MAP_SHARED, file, 0);
        if (file >= 0) close(file);
        mapped = place == MAP_FAILED ? &usual : place;
    }
    return mapped;
}

static int full(int file) {
    if (!state()->full) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < (ssize_t)sizeof FULL - 1 || strncmp(path, FULL, sizeof FULL - 1)) return 0;
    errno = ENOSPC;
    return 1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += state()->ahead;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}

ssize_t write(int file, const void *content, size_t size) {
    return full(file) ? -1 : syscall(SYS_write, file, content, size);
}

ssize_t pwrite64(int file, const void *content, size_t size, off_t offset) {
    return full(file) ? -1 : syscall(SYS_pwrite64, file, content, size, offset);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    return full(file) ? -1 : syscall(SYS_writev, file, parts, count);
}

ssize_t sendfile64(int target, int source, off_t *offset, size_t size) {
    return full(target) ? -1 : syscall(SYS_sendfile, target, source, offset, size);
}

ssize_t copy_file_range(int source, off_t *from, int target, off_t *to, size_t size, unsigned flags) {
    return full(target) ? -1 : syscall(SYS_copy_file_range, source, from, target, to, size, flags);
}
