#!/bin/bash
# Looks at what comes of a reload. $1: the master, $2 and $3: the marker's IP and port, $4: the error log or "", $5 and $6: its inode
# and size before the reload, $7: the children before it, each with a space on both sides. Every 20 ms the processes, five answers of
# the marker and what is new in the log, with no process of its own for any of it; until nothing has changed for a while, or for
# 0.3 s. Each line begins with a word or a path of ours. NOT_THERE where this kernel does not list the children of a process.
exec 2>/dev/null
m=$1 ip=$2 port=$3 log=$4 inode=$5 size=$6 before=$7
[ -e "/proc/$m/task/$m/children" ] || [ ! -e "/proc/$m" ] || exit "$NOT_THERE"
exec {never}<> <(:)
lines=
if [ -f "$log" ] && exec {lines}<"$log"; then
  read -r i s <<<"$(stat -L -c '%i %s' "/dev/fd/$lines")"
  [ "$i" = "$inode" ] && [ "$s" -ge "$size" ] || size=0
  dd bs=1 skip="$size" count=0 status=none <&"$lines"
fi

family() {
  local kids='' p stat title
  old=0 new=0 other=0
  read -r kids < "/proc/$m/task/$m/children"
  for p in $m $kids; do
    title=
    read -r stat < "/proc/$p/stat" || continue
    IFS= read -r -d '' title < "/proc/$p/cmdline"
    printf '/proc/%s/stat:%s\n/proc/%s/cmdline:%s\n' "$p" "$stat" "$p" "${title%%$'\n'*}"
    case $title in
      'nginx: worker process is shutting down'*) ;;
      'nginx: worker process'*) case $before in *" $p "*) old=1 ;; *) new=1 ;; esac ;;
      'nginx: master process'*) [ "$p" = "$m" ] || other=1 ;;
    esac
  done
}

ask() {
  local status='' line='' last=''
  {
    printf 'GET / HTTP/1.0\r\nHost: upswitch\r\n\r\n' >&3
    IFS= read -r -t 1 status <&3
    for _ in {1..50}; do
      IFS= read -r -t 1 line <&3 || break
      last=$line
    done
  } 3<>"/dev/tcp/$ip/$port"
  case $status in 'HTTP/1.'[01]' 200 '*) printf 'mark %s\n' "$last" ;; *) return 1 ;; esac
}

news() {
  local line
  while IFS= read -r line <&"$lines"; do
    line=$part$line part=
    case $line in *'[emerg]'* | *'[alert]'*) printf 'log %s\n' "$line" ;; esac
  done
  part=$part$line
}

part='' since='' began=''
while :; do
  read -r up rest < /proc/uptime
  now=${up/./}
  printf 'sample %s\n' "$up"
  family
  for _ in 1 2 3 4 5; do ask || break; done
  [ -z "$lines" ] || news
  [ "$old$new$other" = 010 ] && since=${since:-$now} || since=
  [ -z "$since" ] || [ $((now - since)) -lt 12 ] || break
  [ $((now - ${began:=$now})) -lt 30 ] || break
  read -r -t 0.02 -u "$never"
done
exit 0
