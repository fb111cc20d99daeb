# pause and resume: the whole group stands still, and dies all the same.
. /check.sh

start paused
eventually "it counts" contains /tmp/paused.out 3
holds "it is paused" oci pause paused
is "its status is paused" "$(status paused)" paused
is "its group is frozen" "$(count paused cgroup.events frozen)" 1
before=$(wc -c </tmp/paused.out)
usleep 300000
is "it does not count then" "$(wc -c </tmp/paused.out)" "$before"
fails "nothing is run in it" "" oci exec paused true
fails "it is not paused twice" "" oci pause paused
holds "it is resumed" oci resume paused
is "its status is running" "$(status paused)" running
is "its group is not frozen" "$(count paused cgroup.events frozen)" 0
longer() { [ "$(wc -c </tmp/paused.out)" -gt "$before" ]; }
eventually "it counts again" longer
holds "it is paused again" oci pause paused
holds "it is killed while it is paused" oci kill paused KILL
eventually "its status is stopped" status_is paused stopped
gone paused
