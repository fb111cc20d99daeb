// Does one thing that a test asks for by name, and says what came of it.
//
// File operations print "ok" or the name of the error. Everything goes through wasi-libc, so what is
// tested is what programs really call.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

extern char **environ;

static const char *name(int error) {
    switch (error) {
    case 0: return "ok";
    case EACCES: return "EACCES";
    case EBADF: return "EBADF";
    case EEXIST: return "EEXIST";
    case EINVAL: return "EINVAL";
    case EIO: return "EIO";
    case EISDIR: return "EISDIR";
    case ELOOP: return "ELOOP";
    case ENOENT: return "ENOENT";
    case ENOTCAPABLE: return "ENOTCAPABLE";
    case ENOTDIR: return "ENOTDIR";
    case ENOTEMPTY: return "ENOTEMPTY";
    case ENOTSUP: return "ENOTSUP";
    case EPERM: return "EPERM";
    case EPIPE: return "EPIPE";
    case EROFS: return "EROFS";
    case EXDEV: return "EXDEV";
    default: return strerror(error);
    }
}

static int say(int failed) {
    puts(failed < 0 ? name(errno) : "ok");
    return 0;
}

static int open_and_close(const char *path, int flags) {
    int fd = open(path, flags, 0666);
    return fd < 0 ? fd : close(fd);
}

// Writes through a descriptor that was opened for reading.
static int write_through_reader(const char *path) {
    int fd = open(path, O_RDONLY);
    return fd < 0 ? fd : (int)write(fd, "x", 1);
}

static int truncate_through_reader(const char *path) {
    int fd = open(path, O_RDONLY);
    return fd < 0 ? fd : ftruncate(fd, 0);
}

static int times_through_reader(const char *path) {
    struct timespec times[2] = {{1, 0}, {1, 0}};
    int fd = open(path, O_RDONLY);
    return fd < 0 ? fd : futimens(fd, times);
}

static int allocate_through_reader(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return fd;
    errno = posix_fallocate(fd, 0, 4096);
    return errno ? -1 : 0;
}

static int times(const char *path) {
    struct timespec times[2] = {{1, 0}, {1, 0}};
    return utimensat(AT_FDCWD, path, times, 0);
}

static int print_file(const char *path) {
    char buffer[4096];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return say(-1);
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) fwrite(buffer, 1, n, stdout);
    return 0;
}

static int write_file(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0666);
    if (fd < 0) return say(-1);
    return say(write(fd, text, strlen(text)) < 0 ? -1 : close(fd));
}

static int list(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return say(-1);
    for (struct dirent *entry; (entry = readdir(dir));) puts(entry->d_name);
    return 0;
}

static int read_link(const char *path) {
    char target[4096];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) return say(-1);
    target[n] = 0;
    puts(target);
    return 0;
}

// Copies standard input to standard output, byte for byte.
static int cat(void) {
    static char buffer[65536];
    for (ssize_t n; (n = read(0, buffer, sizeof buffer)) != 0;) {
        if (n < 0) return 1;
        for (ssize_t done = 0, m; done < n; done += m)
            if ((m = write(1, buffer + done, n - done)) < 0) return 1;
    }
    return 0;
}

// Writes until somebody stops it; the error goes to standard error.
static int flood(void) {
    static char buffer[65536];
    while (write(1, buffer, sizeof buffer) > 0) {}
    fprintf(stderr, "%s\n", name(errno));
    return 0;
}

static int wait_for_input(int milliseconds) {
    struct pollfd fd = {.fd = 0, .events = POLLIN};
    int n = poll(&fd, 1, milliseconds);
    puts(n < 0 ? name(errno) : n == 0 ? "timeout" : "ready");
    return 0;
}

__attribute__((noinline)) static int recurse(volatile int *depth) {
    if (*depth < 0) return 0;
    volatile int deeper = *depth + 1;
    return recurse(&deeper) + deeper;
}

