#!/bin/sh
# Prints the boot's id, or exits with LACKS and the names of the programs that this host lacks.
lacking=
for tool in awk dd flock grep sed sha256sum stat tar timeout; do
  command -v "$tool" >/dev/null || lacking="$lacking $tool"
done
# busybox has a dd and a flock too, but without the options that our programs use. A host with GNU's dd has GNU's other tools.
dd if=/dev/null of=/dev/null oflag=append,nofollow conv=notrunc status=none 2>/dev/null || lacking="$lacking coreutils"
flock --version >/dev/null 2>&1 || lacking="$lacking util-linux"
[ -z "$lacking" ] || { echo "$lacking"; exit "$LACKS"; }
exec cat /proc/sys/kernel/random/boot_id
