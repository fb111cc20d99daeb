# Without a pid namespace nobody dies with the first process: the group's kill finds them all, those who ran away too.
. /check.sh

start family
eventually "it has children" contains /tmp/family.out ready
is "they are three" "$(control family cgroup.procs | wc -l)" 3
children=$(control family cgroup.procs)
gone family
for child in $children; do
    is "process $child is gone" "$(sed -n 's/^State:.\([^ ]*\).*/\1/p' "/proc/$child/status" 2>/dev/null | grep -v Z)" ""
done

start family
eventually "it has children again" contains /tmp/family.out ready
holds "all of them are killed" oci kill --all family KILL
eventually "nobody is left" eval '[ -z "$(control family cgroup.procs)" ]'
holds "it is deleted without force" oci delete family
is "its group is gone" "$(find $cg -name family)" ""