// Memory in pages of 64 KiB; allocated and touched.
static int grow(size_t pages) {
    size_t before = __builtin_wasm_memory_grow(0, pages);
    if (before == (size_t)-1) {
        puts("refused");
        return 0;
    }
    memset((char *)(before << 16), 1, pages << 16);
    puts("grown");
    return 0;
}

// Tries every number as a descriptor; prints those that are open.
static int descriptors(void) {
    __wasi_fdstat_t stat;
    for (int fd = 0; fd < 4096; fd++)
        if (__wasi_fd_fdstat_get(fd, &stat) == 0) printf("%d\n", fd);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "hello";
    const char *a = argc > 2 ? argv[2] : "";
    const char *b = argc > 3 ? argv[3] : "";
#define WHEN(word) if (!strcmp(what, word))
    WHEN("hello") return puts("hello"), 0;
    WHEN("args") { for (int i = 0; i < argc; i++) puts(argv[i]); return 0; }
    WHEN("env") { for (char **e = environ; e && *e; e++) puts(*e); return 0; }
    WHEN("exit") exit(atoi(a));
    WHEN("return") return atoi(a);
    WHEN("both") { fputs("to stdout\n", stdout); fputs("to stderr\n", stderr); return 0; }
    WHEN("cat") return cat();
    WHEN("flood") return flood();
    WHEN("wait") return wait_for_input(atoi(a));
    WHEN("tty") { printf("%d%d%d\n", isatty(0), isatty(1), isatty(2)); return 0; }
    WHEN("abort") abort();
    WHEN("recurse") { volatile int depth = 0; return recurse(&depth); }
    WHEN("spin") { puts("spinning"); fflush(stdout); for (volatile int i = 0;; i++) {} }
    WHEN("sleep") { puts("sleeping"); fflush(stdout); sleep(1000); return 0; }
    WHEN("grow") return grow(atoi(a));
    WHEN("time") { printf("%d\n", time(NULL) > 1700000000); return 0; }
    WHEN("random") { unsigned char r[16]; getentropy(r, 16); for (int i = 0; i < 16; i++) printf("%02x", r[i]); puts(""); return 0; }
    WHEN("descriptors") return descriptors();
    WHEN("accept") return say(accept(atoi(a), NULL, NULL));
    WHEN("read") return print_file(a);
    WHEN("list") return list(a);
    WHEN("stat") { struct stat st; return say(stat(a, &st)); }
    WHEN("readlink") return read_link(a);
    WHEN("write") return write_file(a, b, O_TRUNC);
    WHEN("append") return write_file(a, b, O_APPEND);
    WHEN("open-read") return say(open_and_close(a, O_RDONLY));
    WHEN("open-write") return say(open_and_close(a, O_WRONLY));
    WHEN("open-both") return say(open_and_close(a, O_RDWR));
    WHEN("open-truncate") return say(open_and_close(a, O_RDONLY | O_TRUNC));
    WHEN("open-create") return say(open_and_close(a, O_RDONLY | O_CREAT));
    WHEN("open-directory") return say(open_and_close(a, O_RDONLY | O_DIRECTORY));
    WHEN("write-through-reader") return say(write_through_reader(a));
    WHEN("truncate-through-reader") return say(truncate_through_reader(a));
    WHEN("times-through-reader") return say(times_through_reader(a));
    WHEN("allocate-through-reader") return say(allocate_through_reader(a));
    WHEN("truncate") return say(truncate(a, 0));
    WHEN("times") return say(times(a));
    WHEN("mkdir") return say(mkdir(a, 0777));
    WHEN("rmdir") return say(rmdir(a));
    WHEN("unlink") return say(unlink(a));
    WHEN("rename") return say(rename(a, b));
    WHEN("link") return say(link(a, b));
    WHEN("symlink") return say(symlink(a, b));
    fprintf(stderr, "probe: nothing is called %s\n", what);
    return 99;
}
