// Counts the operations of a process on files in one folder, and has the n-th of them fail; loaded by LD_PRELOAD.
//
// fault_arm(folder, n, what) begins to count; fault_count() tells how many there were. What happens at the n-th, before
// it is carried out: KILL the process; STOP it, until it is told to go on; DISK_FULL from then on, where space would be
// taken, the first write half done; BROKEN, it fails with EIO, once. Operations on files, folders and their entries
// count, reading too where it can break.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "inside.h"

enum what { COUNT, KILL, DISK_FULL, BROKEN, STOP };
enum kind { READS = 0, CHANGES = 1, TAKES_SPACE = 2 };

static char folder[PATH_MAX];
static long count, at;
static enum what what;
static int reads_count;

void fault_arm(const char * where, long n, int what_then) {
    snprintf(folder, sizeof folder, "%s", where);
    count = 0;
    at = n;
    what = (enum what) what_then;
    reads_count = what == BROKEN;
}

long fault_count(void) { return count; }

static int is_inside(const char * path) { return path_lies_in(folder, path); }

static int fd_inside(int fd) { return file_lies_in(folder, fd); }

static int path_inside(int dir, const char * path) {
    if (!folder[0] || !path) {
        return 0;
    }
    return path[0] == '/' || dir == AT_FDCWD ? is_inside(path) : fd_inside(dir);
}

// Whether the operation fails, with errno set; for a write of a full disk 2: half of it is done first.
static int fails(int inside, enum kind kind) {
    if (!inside || (kind == READS && !reads_count)) {
        return 0;
    }
    const int saved = errno;
    count++;
    if (at > 0 && count == at && what == KILL) {
        kill(getpid(), SIGKILL);
    }
    if (at > 0 && count == at && what == STOP) {
        kill(getpid(), SIGSTOP);
    }
    if (at > 0 && count == at && what == BROKEN) {
        errno = EIO;
        return 1;
    }
    if (at > 0 && count >= at && what == DISK_FULL && kind == TAKES_SPACE) {
        errno = ENOSPC;
        return count == at ? 2 : 1;
    }
    errno = saved;
    return 0;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) { \
        real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name); \
    }

static mode_t mode_of(int flags, va_list more) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; }

static enum kind kind_of(int flags) {
    if (flags & O_CREAT) {
        return TAKES_SPACE;
    }
    return flags & (O_WRONLY | O_RDWR | O_TRUNC) ? CHANGES : READS;
}

#define OPEN(name) \
    int name(const char * path, int flags, ...) { \
        REAL(name) \
        va_list more; \
        va_start(more, flags); \
        const mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return fails(path_inside(AT_FDCWD, path), kind_of(flags)) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int dir, const char * path, int flags, ...) { \
        REAL(name) \
        va_list more; \
        va_start(more, flags); \
        const mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return fails(path_inside(dir, path), kind_of(flags)) ? -1 : real(dir, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void * data, size_t n) {
    REAL(write)
    const int failure = fails(fd_inside(fd), TAKES_SPACE);
    if (failure == 2 && n > 1) {
        return real(fd, data, n / 2);
    }
    return failure ? -1 : real(fd, data, n);
}

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void * data, size_t n, offset_type offset) { \
        REAL(name) \
        const int failure = fails(fd_inside(fd), TAKES_SPACE); \
        if (failure == 2 && n > 1) { \
            return real(fd, data, n / 2, offset); \
        } \
        return failure ? -1 : real(fd, data, n, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t read(int fd, void * data, size_t n) {
    REAL(read)
    return fails(fd_inside(fd), READS) ? -1 : real(fd, data, n);
}

#define PREAD(name, offset_type) \
    ssize_t name(int fd, void * data, size_t n, offset_type offset) { \
        REAL(name) \
        return fails(fd_inside(fd), READS) ? -1 : real(fd, data, n, offset); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define ON_FD(name) \
    int name(int fd) { \
        REAL(name) \
        return fails(fd_inside(fd), CHANGES) ? -1 : real(fd); \
    }
ON_FD(fsync)
ON_FD(fdatasync)

#define TRUNCATE(name, offset_type) \
    int name(int fd, offset_type n) { \
        REAL(name) \
        return fails(fd_inside(fd), TAKES_SPACE) ? -1 : real(fd, n); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char * from, const char * to) {
    REAL(rename)
    return fails(path_inside(AT_FDCWD, to), CHANGES) ? -1 : real(from, to);
}

int renameat(int dir, const char * from, int other, const char * to) {
    REAL(renameat)
    return fails(path_inside(other, to), CHANGES) ? -1 : real(dir, from, other, to);
}

int link(const char * from, const char * to) {
    REAL(link)
    return fails(path_inside(AT_FDCWD, to), TAKES_SPACE) ? -1 : real(from, to);
}

int linkat(int dir, const char * from, int other, const char * to, int flags) {
    REAL(linkat)
    return fails(path_inside(other, to), TAKES_SPACE) ? -1 : real(dir, from, other, to, flags);
}

int unlink(const char * path) {
    REAL(unlink)
    return fails(path_inside(AT_FDCWD, path), CHANGES) ? -1 : real(path);
}

int unlinkat(int dir, const char * path, int flags) {
    REAL(unlinkat)
    return fails(path_inside(dir, path), CHANGES) ? -1 : real(dir, path, flags);
}

int rmdir(const char * path) {
    REAL(rmdir)
    return fails(path_inside(AT_FDCWD, path), CHANGES) ? -1 : real(path);
}

int mkdir(const char * path, mode_t mode) {
    REAL(mkdir)
    return fails(path_inside(AT_FDCWD, path), TAKES_SPACE) ? -1 : real(path, mode);
}

DIR * opendir(const char * path) {
    REAL(opendir)
    return fails(path_inside(AT_FDCWD, path), READS) ? NULL : real(path);
}
