#!/bin/sh
# Arms, disarms and shows the dead-man of a host (deadman.py). $0 is the function to run, and the arguments are its own.
# $1 is always the state folder. `armed` has the watcher's orders, a value a line: no quoting (of ssh, of systemd) can change them.

# $1: a pid. `ticks` becomes its start, which tells a process from a later one with its number; `letter` becomes its state.
ticks() {
  stat='' ticks='' letter=''
  read -r stat 2>/dev/null < "/proc/$1/stat" || return 1
  # shellcheck disable=SC2086  # the fields of /proc/PID/stat
  set -- ${stat##*) }
  letter=$1 ticks=${20}
}

# $1: the folder of a run. Whether its watcher still runs. A dead one may stay in /proc for long, until init removes it.
lives() {
  pid='' start=''
  read -r pid start 2>/dev/null < "$1/up" && ticks "$pid" && [ "$ticks" = "$start" ] || return 1
  case $letter in Z | X) return 1 ;; esac
}

# $2: the run, $3: the program of the watcher, $4: the program that moves the live link. The rest are the watcher's orders, without
# the PATH. The run's folder appears complete or not at all. Who arms has the lock: another run's watcher is out of date, but one
# that acts now is left alone.
arm() {
  umask 077
  state=$1 run=$2 watcher=$3 swap=$4
  shift 4
  cd "$state" && mkdir -p deadman && cd deadman || exit "$NO_FOLDER"
  retire_others
  [ ! -e "$run" ] || { echo "run $run had a dead-man before" >&2; exit "$CHANGED"; }
  temp=.$run.tmp
  trap '[ ! -e "$temp" ] || rm -rf "$temp"' EXIT
  [ ! -e "$temp" ] || rm -rf "$temp"
  mkdir "$temp" || exit "$NOT_DONE"
  room=$newline
  while [ ${#room} -lt 1024 ]; do room=$room$room; done
  printf '%s' "$watcher" > "$temp/watcher" && printf '%s' "$swap" > "$temp/swap" &&
    { line "$PATH" && printf '\n' && printf '%s\n' "$@"; } > "$temp/armed" &&
    printf '%s' "$room" > "$temp/said" &&
    can_do "$temp/said" &&
    sync "$temp"/* "$temp" && mv -T "$temp" "$run" && sync . || exit "$NOT_DONE"
  start
}

newline='
'

# Whether this host's tools can do what the watcher will ask of them; busybox's can't. $1: a file.
can_do() {
  command -v setsid >/dev/null || { echo 'no setsid here' >&2; return 1; }
  flock -w 1 "$1" timeout -k 1 1 sleep 0 &&
    dd if=/dev/null of="$1" bs=64k iflag=fullblock oflag=append,nofollow conv=notrunc,fsync status=none &&
    truncate -c -s +0 "$1" && case $(date +%3N) in '' | *[!0-9]*) false ;; esac
}

# $1 as one line.
line() { case $1 in *"$newline"*) printf '%s' "$1" | tr '\n' ':' ;; *) printf '%s' "$1" ;; esac; }

# Ends what earlier runs left, and keeps the folders of the last four.
retire_others() {
  for old in */fired; do
    [ -e "$old" ] || continue
    lives "${old%/fired}" && { echo "the dead-man of run ${old%/fired} acts now" >&2; exit "$CHANGED"; }
    mv -fT "$old" "${old%fired}done"
  done
  for old in */armed; do
    [ ! -e "$old" ] || mv -fT "$old" "${old%armed}disarmed" || exit "$CHANGED"
  done
  kept=0
  # shellcheck disable=SC2012,SC2045  # by age; the names are those of runs
  for old in $(ls -1t); do
    [ -e "$old/disarmed" ] || [ -e "$old/done" ] || continue
    kept=$((kept + 1))
    [ "$kept" -lt 5 ] || rm -rf "./$old"
  done
}

# systemd gives the watcher a place outside of our session's slice, as a logout may kill what is in that. Else it gets a session
# of its own, and none of our files. Then waits until the watcher itself says that it runs.
start() {
  # shellcheck disable=SC2016  # for the shell that is started
  close='
for fd in /proc/$$/fd/*; do
  fd=${fd##*/}
  case $fd in 0|1|2) ;; [3-9]) eval "exec $fd>&-" ;; *) [ -z "$BASH_VERSION" ] || eval "exec $fd>&-" ;; esac
done
exec "$@"'
  by_systemd || {
    setsid "$(command -v bash || echo sh)" -c "$close" close /bin/sh "$PWD/$run/watcher" "$PWD/$run" \
      </dev/null >/dev/null 2>&1 &
  }
  tries=0
  until [ -s "$run/up" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || { mv -fT "$run/armed" "$run/disarmed"; exit "$NOT_UP"; }
    sleep 0.02
  done
}

by_systemd() {
  [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemd-run >/dev/null || return 1
  timeout -k 1 5 systemd-run --collect --quiet --no-ask-password --unit="upswitch-deadman-$run" \
    /bin/sh "$PWD/$run/watcher" "$PWD/$run" </dev/null >/dev/null 2>&1
}

# $2: the run, $3: whole seconds to wait for a watcher that acts. Where the run has no folder one is made: an arming that was cut
# off, and still comes, then finds the place taken.
disarm() {
  umask 077
  cd "$1" 2>/dev/null || exit 0
  if [ ! -e "deadman/$2" ]; then
    temp=deadman/.$2.off
    mkdir -p "$temp" && touch "$temp/disarmed" && mv -T "$temp" "deadman/$2"
    [ -e "deadman/$2" ] || exit 0
  fi
  cd "deadman/$2" || exit "$NO_FOLDER"
  mv -fT armed disarmed 2>/dev/null && { sync .; exit 0; }
  [ ! -e armed ] || exit "$NOT_DONE"
  [ ! -e disarmed ] || exit 0
  read -r now rest < /proc/uptime
  end=$((${now%.*} + $3))
  while [ -e fired ] && lives . && [ "${now%.*}" -lt "$end" ]; do
    sleep 0.1
    # shellcheck disable=SC2034  # the rest of the line
    read -r now rest < /proc/uptime
  done
  if [ -e fired ] && lives .; then exit "$ACTING"; fi
  [ ! -e fired ] || mv -fT fired 'done'
  head -n 1 said
  exit "$FIRED"
}

# Prints a line for each run that has a dead-man, the latest first: its mark, whether its watcher runs, the run, what it said.
look() {
  cd "$1/deadman" 2>/dev/null || exit 0
  # shellcheck disable=SC2012,SC2045  # by age; the names are those of runs
  for run in $(ls -1t); do
    for mark in armed fired 'done' disarmed; do
      [ -e "$run/$mark" ] || continue
      lives "$run" && alive=yes || alive=no
      printf '%s %s %s %s\n' "$mark" "$alive" "$run" "$(head -n 1 "$run/said" 2>/dev/null)"
      break
    done
  done
  exit 0
}

"$0" "$@"
