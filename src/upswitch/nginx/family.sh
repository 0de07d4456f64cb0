#!/bin/sh
# Prints what /proc says about the process $1 and its children: `PATH:TEXT` lines. One fork where /proc has `children`.
m=$1
read -r kids 2>/dev/null < "/proc/$m/task/$m/children" ||
  [ -e "/proc/$m/task/$m/children" ] ||
  kids=$(grep -l "^PPid:[[:space:]]*$m$" /proc/[0-9]*/status 2>/dev/null | tr -dc '0-9\n')
set --
for p in $m $kids; do set -- "$@" "/proc/$p/stat" "/proc/$p/cmdline"; done
grep -aH "" "$@" 2>/dev/null | tr '\0' ' '
exit 0
