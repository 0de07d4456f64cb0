#!/bin/sh
# nginx's own commands with what they need around them. $0 is the function to run, and the arguments are its own.

# $1: candidate, $2: the live link, $3: the master's pid or 0; the rest is nginx's argv.
# Tests the configuration with the candidate mounted over the live link. The mount exists for this command only, so the live files
# stay as they are. An nginx in a sandbox of its own (PrivateTmp, say) is tested inside that sandbox.
test_mounted() {
  candidate=$1 live=$2 pid=$3
  shift 3
  enter=
  if [ "$pid" != 0 ] && [ "$(readlink "/proc/$pid/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]; then
    enter="nsenter -t $pid -m --"
  fi
  export NO_MOUNT
  # shellcheck disable=SC2016,SC2086  # the inner shell expands it; $enter is several words, or none
  exec $enter unshare -m --propagation private sh -c '
    mount --bind "$1" "$2/" || exit "$NO_MOUNT"
    shift 2
    exec "$@"' sh "$candidate" "$live" "$@"
}

# $1: the upswitch folder, $2: live generation, $3: candidate; the rest is nginx's argv. Points the live link at the candidate for
# the test and puts it back whatever happens, unless somebody (a repair) has moved it meanwhile.
test_swapped() {
  cd "$1" || exit "$NO_FOLDER"
  live=$2 candidate=$3
  shift 3
  [ "$(readlink live)" = "generations/$live" ] || exit "$CHANGED"
  trap '[ "$(readlink live)" != "generations/$candidate" ] || point "$live" || exit "$UNSYNCED"' EXIT
  trap 'exit 143' HUP INT TERM
  point "$candidate" || exit "$NOT_DONE"
  "$@"
}

point() {
  rm -f .live.tmp && ln -s "generations/$1" .live.tmp && mv -fT .live.tmp live && sync .
}

# $1: a configuration; the rest is nginx's argv up to -c. Tests it in a folder of its own.
test_alone() {
  configure "$1"
  shift
  "$@" -p "$temp/" -c "$temp/nginx.conf"
}

# The same for an nginx whose version is not known yet. It never passes, so nginx opens and makes nothing.
probe_check() {
  configure "$1"
  shift
  (dump timeout -s KILL 15 "$@" -p "$temp/" -c "$temp/nginx.conf")
}

configure() {
  temp=$(mktemp -d) || exit "$NO_FOLDER"
  trap 'rm -rf "$temp"' EXIT
  printf '%s' "$1" > "$temp/nginx.conf"
}

# An argv of nginx with `-e stderr` in it. nginx before 1.19.5 refuses that option and does nothing: it is run again without.
# Its error output is read up to its own end: a process that it leaves behind may hold that open for ever.
dump() {
  { err=$({ "$@" 2>&1 >&3 3>&-; printf '\nend %s\n' "$?"; } | sed '/^end [0-9]*$/q'); } 3>&1
  code=${err##*end } err=${err%?end *}
  case $err in *'invalid option: "e"'*) ;; *) printf '%s\n' "$err" >&2; exit "$code" ;; esac
  for word; do
    shift
    case $word in -e | stderr) ;; *) set -- "$@" "$word" ;; esac
  done
  exec "$@"
}

# $1: the start of a process in clock ticks since boot. Prints that time and now as nginx writes them, in the same time zone.
# The first is a second early, as both clocks are cut to seconds.
started() {
  hz=$(getconf CLK_TCK) && boot=$(sed -n 's/^btime //p' /proc/stat) || exit "$NO_FOLDER"
  printf '%s - ' "$(date -d "@$((boot + $1 / hz - 1))" '+%Y/%m/%d %H:%M:%S')"
  date '+%Y/%m/%d %H:%M:%S'
}

# $1: the drain flag, $2: a token, $3: tenths of a second. Makes the flag, in a folder that nginx's workers can read. The flag holds a
# line for each run that wants it: several sites on one nginx share it, since a reload closes the idle connections of all of them. A
# process in the background lowers it for this token after that time, and ends as soon as the token is gone.
raise_flag() {
  umask 022
  mkdir -p "${1%/*}" || exit "$NO_FOLDER"
  lock_flag "$1" || exit "$NOT_DONE"
  [ -z "$(tail -c 1 "$1" 2>/dev/null)" ] || echo >> "$1" || exit "$NOT_DONE"
  printf '%s\n' "$2" >> "$1" || exit "$NOT_DONE"
  exec 9>&-
  (
    trap '' HUP
    n=0
    while grep -qF "$2" "$1" && [ "$n" -lt "$3" ]; do sleep 0.1; n=$((n + 1)); done
    lower_flag "$1" "$2"
  ) </dev/null >/dev/null 2>&1 &
}

# $1: the drain flag, $2: a token, or the beginning of several. Removes the flag where no other run wants it.
lower_flag() {
  [ -e "$1" ] || return 0
  umask 022
  lock_flag "$1" || exit "$NOT_DONE"
  others=$(grep -vF "$2" "$1" | grep .)
  if [ -z "$others" ]; then rm -f "$1"; else printf '%s\n' "$others" > "$1"; fi || exit "$NOT_DONE"
  exec 9>&-
}

# Without flock or a place for the lock it goes on: a flag that is raised for too long costs less than none.
lock_flag() {
  command exec 9>> "$1.lock" || return 0
  flock -w 5 9 2>/dev/null || :
}

"$0" "$@"
