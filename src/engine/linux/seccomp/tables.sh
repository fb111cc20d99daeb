#!/bin/sh
# Prints table.rs: every Linux syscall's name and its number on the architectures that this engine runs on.
# Source: the constants of the linux-raw-sys crate (bindgen over the kernel's own UAPI headers), which rustix
# brings into every Linux build, so nothing has to be downloaded. Usage, after `cargo fetch`:
#   sh src/engine/linux/seccomp/tables.sh > src/engine/linux/seccomp/table.rs
set -eu
crate=${1:-$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/linux-raw-sys-* | sort -V | tail -n 1)}
for arch in x86_64 x86 x32 arm aarch64; do
    sed -n "s/^pub const __\(ARM_\)\{0,1\}NR_\([a-z0-9_]*\): u32 = \([0-9]*\);.*/$arch \2 \3/p" "$crate/src/$arch/general.rs"
    # Newer than the crate's headers; all three have one number wherever they exist.
    echo "$arch listns 470"
    echo "$arch rseq_slice_yield 471"
    case $arch in x86_64 | x32) echo "$arch uprobe 336" ;; esac
done | LC_ALL=C sort -k2,2 | awk -v crate="$(basename "$crate")" '
function row(   line, i) {
    line = ""
    for (i = 1; i <= 5; i++) line = line (i > 1 ? ", " : "") (columns[i] in number ? number[columns[i]] : "NO")
    rows = rows "    (\"" name "\", [" line "]),\n"; count++
    delete number
}
BEGIN { split("x86_64 x86 x32 arm aarch64", columns, " ") }
$2 != name { if (name != "") row(); name = $2 }
{ number[$1] = $3 % 1073741824 }
END {
    row()
    print "//! Syscall names and numbers, sorted by name: data only."
    print "//!"
    print "//! Printed by `tables.sh` beside this file from the UAPI constants of the " crate " crate;"
    print "//! do not edit. The columns are those of [`super::abi::Abi`]; x32 numbers are without their high bit."
    print ""
    print "/// The syscall does not exist on that architecture."
    print "pub(super) const NO: u32 = u32::MAX;"
    print ""
    print "/// (name, numbers on x86_64, x86, x32, arm, aarch64)"
    print "pub(super) static SYSCALLS: [(&str, [u32; 5]); " count "] = ["
    printf "%s", rows
    print "];"
}'
