/* A layer between a process and its files, put before the C library's by LD_PRELOAD.

   It counts the operations that change what is below one folder (the root), and at the k-th of them
   fails, stops the process, or stops it in the middle of a write. It can also write down every
   operation, so that whatever a loss of power may leave can be made from it. What is outside of the
   root, and every process but the one that called faults_begin, is let through. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#undef open
#undef open64
#undef creat

enum kind { CREATE = 1, WRITE, SYNC, RENAME, TRUNCATE, UNLINK, MKDIR, RMDIR, MARK };
enum action { NOTHING = 0, FAIL_ONCE, FAIL_ON, FULL, STOP, TEAR };

#define DESCRIPTORS 65536
#define KINDS 65536
#define STOPPED 77

/* Shared with the parent, which reads it when the process is gone. */
struct state {
    int64_t count;
    int32_t struck_kind;
    int32_t is_struck;
    char struck_path[1024];
    /* Of the first operations, by number. */
    uint8_t kinds[KINDS];
};

static struct state *state;
static char root[PATH_MAX];
static size_t root_length;
static pid_t owner;
static long long strike_at;
static enum action action;
static int error_number;
static int trace = -1;
static char *paths[DESCRIPTORS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = real(#name)

static ssize_t raw_write(int descriptor, const void *data, size_t size)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return real_write(descriptor, data, size);
}

static ssize_t raw_pwrite(int descriptor, const void *data, size_t size, off_t offset)
{
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return real_pwrite(descriptor, data, size, offset);
}

/* The absolute path, or NULL when it does not lie below the root. */
static const char *below(int folder, const char *path, char *buffer)
{
    if (!root_length || !path || owner != getpid()) return NULL;
    if (path[0] == '/') {
        snprintf(buffer, PATH_MAX, "%s", path);
    } else if (folder == AT_FDCWD) {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return NULL;
        snprintf(buffer, PATH_MAX, "%.2000s/%.2000s", here, path);
    } else if (folder >= 0 && folder < DESCRIPTORS && paths[folder]) {
        snprintf(buffer, PATH_MAX, "%.2000s/%.2000s", paths[folder], path);
    } else {
        return NULL;
    }
    if (strncmp(buffer, root, root_length) || (buffer[root_length] && buffer[root_length] != '/'))
        return NULL;
    return buffer;
}

static const char *of_descriptor(int descriptor)
{
    if (!root_length || owner != getpid() || descriptor < 0 || descriptor >= DESCRIPTORS)
        return NULL;
    return paths[descriptor];
}

static void put(const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t written = raw_write(trace, at, size);
        if (written <= 0) abort();
        at += written;
        size -= (size_t)written;
    }
}

static void record(enum kind kind, uint64_t inode, uint64_t offset, const char *path,
                   const char *other, const void *data, size_t size)
{
    if (trace < 0) return;
    path = path ? path : "";
    other = other ? other : "";
    uint64_t head[6] = {kind, inode, offset, strlen(path), strlen(other), size};
    put(head, sizeof head);
    put(path, strlen(path));
    put(other, strlen(other));
    if (data) put(data, size);
}

static uint64_t inode_of(int descriptor)
{
    struct stat found;
    return fstat(descriptor, &found) ? 0 : found.st_ino;
}

enum verdict { PROCEED, REFUSE, HALF, HALF_AND_STOP };

static int needs_space(enum kind kind)
{
    return kind == WRITE || kind == CREATE || kind == MKDIR;
}

/* Count one operation, under the mutex, and say what becomes of it. */
static enum verdict judge(enum kind kind, const char *path)
{
    int64_t number = state->count++;
    if (number < KINDS) state->kinds[number] = (uint8_t)kind;
    if (action == NOTHING || number < strike_at) return PROCEED;
    int is_first = number == strike_at;
    if (is_first) {
        state->struck_kind = (int32_t)kind;
        state->is_struck = 1;
        snprintf(state->struck_path, sizeof state->struck_path, "%s", path);
    }
    switch (action) {
    case STOP: _exit(STOPPED);
    case TEAR:
        if (kind != WRITE) _exit(STOPPED);
        return HALF_AND_STOP;
    case FAIL_ONCE: return is_first ? REFUSE : PROCEED;
    case FAIL_ON: return REFUSE;
    case FULL:
        if (!needs_space(kind)) return PROCEED;
        return is_first && kind == WRITE ? HALF : REFUSE;
    default: return PROCEED;
    }
}

static int refused(void)
{
    errno = error_number;
    return -1;
}

/* Called by the tests. */

void *faults_state(void)
{
    if (!state) {
        state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (state == MAP_FAILED) abort();
    }
    return state;
}

