# What a container sees of the groups, and what it may change.
. /check.sh

start reader
inside() { oci exec reader "$@"; }
is "its group is the root" "$(inside cat /proc/self/cgroup)" "0::/"
has "a cgroup2 file system is mounted" "$(inside grep /sys/fs/cgroup /proc/mounts)" "/sys/fs/cgroup cgroup2 ro,"
is "it begins at its own group" "$(inside cat /sys/fs/cgroup/memory.max)" $((64 << 20))
fails "it cannot raise its limit" "Read-only file system" inside sh -c 'echo max >/sys/fs/cgroup/memory.max'
fails "it cannot make groups" "Read-only file system" inside mkdir /sys/fs/cgroup/below
gone reader

start writer
inside() { oci exec writer "$@"; }
has "a writable one is writable" "$(inside grep /sys/fs/cgroup /proc/mounts)" "/sys/fs/cgroup cgroup2 rw,"
holds "groups can be made" inside mkdir -p /sys/fs/cgroup/a/b
holds "and processes put there" inside sh -c 'echo $$ >/sys/fs/cgroup/a/b/cgroup.procs'
holds "also from there one leads down from the container's" test -d $cg/wherry/writer/a/b
gone writer

start host
has "without a namespace of its own it sees its path" "$(oci exec host cat /proc/self/cgroup)" "0::/wherry/host"
is "and finds its group below the machine's" "$(oci exec host cat /sys/fs/cgroup/wherry/host/pids.max)" 44
fails "which it cannot change either" "Read-only file system" \
    oci exec host sh -c 'echo max >/sys/fs/cgroup/wherry/host/pids.max'
gone host
