# What cases say and how they look, to be sourced:  theme=$1; . /check.sh
# Each check is one line, `ok THEME: what` or `not ok THEME: what: what was seen`.
theme=$1
cg=/sys/fs/cgroup

ok() { echo "ok $theme: $1"; }
not_ok() { echo "not ok $theme: $1: $2"; }

# is WHAT SEEN WANTED
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$2', not '$3'"; fi; }

# has WHAT SEEN PATTERN: a pattern of the shell, anywhere
has() { case $2 in *$3*) ok "$1" ;; *) not_ok "$1" "'$2', without '$3'" ;; esac; }

# holds WHAT COMMAND…; what it says goes to a file, for a process that stays behind would keep a pipe open.
said=/tmp/said.$theme
holds() {
    what=$1; shift
    if "$@" >"$said" 2>&1; then ok "$what"; else not_ok "$what" "$* failed ($?): $(cat "$said")"; fi
}

# fails WHAT PATTERN COMMAND…: its words must be those of the pattern
fails() {
    what=$1 pattern=$2; shift 2
    if "$@" >"$said" 2>&1; then not_ok "$what" "$* succeeded: $(cat "$said")"; else has "$what" "$(cat "$said")" "$pattern"; fi
}

# eventually WHAT COMMAND…: for what nobody announces
eventually() {
    what=$1; shift
    for _ in $(seq 500); do
        if "$@" >/dev/null 2>&1; then ok "$what"; return; fi
        usleep 20000
    done
    not_ok "$what" "not within ten seconds: $*"
}

oci() { wherry oci "$@"; }

# create NAME [OPTION…]: makes the container of the bundle of that name; its output is in a file.
create() {
    name=$1; shift
    oci create "$@" --bundle "/bundles/$name" "$name" >"/tmp/$name.out" 2>&1 </dev/null || { cat "/tmp/$name.out"; return 1; }
}
start() { holds "$1 is created" create "$1" && holds "$1 starts" oci start "$1"; }
field() { oci state "$1" | sed -n "s/^ *\"$2\": \"*\([^\",]*\)\"*,*$/\1/p"; }
status() { field "$1" status; }
status_is() { [ "$(status "$1")" = "$2" ]; }
contains() { grep -q "$2" "$1"; }


# A control file of the container's group, and one line of such a file.
control() { cat "$cg/wherry/$1/$2"; }
count() { sed -n "s/^$3 //p" "$cg/wherry/$1/$2"; }
more_than() { [ "$(count "$1" "$2" "$3")" -gt "$4" ]; }

# gone NAME: deletes the container, of which nothing may stay.
gone() {
    holds "$1 is deleted" oci delete --force "$1"
    is "no group of $1 is left" "$(find $cg -name "$1")" ""
    fails "$1 is unknown then" "does not exist" oci state "$1"
}
