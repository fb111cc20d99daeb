# exec: a further process begins in the container's group, wherever that has gone.
. /check.sh

start exec
holds "a process more is started" oci exec --detach --pid-file /tmp/exec.pid exec sleep 1000
is "it is in the container's group" "$(cat "/proc/$(cat /tmp/exec.pid)/cgroup")" "0::/wherry/exec"
is "it sees its group as the root" "$(oci exec exec cat /proc/self/cgroup)" "0::/"
is "both are counted" "$(control exec pids.current)" 2
gone exec
is "both are gone" "$(ls -d "/proc/$(cat /tmp/exec.pid)" 2>/dev/null)" ""

start nested
eventually "it has moved below its group" contains /tmp/nested.out moved
is "it is there" "$(cat "/proc/$(field nested pid)/cgroup")" "0::/wherry/nested/init"
is "the group has handed on its controllers" "$(control nested cgroup.subtree_control)" "pids"
holds "a process more is started beside it" oci exec --detach --pid-file /tmp/nested.pid nested sleep 1000
is "in the same group, for the other takes nobody" "$(cat "/proc/$(cat /tmp/nested.pid)/cgroup")" \
    "0::/wherry/nested/init"
holds "it is started in a group of choice" oci exec --cgroup other --detach --pid-file /tmp/other.pid nested sleep 1000
is "it is there" "$(cat "/proc/$(cat /tmp/other.pid)/cgroup")" "0::/wherry/nested/other"
holds "all of them are paused" oci pause nested
holds "and resumed" oci resume nested
gone nested
