# create, start, state, kill, delete: what a container's life leaves in the unified hierarchy.
. /check.sh

is "this machine has the unified hierarchy only" "$(grep -c ' cgroup ' /proc/mounts)" 0
holds "it is created" create lifecycle
is "its status is created" "$(status lifecycle)" created
pid=$(field lifecycle pid)
is "it waits in its group" "$(cat $cg/wherry/lifecycle/cgroup.procs)" "$pid"
holds "it starts" oci start lifecycle
is "its status is running" "$(status lifecycle)" running
eventually "its program runs" contains /tmp/lifecycle.out ready
is "it is the same process in the same group" "$(cat /proc/$pid/cgroup)" "0::/wherry/lifecycle"
has "it is listed" "$(oci list)" "lifecycle"
has "its processes are listed" "$(oci ps --format json lifecycle)" "[$pid"
fails "it is not deleted while it runs" "" oci delete lifecycle
holds "it is sent a signal" oci kill lifecycle USR1
eventually "the signal arrives" contains /tmp/lifecycle.out "got USR1"
holds "it is killed" oci kill lifecycle KILL
eventually "its status is stopped" status_is lifecycle stopped
is "nobody is in its group" "$(cat $cg/wherry/lifecycle/cgroup.procs)" ""
holds "it is deleted without force" oci delete lifecycle
is "its group is gone" "$(ls -d $cg/wherry/lifecycle 2>&1 >/dev/null | wc -l)" 1
fails "it is unknown then" "does not exist" oci state lifecycle

fails "a program that is not there is told" "no-such-program" create missing
is "nothing is left of it" "$(find $cg -name missing)" ""
oci run --bundle /bundles/exit exit >/dev/null
is "run gives the program's exit status" $? 7
is "and leaves no group" "$(find $cg -name exit)" ""
