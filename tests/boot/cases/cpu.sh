# A program that never rests is held back by cpu.max.
. /check.sh

start busy
eventually "it has been held back" more_than busy cpu.stat nr_throttled 2
has "events tells how often" "$(oci events --stats busy)" '"throttledPeriods":'
gone busy
