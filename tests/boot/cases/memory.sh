# An allocation above memory.max ends the process, and everybody who asks is told.
. /check.sh

start oom
oci events --interval 100ms oom >/tmp/events &
eventually "events shows statistics" contains /tmp/events '"stats"'
has "with the limit" "$(cat /tmp/events)" '"limit":16777216'
holds "it begins to eat" oci exec oom touch /tmp/go
eventually "the kernel has killed" more_than oom memory.events oom_kill 0
eventually "events tells of it" contains /tmp/events '"oom"'
eventually "only the eater has died" contains /tmp/oom.out "eater: 137"
is "the container runs on" "$(status oom)" running
has "what it used stayed below the limit" "$([ "$(control oom memory.peak 2>/dev/null || control oom memory.current)" -le 16777216 ] && echo below)" below
gone oom
wait

oci run --bundle /bundles/hungry hungry >/tmp/hungry.out
is "a program that eats is killed itself" $? 137
fails "and the container is gone" "does not exist" oci state hungry
