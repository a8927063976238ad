/* Preloaded into all programs of a device: their calls that change a disk are counted together, and at the number that
 * FAULT_AT names something happens: FAULT=kill ends the group FAULT_GROUP before the call is made, once lets that call
 * alone fail, full all from there on that need space, dead all from there on.
 *
 * strace injects faults too, but counts each process for itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { SPACE, NAME, SYNC };

static int is_struck(enum kind kind) {
    static long *count;
    const char *fault = getenv("FAULT"), *file = getenv("FAULT_COUNT");
    if (!fault || !file) return 0;
    if (!count) {
        int (*plain_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        int handle = plain_open(file, O_RDWR | O_CLOEXEC);
        if (handle < 0) abort();
        count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
        close(handle);
    }
    long number = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST), at = atol(getenv("FAULT_AT"));
    if (number < at) return 0;
    switch (*fault) {
    case 'k':
        if (number == at) {
            kill(-atoi(getenv("FAULT_GROUP")), SIGKILL);
            for (;;) pause();
        }
        return 0;
    case 'o': errno = ENOSPC; return number == at; /* of fsync too, where space is only looked for then */
    case 'f': errno = ENOSPC; return kind == SPACE;
    default: errno = EIO; return 1;
    }
}

static int is_file(int handle) {
    struct stat facts;
    return !fstat(handle, &facts) && S_ISREG(facts.st_mode);
}

#define CALL(kind, result, name, parameters, arguments)                                                                \
    result name parameters {                                                                                           \
        static result (*real) parameters;                                                                              \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                                                     \
        return is_struck(kind) ? -1 : real arguments;                                                                  \
    }
#define OF_FILE(result, name, handle, parameters, arguments)                                                           \
    result name parameters {                                                                                           \
        static result (*real) parameters;                                                                              \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                                                     \
        return is_file(handle) && is_struck(SPACE) ? -1 : real arguments;                                              \
    }
#define OPEN(name, parameters, ...)                                                                                    \
    int name parameters {                                                                                              \
        static int (*real)();                                                                                          \
        if (!real) real = dlsym(RTLD_NEXT, #name);                                                                     \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        return flags & O_CREAT && is_struck(SPACE) ? -1 : real(__VA_ARGS__, flags, mode);                              \
    }

OPEN(open, (const char *path, int flags, ...), path)
OPEN(open64, (const char *path, int flags, ...), path)
OPEN(openat, (int folder, const char *path, int flags, ...), folder, path)
OPEN(openat64, (int folder, const char *path, int flags, ...), folder, path)
OF_FILE(ssize_t, write, handle, (int handle, const void *bytes, size_t size), (handle, bytes, size))
OF_FILE(ssize_t, copy_file_range, to, (int from, off_t *a, int to, off_t *b, size_t size, unsigned flags),
        (from, a, to, b, size, flags))
CALL(SPACE, int, ftruncate, (int handle, off_t size), (handle, size))
CALL(SPACE, int, ftruncate64, (int handle, off64_t size), (handle, size))
CALL(SPACE, int, mkdir, (const char *path, mode_t mode), (path, mode))
CALL(SPACE, int, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode))
CALL(SPACE, int, link, (const char *from, const char *to), (from, to))
CALL(SPACE, int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
CALL(SPACE, int, symlink, (const char *what, const char *path), (what, path))
CALL(SPACE, int, symlinkat, (const char *what, int folder, const char *path), (what, folder, path))
CALL(NAME, int, rename, (const char *from, const char *to), (from, to))
CALL(NAME, int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
CALL(NAME, int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
CALL(NAME, int, unlink, (const char *path), (path))
CALL(NAME, int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags))
CALL(NAME, int, rmdir, (const char *path), (path))
CALL(SYNC, int, fsync, (int handle), (handle))
CALL(SYNC, int, fdatasync, (int handle), (handle))
CALL(SYNC, int, syncfs, (int handle), (handle))
