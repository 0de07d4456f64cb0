#!/bin/sh
# Reloads a master process that was verified. $1: the pid file, $2: the pid that it must still name, $3: that process's start, $4: the
# error log or "", $5: the program that prints the processes (nginx/family.sh), $6: seconds. The rest is the reload command, which is
# killed after these seconds. It begins only where this is the very process that was verified and it can act on a signal (the rule is
# processes.problem). What was before is printed first: the processes, the log's inode and size, the time.

is_it() {
  named='' stat='' title='' older=none
  read -r named < "$1"
  read -r stat < "/proc/$2/stat"
  IFS= read -r title < "/proc/$2/cmdline"
  case $title in "nginx: master process"*) ;; *) return 1 ;; esac
  read -r older < "$1.oldbin"
  [ "$named" = "$2" ] && [ ! -e "/proc/$older/stat" ] || return 1
  start=$3
  # shellcheck disable=SC2086  # the fields of /proc/PID/stat
  set -- ${stat##*) }
  case $1 in [ZXTt]) return 1 ;; esac
  [ "${20}" = "$start" ]
} 2>/dev/null

is_it "$1" "$2" "$3" || exit "$CHANGED"
sh -c "$5" family "$2"
[ ! -f "$4" ] || printf 'log %s\n' "$(stat -L -c '%i %s' -- "$4" 2>/dev/null)"
seconds=$6
shift 6
# shellcheck disable=SC2034  # the rest of the line
read -r up rest < /proc/uptime
printf 'up %s\nreload\n' "$up"
# Only this shell keeps the lock (holds_lock): what the command leaves behind must not hold it.
(exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec timeout -s KILL "$seconds" "$@")
exit "$?"
