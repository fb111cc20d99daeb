# A group with processes of its own cannot hand controllers on: the kernel's rule, told in words.
. /check.sh

mkdir $cg/occupied
sleep 1000 &
echo $! >$cg/occupied/cgroup.procs
fails "a limit below it is refused" "occupied" create below
is "and leaves no group" "$(find $cg/occupied -mindepth 1 -type d)" ""
kill $!; wait $! 2>/dev/null
eventually "the group is empty" rmdir $cg/occupied

mkdir -p $cg/wherry/taken
sleep 1000 &
echo $! >$cg/wherry/taken/cgroup.procs
fails "a group that others use is not taken over" "taken" create taken
is "who was there is still there" "$(control taken cgroup.procs)" $!
kill $!; wait $! 2>/dev/null
holds "an empty one is" create taken
gone taken
