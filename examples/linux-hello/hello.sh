#!/bin/sh
# The entry point of the Linux example: says where it runs, and leaves with the code it is asked for.
echo "hello from Linux: I am process $$ on $(uname -m), user $(id -un), host $(hostname)"
echo "arguments: $*"
echo "this line went to standard error" >&2
exit "${EXIT_CODE:-0}"
