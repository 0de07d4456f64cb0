#!/bin/sh
# The dead-man's watcher on the nginx host. $1: the run's folder; deadman.sh has put its orders, its two programs and room for its
# words there. Once a second it reads the lease. When that has run out it takes the lock, renames `armed` to `fired`, and rolls the
# switch back. A `repair` that holds the lock disarms first; a frozen holder keeps the lock for ever, so it is waited for some
# seconds only. Its words are fixed ones, numbers and generations of this run: no byte of a stranger gets into the journal's JSON.
# Descriptor 9 is the lock's; what may outlive the watcher must not get it.

# $1: a pid. `ticks` becomes its start, `letter` its state.
ticks() {
  stat='' ticks='' letter=''
  read -r stat 2>/dev/null < "/proc/$1/stat" || return 1
  # shellcheck disable=SC2086  # the fields of /proc/PID/stat
  set -- ${stat##*) }
  letter=$1 ticks=${20}
}

cd "$1" || exit "$NO_FOLDER"
run=${PWD##*/} state=../..
set --
while IFS= read -r line; do set -- "$@" "$line"; done < armed
[ $# -gt 15 ] || exit 0
export PATH="$1"
dir=$2 to=$3 back=$4 base=$5 expect=$6 marker=$7 pid_file=$8 master=$9
shift 9
start_of_master=$1 grace=$2 poll=$3 lock_wait=$4 proof=$5 servers=$6
shift 6

# A number as we write them; a leading zero would be octal, and ten digits may be too many for sh.
is_number() {
  case $1 in '' | *[!0-9]* | 0?* | ??????????*) return 1 ;; esac
}

clock() {
  read -r now rest < /proc/uptime
  now=${now%.*}
}

# A lease that can't be read, or claims more than ten minutes (an earlier boot's), counts as the one at our start and ten seconds.
read_lease() {
  lease=
  clock
  [ -f "$state/lease" ] && read -r lease < "$state/lease"
  is_number "$lease" && [ "$lease" -le $((now + 600)) ]
}

is_leased() {
  read_lease || lease=$fallback
  [ $((now - grace)) -le "$lease" ]
}

say_up() {
  ticks $$ && printf '%s %s\n' $$ "$ticks" 1<>up
}

# In place, so that a full disk has room for it.
raise_epoch() {
  epoch=
  [ -f "$state/epoch" ] && read -r epoch < "$state/epoch"
  is_number "$epoch" || epoch=$first_epoch
  epoch=$((epoch + 1))
  printf '%s\n' "$epoch" | dd of="$state/epoch" oflag=nofollow conv=notrunc,fsync status=none &&
    truncate -s $((${#epoch} + 1)) "$state/epoch"
}

# live: what the link names, "" where that is none of this run's generations.
is_ours() {
  live=$(readlink "$dir/live")
  case $live in generations/?*) live=${live#generations/} ;; *) live= ;; esac
  case " $to $back $base $expect " in *" $live "*) [ -n "$live" ] ;; *) live= && false ;; esac
}

# answer: the generation that nginx's marker gives where it is one of this run's; else our own words.
ask() {
  answer='not asked' reply='' host=${marker%:*}
  host=${host#"["}
  if command -v bash; then
    answer=nothing
    # shellcheck disable=SC2016  # for bash
    reply=$(timeout -k 1 2 bash -c '
      exec 3<>"/dev/tcp/$1/$2" && printf "GET / HTTP/1.0\r\nHost: upswitch\r\n\r\n" >&3 && head -c 4096 <&3
    ' bash "${host%"]"}" "${marker##*:}" </dev/null 9>&-)
  fi
  if [ -z "$reply" ] && command -v curl; then
    answer=nothing
    reply=$(curl -q -s -g -i -0 -m 2 --noproxy '*' -H 'Host: upswitch' "http://$marker/" </dev/null 9>&- | head -c 4096)
  fi
  case $reply in 'HTTP/1.'[01]' 200 '*) ;; *) return ;; esac
  reply=${reply##*"$return"}
  reply=${reply#?}
  reply=${reply%%[!A-Za-z0-9_-]*}
  case " $to $back $base $expect " in *" $reply "*) [ -z "$reply" ] || answer=$reply ;; *) answer='something else' ;; esac
}

# $1: an address, $2: the path of an http check or nothing, $3: the first digits of its good answers. 0: the server is alive.
# 1: it refuses or closes connections, 2: it answers 5xx or not in time, 3: it answers otherwise. nginx retries only a 1.
try() {
  path=$2 good=$3
  case $1 in
    unix:*) set -- --unix-socket "${1#unix:}" "http://localhost$path" ;;
    *)
      if command -v bash >/dev/null; then
        port=${1##*:} host=${1%:*}
        host=${host#"["}
        # shellcheck disable=SC2016  # for bash
        timeout -k 1 3 bash -c '
          exec 3<>"/dev/tcp/$1/$2" || exit 1
          [ -n "$3" ] || exit 0
          printf "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" "$3" "$1" >&3
          IFS= read -r -t 2 line <&3 || [ $? -lt 128 ] || exit 2
          case $line in
            "") exit 1 ;;
            HTTP/[0-9].[0-9]" "["$4"]*) exit 0 ;;
            HTTP/[0-9].[0-9]" 5"*) exit 2 ;;
          esac
          exit 3
        ' bash "${host%"]"}" "$port" "$path" "$good"
        code=$?
        case $code in 0 | 2 | 3) return "$code" ;; esac
        return 1
      fi
      set -- "http://$1$path"
      ;;
  esac
  command -v curl >/dev/null || return 0
  found=$(curl -q -s -g -o /dev/null -m 2 --noproxy '*' -w '%{time_connect} %{http_code}' "$@")
  code=$?
  case $found in '0 '??? | '0.000000 '???) return 1 ;; esac
  [ -n "$path" ] || return 0
  case $code.$found in
    28.*) return 2 ;;
    *' '["$good"]??) return 0 ;;
    *' 5'??) return 2 ;;
    *' 000') return 1 ;;
  esac
  return 3
}

