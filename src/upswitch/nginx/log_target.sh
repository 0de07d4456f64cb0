#!/bin/sh
# $1: nginx's master, "" where none runs. The others are paths of logs, which are never opened: to open a FIFO waits or steals lines.
# Prints four lines for each: the unit of the master where its log is a socket, what `stat` calls the log, the path that it leads to,
# and which of the master's streams it is, 1 or 2.
# A file keeps its own name over links, which rotation gives to the next file.
# nginx opens a path by itself: /dev/stdout, and /proc/self, are those of its master, not ours.
master=$1
shift
for path in "$@"; do
  name=$path kind='' unit='' stream='' links=0
  while [ "$links" -lt 40 ]; do
    links=$((links + 1))
    case $path in
      /dev/stdin) path=/proc/self/fd/0 ;;
      /dev/stdout) path=/proc/self/fd/1 ;;
      /dev/stderr) path=/proc/self/fd/2 ;;
      /dev/fd/*) path=/proc/self/fd/${path##*/} ;;
    esac
    case $path in /proc/self/fd/* | /proc/thread-self/fd/*) [ -n "$master" ] || kind=unknown; path=/proc/$master/fd/${path##*/} ;; esac
    case $path in /proc/*/fd/*) break ;; esac
    [ -L "$path" ] || break
    link=$(readlink -- "$path") || break
    case $link in /*) path=$link ;; *) path=${path%/*}/$link ;; esac
  done
  if [ -z "$kind" ]; then
    kind=$(LC_ALL=C stat -L -c %F -- "$path" 2>&1)
    case $kind in
      *': No such file or directory') kind=missing ;;
      *': Permission denied') kind=hidden ;;
      'regular '*) [ -r "$path" ] || kind=unreadable ;;
      socket) [ ! -S /run/systemd/journal/stdout ] || unit=$(sed -n 's|.*/\([^/]*\.service\)$|\1|p' "/proc/$master/cgroup" 2>/dev/null | head -n 1) ;;
    esac
  fi
  case $path in "/proc/$master/fd/"[12]) stream=${path##*/} ;; esac
  case $path in
    /proc/*/fd/*)
      real=$(readlink -- "$path") || real=
      case $kind in 'regular '*) [ "$real" -ef "$path" ] || kind=deleted ;; esac
      path=$real
      ;;
    *) case $kind in 'regular '*) path=$name ;; esac ;;
  esac
  printf '%s\n' "$unit" "$kind" "$path" "$stream"
done
