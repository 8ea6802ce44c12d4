// A file system without locks, such as some network mounts: below the folder NO_LOCKS every lock fails with ENOLCK.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>

#include "inside.h"

static int has_none(int fd) {
    const char * folder = getenv("NO_LOCKS");
    return folder && file_lies_in(folder, fd);
}

int flock(int fd, int operation) {
    static int (*real)(int, int);
    if (!real) {
        real = (int (*)(int, int)) dlsym(RTLD_NEXT, "flock");
    }
    if (has_none(fd)) {
        errno = ENOLCK;
        return -1;
    }
    return real(fd, operation);
}

static int is_lock(int command) {
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK ||
           command == F_OFD_SETLKW || command == F_OFD_GETLK;
}

#define FCNTL(name) \
    int name(int fd, int command, ...) { \
        static int (*real)(int, int, ...); \
        if (!real) { \
            real = (int (*)(int, int, ...)) dlsym(RTLD_NEXT, #name); \
        } \
        va_list more; \
        va_start(more, command); \
        void * argument = va_arg(more, void *); /* a number fits into one */ \
        va_end(more); \
        if (is_lock(command) && has_none(fd)) { \
            errno = ENOLCK; \
            return -1; \
        } \
        return real(fd, command, argument); \
    }
FCNTL(fcntl)
FCNTL(fcntl64)