# n: how many servers were seen so.
count() {
  n=0
  for each in $seen; do
    # shellcheck disable=SC2254  # a pattern
    case $each in $1) n=$((n + 1)) ;; esac
  done
}

# Whether no upstream of the way back is dead: no server of it is alive, or half answer wrongly and the new pool is healthier.
# counted: how many are alive where one is not.
has_way_back() {
  seen=$(
    for server in $servers; do
      (
        IFS=,
        # shellcheck disable=SC2086  # its five fields
        set -f -- $server
        try "$3" "$4" "$5" </dev/null >/dev/null 9>&-
        printf '%s,%s,%s ' "$1" "$2" $?
      ) &
    done
    wait
  )
  dead='' counted='' known=''
  for server in $servers; do
    name=${server#*,} name=${name%%,*}
    case $server,"$known" in new,* | *" $name "*) continue ;; esac
    known="$known $name "
    count "former,$name,*" && all=$n
    count "former,$name,0" && alive=$n
    count "former,$name,[23]" && wrong=$n
    count "former,$name,3" && odd=$n
    count "new,$name,*" && new=$n
    count "new,$name,0" && healthy=$n
    [ "$alive" = "$all" ] ||
      counted="$counted; $name: $alive of $all servers of the former pool are alive, $healthy of $new of the new pool"
    if [ $((alive + odd)) = 0 ] || { [ $((2 * wrong)) -ge "$all" ] && [ $((healthy * all)) -gt $((alive * new)) ]; }; then
      dead=yes
    fi
  done
  [ -z "$dead" ]
}

# $1: a pid. why: the reason that it may not be signalled; a stale pid file names an innocent process.
is_master() {
  why="the nginx master $1 is gone" title=
  ticks "$1" || return
  IFS= read -r title < "/proc/$1/cmdline"
  case $letter in Z | X) why="the nginx master $1 is dead" && return 1 ;; esac
  case $title in "nginx: master process"*) ;; *) why="process $1 is no nginx master" && return 1 ;; esac
  case $letter in T | t) why="the nginx master $1 is stopped" && return 1 ;; esac
}

find_master() {
  named='' older=''
  [ -f "$pid_file" ] && read -r named < "$pid_file"
  [ -f "$pid_file.oldbin" ] && read -r older < "$pid_file.oldbin"
  if is_number "$older" && ticks "$older"; then
    why="a binary upgrade is under way" && return 1
  fi
  if is_number "$named"; then
    master=$named
  elif ticks "$master" && [ "$ticks" != "$start_of_master" ]; then
    why="the nginx master $master is gone" && return 1
  fi
  is_master "$master"
}

# workers: pid:start of each child of the master that has finished its start and is not shutting down.
find_workers() {
  workers='' kids='' family=/proc/$master/task/$master/children
  read -r kids < "$family" || [ -e "$family" ] ||
    kids=$(grep -l "^PPid:[[:space:]]*$master$" /proc/[0-9]*/status | tr -dc '0-9\n')
  for kid in $kids; do
    title=
    IFS= read -r title < "/proc/$kid/cmdline"
    case $title in
      "nginx: worker process is shutting down"*) ;;
      "nginx: worker process"*) ticks "$kid" && workers="$workers $kid:$ticks" ;;
    esac
  done
}

