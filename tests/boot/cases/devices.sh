# Device rules are a program of the group: what it denies fails though the capability and the mode would do.
. /check.sh

start devices
inside() { oci exec devices "$@"; }
holds "a device that is allowed can be made" inside mknod /tmp/null c 1 3
holds "and opened" inside sh -c 'echo x >/tmp/null'
holds "one that is not can be made, as the runtimes have agreed" inside mknod /tmp/port c 1 4
fails "but not opened" "Operation not permitted" inside sh -c ': </tmp/port'
holds "one that may only be read can be opened to read" inside sh -c ': </dev/loop-control'
fails "but not to write" "Operation not permitted" inside sh -c ': >>/dev/loop-control'
holds "a block device of an allowed one's number can be made" inside mknod /tmp/block b 1 3
fails "but not opened, for it is another device" "Operation not permitted" inside sh -c ': </tmp/block'
holds "a terminal can be opened" inside sh -c ': </dev/ptmx'

holds "other limits change" oci update --pids-limit 50 devices
fails "and the rules stay" "Operation not permitted" inside sh -c ': </tmp/port'
gone devices
