# In the kernel's first root, an initramfs, pivot_root(2) is refused: `--no-pivot` is the way to run there.
. /check.sh

is "this is the first root" "$(sed -n 's/ .*//p' /proc/mounts | head -1)" "rootfs"
fails "a container cannot pivot" "pivot_root" create plain
is "nothing of it is left" "$(find $cg -name plain)" ""
is "without it runs" "$(oci run --no-pivot --bundle /bundles/plain plain | head -2 | tr '\n' ' ')" "bin dev "
fails "and is gone" "does not exist" oci state plain