count_workers() {
  find_workers
  fresh=0 old=0
  for worker in $workers; do
    case " $before " in *" $worker "*) old=$((old + 1)) ;; *) fresh=$((fresh + 1)) ;; esac
  done
}

point() {
  target=$back
  [ -r "$dir/generations/$back/marker.conf" ] || target=$base
  [ "$live" != "$target" ] || return 0
  /bin/sh ./swap "$dir" "$live" "$target"
  code=$?
  case $code in 0 | "$UNSYNCED") return 0 ;; esac
  result=failed said="the live link could not be moved to $target (code $code)"
  return 1
}

prove() {
  clock
  until=$((now + proof))
  while clock; do
    count_workers
    if [ "$old" = 0 ] && [ "$fresh" -gt 0 ]; then
      ask
      case $answer in
        "$target") result=ok && break ;;
        'not asked') break ;;
      esac
    fi
    [ "$now" -lt "$until" ] || { ask && break; }
    sleep 0.1
  done
  said="the live link points to $target; $fresh new and $old old workers accept requests; nginx reports $answer"
  [ "$answer" != 'not asked' ] || said="${said%reports*}was not asked: there is no bash and no curl"
}

# $@: the reload command.
restore() {
  if ! is_ours; then
    result=failed said="the live link points to no generation of this run: it was left alone"
    return
  fi
  ask
  if [ "$live" != "$to" ] && [ "$answer" = "$live" ]; then
    result=ok said="nothing had to be restored: nginx reports $live and the live link points to it"
    return
  fi
  if [ "$live" = "$to" ] && [ "$answer" = "$to" ]; then
    if ! has_way_back; then
      result=hold said="the former pool is dead$counted"
      return
    fi
    note="$note$counted"
  fi
  point || return
  if ! find_master; then
    result=failed said="the live link points to $target, but nginx was not reloaded: $why"
    return
  fi
  find_workers
  before=$workers
  timeout -k 1 30 "$@" </dev/null 9>&-
  code=$?
  case $code in
    0) ;;
    124 | 137) note="$note; the reload command did not end within 30 s" ;;
    *) note="$note; the reload command ended with $code" ;;
  esac
  prove
}

# A torn last line is cut off: what follows it would make it a bad line in the middle. A write that fails leaves nothing behind.
write_journal() {
  journal=$state/journal.jsonl
  [ ! -L "$journal" ] && { [ ! -e "$journal" ] || [ -f "$journal" ]; } || return 1
  if [ -s "$journal" ] && [ "$(tail -c 1 "$journal" | wc -l)" -eq 0 ]; then
    torn=$(tail -n 1 "$journal" | wc -c)
    truncate -s "-$torn" "$journal" || return 1
  fi
  size=$(stat -c %s "$journal" || echo 0)
  printf '%s\n' "$line" |
    dd of="$journal" bs=64k iflag=fullblock oflag=append,nofollow conv=notrunc,fsync status=none && return
  truncate -c -s "$size" "$journal"
  return 1
}

tell() {
  is_ours
  line=$(printf '{"kind":"fired","run":"%s","result":"%s","live":"%s","said":"%s","at":"%s"}' \
    "$run" "$result" "$live" "$said$note" "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)")
  printf '%s\n' "$line" | dd of=said conv=notrunc,fsync status=none
  write_journal
}

fire() {
  say_up
  sync .
  result=unknown said='' note=''
  if [ "$is_locked" = yes ]; then
    printf '{"user":"dead-man","host":"localhost","pid":%s,"since":"%s","reason":"rolls run %s back"}\n' \
      $$ "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" "$run" > "$state/lock"
  else
    note="; the process that armed it still holds the lock"
  fi
  raise_epoch || note="$note; the epoch could not be raised"
  restore "$@"
  tell
  mv -fT fired 'done'
  sync .
}

umask 077
return=$(printf '\r')
for fd in "/proc/$$/fd/"*; do
  # shellcheck disable=SC3013  # dash, busybox and bash have -ef
  if [ "$fd" -ef "$state/lock" ]; then exit "$LOCK_INHERITED"; fi
done
trap : HUP
read_lease && fallback=$((lease + 10)) || fallback=$((now + 10))
first_epoch=
[ -f "$state/epoch" ] && read -r first_epoch < "$state/epoch"
is_number "$first_epoch" || first_epoch=0
say_up || exit "$NOT_DONE"
while [ -e armed ]; do
  if is_leased; then
    sleep "$poll"
    continue
  fi
  is_locked=no
  command exec 9<>"$state/lock" && flock -w "$lock_wait" 9 && is_locked=yes
  if ! is_leased && mv -fT armed fired; then
    fire "$@"
    exit 0
  fi
  command exec 9>&-
  sleep "$poll"
done
exit 0
