// The Wasm guest of the stories: a command whose first argument says what to do.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int args(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        printf("%s\n", argv[i]);
    return 0;
}

static int env(void) {
    for (char **entry = environ; *entry; entry++)
        printf("%s\n", *entry);
    return 0;
}

// Standard input to standard output, to its end.
static int copy(FILE *from) {
    char buffer[4096];
    size_t length;
    while ((length = fread(buffer, 1, sizeof buffer, from)) > 0)
        fwrite(buffer, 1, length, stdout);
    return 0;
}

static int read_file(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return 1;
    }
    return copy(file);
}

static int write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file || fprintf(file, "%s\n", text) < 0 || fclose(file)) {
        perror(path);
        return 1;
    }
    return 0;
}

static int list(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        perror(path);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.')
            printf("%s\n", entry->d_name);
    return 0;
}

// Grows by megabytes until the host says no.
static int grow(void) {
    for (int megabytes = 0;; megabytes++) {
        char *more = malloc(1 << 20);
        if (!more) {
            printf("%d\n", megabytes);
            return 0;
        }
        memset(more, 1, 1 << 20);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "args";
    const char *first = argc > 2 ? argv[2] : "";
    if (!strcmp(what, "env"))
        return env();
    if (!strcmp(what, "exit"))
        return atoi(first);
    if (!strcmp(what, "cat"))
        return *first ? read_file(first) : copy(stdin);
    if (!strcmp(what, "write"))
        return write_file(first, argc > 3 ? argv[3] : "");
    if (!strcmp(what, "ls"))
        return list(*first ? first : "/");
    if (!strcmp(what, "both")) {
        printf("to standard output\n");
        fprintf(stderr, "to standard error\n");
        return 0;
    }
    if (!strcmp(what, "trap"))
        __builtin_trap();
    if (!strcmp(what, "grow"))
        return grow();
    if (!strcmp(what, "spin"))
        for (volatile unsigned long turns = 0;; turns++)
            ;
    if (!strcmp(what, "sleep")) {
        printf("asleep\n");
        fflush(stdout);
        sleep(atoi(first));
        return 0;
    }
    return args(argc, argv);
}
