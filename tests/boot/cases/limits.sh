# linux.resources: what of it is in the group's files, before the program starts, and after an update.
. /check.sh

holds "it is created" create limits
is "memory.limit" "$(control limits memory.max)" $((64 << 20))
is "memory.reservation" "$(control limits memory.low)" $((32 << 20))
is "memory.swap is without the memory" "$(control limits memory.swap.max)" $((16 << 20))
is "pids.limit" "$(control limits pids.max)" 23
is "cpu.quota and period" "$(control limits cpu.max)" "20000 50000"
is "cpu.shares become a weight" "$(control limits cpu.weight)" 59
is "cpu.idle stays" "$(control limits cpu.idle)" 0
is "cpu.cpus" "$(control limits cpuset.cpus)" 1
is "cpu.mems" "$(control limits cpuset.mems)" 0
has "blockIO.throttle" "$(control limits io.max)" "7:0 rbps=1048576 wbps=524288 riops=100 wiops=max"
is "unified, a plain file" "$(control limits memory.high)" $((48 << 20))
is "unified, of the core" "$(control limits cgroup.max.depth)" 3
has "unified, of a device" "$(control limits io.max)" "7:1 rbps=max wbps=max riops=max wiops=55"
holds "it starts" oci start limits
is "it runs on its processor only" "$(oci exec limits grep Cpus_allowed_list /proc/self/status | tr -d '\t')" \
    "Cpus_allowed_list:1"

holds "update by options" oci update --memory 40m --memory-reservation 8m --pids-limit 31 --cpu-quota 30000 \
    --cpu-share 2048 --cpuset-cpus 0-1 limits
is "update: memory" "$(control limits memory.max)" $((40 << 20))
is "update: reservation" "$(control limits memory.low)" $((8 << 20))
is "update: pids" "$(control limits pids.max)" 31
is "update: the quota changes and the period stays" "$(control limits cpu.max)" "30000 50000"
is "update: shares" "$(control limits cpu.weight)" 174
is "update: cpus" "$(control limits cpuset.cpus)" 0-1
is "update: the program runs on both then" "$(oci exec limits grep Cpus_allowed_list /proc/self/status | tr -d '\t')" \
    "Cpus_allowed_list:0-1"
echo '{"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}, "unified": {"memory.high": "max"}}' >/tmp/more.json
holds "update by a file" oci update --resources /tmp/more.json limits
is "update: no limit of memory" "$(control limits memory.max)" max
is "update: no limit of pids" "$(control limits pids.max)" max
is "update: unified" "$(control limits memory.high)" max
fails "what the kernel refuses is told with the file" "cpuset.cpus" oci update --cpuset-cpus 77 limits
gone limits

fails "a unified file that is not there is told" "memory.no_such_file" create unknown
is "and leaves no group" "$(find $cg -name unknown)" ""
fails "a controller that no kernel has is told" "net_cls" create netcls
is "and leaves no group either" "$(find $cg -name netcls)" ""
