# io.max holds back writing to a device: two megabytes at one a second.
. /check.sh

dd if=/dev/zero of=/tmp/disk bs=1M count=4 2>/dev/null
losetup /dev/loop0 /tmp/disk
start io
eventually "it has written all" contains /tmp/io.out "done"
took=$(sed -n 's/^done //p' /tmp/io.out)
is "not faster than it may" "$([ "${took:-0}" -ge 1 ] && echo slowly || cat /tmp/io.out)" slowly
has "the kernel has counted it" "$(control io io.stat)" "7:0 "
gone io
losetup -d /dev/loop0
