#!/bin/sh
# Who listens at addresses of this machine, since when, and what systemd, its journal and the kernel say of them.
# $1: a process in whose network to look ("" for ours). Then three words for each address: its port in hexadecimal (as in /proc/net)
# or the path of its socket, and when it failed first and last, as `date -d` reads times.
# Every line that is printed begins with a word of ours. All that is read is bounded.
LC_ALL=C
export LC_ALL
net=/proc/${1:-self}/net
shift
ports=' ' paths='
' from='' to=''
while [ $# -ge 3 ]; do
  case $1 in /*) paths="$paths$1
" ;; *) ports="$ports$1 " ;; esac
  began=$(date -d "$2" +%s 2>/dev/null) ended=$(date -d "$3" +%s 2>/dev/null)
  [ -n "$began" ] || began=$(date +%s)
  [ -n "$ended" ] || ended=$began
  echo "began $1 $began"
  [ -n "$from" ] && [ "$from" -le "$began" ] || from=$began
  [ -n "$to" ] && [ "$to" -ge "$ended" ] || to=$ended
  shift 3
done
[ ! -r "$net/tcp" ] || echo network
read -r up _ < /proc/uptime
now=$(date +%s.%N)
printf 'clock %s %s %s %s %s\n' "$now" "$up" "$(getconf CLK_TCK)" "$(date +%z)" "$(id -un)"
now=${now%.*} up=${up%.*}
awk '/\|-- / { ip = $2 } /\/32 host LOCAL/ && n++ < 512 { print "own", ip }' "$net/fib_trie" 2>/dev/null
awk 'n++ < 512 { print "own6", $1 }' "$net/if_inet6" 2>/dev/null

sockets=$(
  awk -v ports="$ports" '$4 == "0A" { split($2, a, ":"); if (index(ports, " " a[2] " ") && n++ < 64) print "tcp", $10, $2 }' \
    "$net/tcp" "$net/tcp6" 2>/dev/null
  paths=$paths awk '$4 == "00010000" {
    path = $0
    for (i = 0; i < 7; i++) sub(/^ *[^ ]+ /, "", path)
    if (index(ENVIRON["paths"], "\n" path "\n") && n++ < 64) print "unix", $7, path
  }' "$net/unix" 2>/dev/null
)
[ -z "$sockets" ] || printf '%s\n' "$sockets"
holders=
if [ -n "$sockets" ]; then
  # ls -b: the name of an open file may hold a line break.
  # shellcheck disable=SC2012
  holders=$(ls -lbU /proc/[0-9]*/fd 2>/dev/null | inodes=$(printf '%s\n' "$sockets" | cut -d' ' -f2) awk '
    BEGIN { split(ENVIRON["inodes"], each, "\n"); for (i in each) wanted["socket:[" each[i] "]"] = each[i] }
    /^\/proc\/[0-9]+\/fd:$/ { split($0, path, "/"); pid = path[3] }
    $NF in wanted && !((pid, $NF) in seen) && n++ < 256 { seen[pid, $NF]; print "holds", wanted[$NF], pid }')
  [ -z "$holders" ] || printf '%s\n' "$holders"
fi

unit_of() {
  unit=$(sed -n 's/^[0-9]*:\(name=systemd\)\{0,1\}:\(.*\/\)\{0,1\}\([A-Za-z0-9:_.\\@-]*\.service\)\(\/.*\)\{0,1\}$/\3/p' "/proc/$1/cgroup" 2>/dev/null |
    sed -n 1p)
  ! grep -q '/user@' "/proc/$1/cgroup" 2>/dev/null || unit=
}
units=
for pid in $(printf '%s\n' "$holders" | cut -d' ' -f3 | sort -nu | head -n 64); do
  printf 'stat %s\n' "$(tr '\n' ' ' 2>/dev/null < "/proc/$pid/stat")"
  printf 'command %s %s\n' "$pid" "$(head -c 4096 "/proc/$pid/cmdline" 2>/dev/null | tr '\0\n' '\037 ')"
  unit_of "$pid"
  [ -z "$unit" ] || echo "unit $pid $unit"
  case " $units " in *" $unit "*) ;; *) units="$units $unit" ;; esac
done
# shellcheck disable=SC2009
if [ -d /run/systemd/system ] && command -v systemctl >/dev/null; then
  failed=$(timeout 2 systemctl list-units --type=service --state=failed,auto-restart --plain --no-legend --no-pager 2>/dev/null |
    cut -d' ' -f1 | head -n 4)
  for unit in $failed; do
    echo "failed $unit"
    case " $units " in *" $unit "*) ;; *) units="$units $unit" ;; esac
  done
  for unit in $(printf '%s\n' "$units" | tr ' ' '\n' | sed '/^$/d' | head -n 6); do
    timeout 2 systemctl show -p ActiveState,SubState,NRestarts,Result,ExecMainStatus -- "$unit" 2>/dev/null |
      awk -v unit="$unit" '{ print "show", unit, $0 }'
    timeout 3 journalctl -q -a --no-pager -o short-unix -n 200 --since "@$((from - 5))" --until "@$((to + 3))" -u "$unit" 2>&1 |
      cut -c1-600 | awk -v unit="$unit" '{ print "line", unit, $0 }'
  done
fi

kernel=$(timeout 2 dmesg 2>&1) || {
  denied=$kernel
  ! command -v journalctl >/dev/null || kernel=$(timeout 3 journalctl -q -k -b -n 5000 -o short-monotonic --no-pager 2>/dev/null)
  [ "$kernel" != "$denied" ] || kernel=
}
if [ -n "$kernel" ]; then
  printf '%s\n' "$kernel" | awk -v since="$((from - 60 - now + up))" '
    /Killed process [0-9]|oom-kill:|segfault at |general protection|trap / {
      at = $0
      sub(/^\[ */, "", at)
      if (at + 0 >= since) print "kernel", substr($0, 1, 400)
    }' | tail -n 60
else
  printf 'unread %s\n' "$(printf '%s\n' "$denied" | head -n 1 | cut -c1-200)"
fi
exit 0
