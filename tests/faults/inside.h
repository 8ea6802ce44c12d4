// Whether a path, or what an open file is, lies in a folder or is it.

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int path_lies_in(const char * folder, const char * path) {
    const size_t n = strlen(folder);
    return n && strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static int file_lies_in(const char * folder, int fd) {
    if (!folder[0] || fd < 0) {
        return 0;
    }
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) {
        return 0;
    }
    path[n] = '\0';
    return path_lies_in(folder, path);
}