void faults_begin(const char *below_root, int trace_descriptor)
{
    faults_state();
    pthread_mutex_lock(&mutex);
    snprintf(root, sizeof root, "%s", below_root);
    root_length = strlen(root);
    owner = getpid();
    trace = trace_descriptor;
    action = NOTHING;
    memset(state, 0, sizeof *state);
    pthread_mutex_unlock(&mutex);
}

void faults_arm(long long at, int chosen_action, int chosen_error)
{
    pthread_mutex_lock(&mutex);
    strike_at = at;
    action = (enum action)chosen_action;
    error_number = chosen_error;
    pthread_mutex_unlock(&mutex);
}

void faults_mark(long long number)
{
    pthread_mutex_lock(&mutex);
    record(MARK, 0, (uint64_t)number, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&mutex);
}

/* Put in place of the C library's. */

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    REAL(int, openat, int, const char *, int, ...);
    char buffer[PATH_MAX];
    const char *known = below(folder, path, buffer);
    if (!known) return real_openat(folder, path, flags, mode);
    pthread_mutex_lock(&mutex);
    struct stat found;
    int is_there = !fstatat(folder, path, &found, 0);
    enum verdict verdict = PROCEED;
    int creates = (flags & O_CREAT) && !is_there;
    int empties = (flags & O_TRUNC) && is_there && found.st_size;
    if (creates) verdict = judge(CREATE, known);
    else if (empties) verdict = judge(TRUNCATE, known);
    int descriptor = verdict == REFUSE ? refused() : real_openat(folder, path, flags, mode);
    if (descriptor >= 0 && descriptor < DESCRIPTORS) {
        int saved = errno;
        free(paths[descriptor]);
        paths[descriptor] = strdup(known);
        if (creates) record(CREATE, inode_of(descriptor), 0, known, NULL, NULL, 0);
        if (empties) record(TRUNCATE, inode_of(descriptor), 0, known, NULL, NULL, 0);
        errno = saved;
    }
    pthread_mutex_unlock(&mutex);
    return descriptor;
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE_OF(flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE_OF(flags) return opened(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int descriptor)
{
    REAL(int, close, int);
    if (of_descriptor(descriptor)) {
        pthread_mutex_lock(&mutex);
        free(paths[descriptor]);
        paths[descriptor] = NULL;
        pthread_mutex_unlock(&mutex);
    }
    return real_close(descriptor);
}

static ssize_t written(int descriptor, const void *data, size_t size, off_t offset, int is_placed)
{
    const char *path = of_descriptor(descriptor);
    if (!path)
        return is_placed ? raw_pwrite(descriptor, data, size, offset)
                         : raw_write(descriptor, data, size);
    pthread_mutex_lock(&mutex);
    ssize_t result;
    enum verdict verdict = judge(WRITE, path);
    if (verdict == REFUSE) {
        result = refused();
    } else {
        off_t at = offset;
        if (!is_placed) {
            int is_appending = fcntl(descriptor, F_GETFL) & O_APPEND;
            at = lseek(descriptor, 0, is_appending ? SEEK_END : SEEK_CUR);
        }
        size_t allowed = verdict == PROCEED ? size : size / 2;
        if (verdict == HALF && !allowed) {
            result = refused();
        } else {
            result = is_placed ? raw_pwrite(descriptor, data, allowed, offset)
                               : raw_write(descriptor, data, allowed);
            if (verdict == HALF_AND_STOP) _exit(STOPPED);
            if (result > 0) {
                int saved = errno;
                record(WRITE, inode_of(descriptor), (uint64_t)at, NULL, NULL, data, (size_t)result);
                errno = saved;
            }
        }
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

ssize_t write(int descriptor, const void *data, size_t size) { return written(descriptor, data, size, 0, 0); }
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) { return written(descriptor, data, size, offset, 1); }
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) { return written(descriptor, data, size, offset, 1); }

static ssize_t gathered(int descriptor, const struct iovec *parts, int count, off_t offset, int is_placed)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    char *data = malloc(size + 1), *at = data;
    if (!data) abort();
    for (int i = 0; i < count; i++) at = mempcpy(at, parts[i].iov_base, parts[i].iov_len);
    ssize_t result = written(descriptor, data, size, offset, is_placed);
    free(data);
    return result;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (!of_descriptor(descriptor)) return real_writev(descriptor, parts, count);
    return gathered(descriptor, parts, count, 0, 0);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset)
{
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    if (!of_descriptor(descriptor)) return real_pwritev(descriptor, parts, count, offset);
    return gathered(descriptor, parts, count, offset, 1);
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev(descriptor, parts, count, offset);
}

