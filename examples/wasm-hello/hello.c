// The Wasm example: a WASI preview-1 command. It says what it was given, and leaves with the code it is asked for.
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    printf("hello from WebAssembly\narguments:");
    for (int i = 1; i < argc; i++)
        printf(" %s", argv[i]);
    printf("\n");
    fprintf(stderr, "this line went to standard error\n");
    const char *code = getenv("EXIT_CODE");
    return code ? atoi(code) : 0;
}
