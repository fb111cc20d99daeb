# A bomb of forks ends at pids.max.
. /check.sh

start bomb
eventually "it cannot fork" contains /tmp/bomb.out "can't fork"
eventually "the kernel has refused" more_than bomb pids.events max 0
is "as many are there as may be" "$([ "$(control bomb pids.current)" -le 10 ] && echo "10 at most")" "10 at most"
is "events agrees" "$(oci events --stats bomb | grep -o '"limit":10')" '"limit":10'
gone bomb