static int synced(int descriptor, int (*really)(int))
{
    const char *path = of_descriptor(descriptor);
    if (!path) return really(descriptor);
    pthread_mutex_lock(&mutex);
    int result;
    if (judge(SYNC, path) == REFUSE) {
        result = refused();
    } else {
        /* What was written is known from the trace: the disk need not be waited for. */
        record(SYNC, inode_of(descriptor), 0, NULL, NULL, NULL, 0);
        result = 0;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int fsync(int descriptor)
{
    REAL(int, fsync, int);
    return synced(descriptor, real_fsync);
}

int fdatasync(int descriptor)
{
    REAL(int, fdatasync, int);
    return synced(descriptor, real_fdatasync);
}

static int truncated(int descriptor, off_t size)
{
    REAL(int, ftruncate, int, off_t);
    const char *path = of_descriptor(descriptor);
    if (!path) return real_ftruncate(descriptor, size);
    pthread_mutex_lock(&mutex);
    int result;
    if (judge(TRUNCATE, path) == REFUSE) {
        result = refused();
    } else {
        result = real_ftruncate(descriptor, size);
        int saved = errno;
        if (!result) record(TRUNCATE, inode_of(descriptor), (uint64_t)size, NULL, NULL, NULL, 0);
        errno = saved;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return truncated(descriptor, size); }

/* Room that is allocated ahead is only asked for: without it a file is the same. */
int fallocate(int descriptor, int mode, off_t offset, off_t size)
{
    REAL(int, fallocate, int, int, off_t, off_t);
    if (!of_descriptor(descriptor)) return real_fallocate(descriptor, mode, offset, size);
    errno = EOPNOTSUPP;
    return -1;
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t size)
{
    return fallocate(descriptor, mode, offset, size);
}

static int renamed(int folder, const char *path, int new_folder, const char *new_path, unsigned flags)
{
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    char buffer[PATH_MAX], new_buffer[PATH_MAX];
    const char *known = below(folder, path, buffer);
    const char *new_known = below(new_folder, new_path, new_buffer);
    if (!known || !new_known) return real_renameat2(folder, path, new_folder, new_path, flags);
    pthread_mutex_lock(&mutex);
    int result;
    if (judge(RENAME, new_known) == REFUSE) {
        result = refused();
    } else {
        result = real_renameat2(folder, path, new_folder, new_path, flags);
        int saved = errno;
        if (!result) record(RENAME, 0, flags, known, new_known, NULL, 0);
        errno = saved;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int rename(const char *path, const char *new_path) { return renamed(AT_FDCWD, path, AT_FDCWD, new_path, 0); }
int renameat(int folder, const char *path, int new_folder, const char *new_path) { return renamed(folder, path, new_folder, new_path, 0); }
int renameat2(int folder, const char *path, int new_folder, const char *new_path, unsigned flags) { return renamed(folder, path, new_folder, new_path, flags); }

static int removed(int folder, const char *path, int flags)
{
    REAL(int, unlinkat, int, const char *, int);
    char buffer[PATH_MAX];
    const char *known = below(folder, path, buffer);
    struct stat found;
    /* Nothing to remove is no operation. */
    if (!known || fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW))
        return real_unlinkat(folder, path, flags);
    enum kind kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    pthread_mutex_lock(&mutex);
    int result;
    if (judge(kind, known) == REFUSE) {
        result = refused();
    } else {
        result = real_unlinkat(folder, path, flags);
        int saved = errno;
        if (!result) record(kind, 0, 0, known, NULL, NULL, 0);
        errno = saved;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path)
{
    struct stat found;
    int is_folder = !lstat(path, &found) && S_ISDIR(found.st_mode);
    return removed(AT_FDCWD, path, is_folder ? AT_REMOVEDIR : 0);
}

static int made(int folder, const char *path, mode_t mode)
{
    REAL(int, mkdirat, int, const char *, mode_t);
    char buffer[PATH_MAX];
    const char *known = below(folder, path, buffer);
    struct stat found;
    if (!known || !fstatat(folder, path, &found, 0)) return real_mkdirat(folder, path, mode);
    pthread_mutex_lock(&mutex);
    int result;
    if (judge(MKDIR, known) == REFUSE) {
        result = refused();
    } else {
        result = real_mkdirat(folder, path, mode);
        int saved = errno;
        if (!result && !fstatat(folder, path, &found, 0))
            record(MKDIR, found.st_ino, 0, known, NULL, NULL, 0);
        errno = saved;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return made(folder, path, mode); }
