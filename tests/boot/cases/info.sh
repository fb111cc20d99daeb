# What wherry says about this machine.
. /check.sh

has "info knows the version of the groups" "$(wherry info)" "CgroupVersion: 2"
has "features knows it too" "$(oci features)" '"v2": true'
