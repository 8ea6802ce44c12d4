// Lets a process believe that the clock was set back: by CLOCK_BACK_S seconds, once the file CLOCK_FILE is there.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec * time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) {
        real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    }
    const int status = real(clock, time);
    const char * back = getenv("CLOCK_BACK_S");
    const char * file = getenv("CLOCK_FILE");
    if (status == 0 && clock == CLOCK_REALTIME && back && (!file || access(file, F_OK) == 0)) {
        time->tv_sec -= atol(back);
    }
    return status;
}
