# An ordinary user: without a group that was handed over there are no limits, and that is said; with one there are.
. /check.sh

mkdir /tmp/ada && chown 1000:1000 /tmp/ada
# as GROUP WORDS…: as Ada, from that group.
as() {
    group=$1; shift
    sh -c 'echo $$ >"$0/cgroup.procs"; exec su ada -c "XDG_RUNTIME_DIR=/tmp/ada $*"' "$cg/$group" "$@"
}
is "without limits it runs without a group" "$(as . wherry oci run --bundle /bundles/rootless rootless)" "0::/"
fails "with a limit it is refused" "delegated group" as . wherry oci run --bundle /bundles/rootless-limited rootless
is "nothing of it is left" "$(as . wherry oci list --quiet)" ""

mkdir $cg/ada $cg/ada/session
for controller in memory pids; do
    echo "+$controller" >$cg/cgroup.subtree_control
    echo "+$controller" >$cg/ada/cgroup.subtree_control
done
chown -R 1000:1000 $cg/ada
is "in a group of her own a limit holds" "$(as ada/session wherry oci run --bundle /bundles/rootless-delegated delegated)" 17
is "nothing of it is left there" "$(ls -d $cg/ada/*/)" "$cg/ada/session/"
rmdir $cg/ada/session $cg/ada
