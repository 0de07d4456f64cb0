#!/bin/sh
# What is done in the upswitch folder. One function does a whole step, so that a host behind SSH costs one round trip.
# $0 is the function to run, and the arguments are its own. $1 is always the upswitch folder.

# Prints what is on disk: the live link, the generations, the hashes of the live files, the live manifest.
# A missing folder prints nothing. A name that can't be a generation's is left out: one with a line break would pass for a line.
look() {
  cd "$1" 2>/dev/null || exit 0
  printf 'live %s\n' "$(readlink live 2>/dev/null)"
  for folder in generations/*; do
    name=${folder#generations/}
    case $name in *[!A-Za-z0-9_-]*) continue ;; esac
    [ -d "$folder" ] && printf 'generation %s\n' "$name"
  done
  [ -e live/. ] && (cd live/ && hash_files | sed 's/^/sum /')
  [ -f live/manifest.json ] && [ -r live/manifest.json ] && { printf 'manifest '; tr -d '\n' < live/manifest.json; printf '\n'; }
  exit 0
}

hash_files() {
  for file in *.conf; do
    [ -e "$file" ] || [ -L "$file" ] || continue
    { [ -f "$file" ] && sha256sum -- "$file" 2>/dev/null; } || printf 'unreadable  %s\n' "$file"
  done
}

# Prints the manifest of every generation, each on a line of its own.
manifests() {
  cd "$1/generations" || exit "$NO_FOLDER"
  for manifest in */manifest.json; do
    [ -f "$manifest" ] && [ -r "$manifest" ] && { tr -d '\n' < "$manifest"; echo; }
  done
  exit 0
}

# $2: the state folder. Makes both folders, and checks who may write them. Whoever may write a part of the path decides what root's
# nginx loads (reliability.md, S6 and S8). So every part, also behind a link, and every generation belongs to root or to us, and
# others may write a folder only if it is sticky. Else it prints the path, what is wrong, and the command that fixes it.
# $3: `incident` prints the same and goes on, where only the modes of folders are wrong and nothing in them is a stranger's.
folders() {
  umask 022
  mkdir -p "$1/generations" || exit "$NO_FOLDER"
  (umask 077; mkdir -p "$2") || exit "$NO_STATE"
  [ ! -L "$2" ] || exit "$NOT_PRIVATE"
  folder=$1 state=$2 kind=$3 me=$(id -u) ours=$(id -g)
  set -- /
  for path in "$folder" "$state" "$(readlink -f -- "$folder")" "$(readlink -f -- "$state")"; do
    while [ -n "$path" ]; do set -- "$@" "$path/."; path=${path%/*}; done
  done
  bad=$(wrong "$@" -prune | head -n 1)
  [ -n "$bad" ] || bad=$(wrong "$folder/generations" ! -type l | head -n 1)
  [ -n "$bad" ] || bad=$(find "$state" -prune \( ! -user "$me" -o -perm /022 \))
  [ -n "$bad" ] || return 0
  untrusted "${bad%/.}"
  [ "$kind" = incident ] && ! strange "$@" | grep -q . || exit "$OTHERS_MAY_WRITE"
}

# Prints what somebody else may have put there: a part of the path, or anything in our folders, that does not belong to root or us,
# and a file that others may write.
strange() {
  for part; do
    find "$part" "${part%/.}" -prune ! -user 0 ! -user "$me"
  done
  find "$folder" "$state" \( ! -user 0 ! -user "$me" -o -type f -perm -0002 -o -type f -perm -0020 ! -group 0 ! -group "$ours" \)
}

wrong() {
  find "$@" \( -perm -0002 ! -perm -1000 -o ! -user 0 ! -user "$me" -o -perm -0020 ! -perm -1000 ! -group 0 ! -group "$ours" \)
}

untrusted() {
  case $(stat -c '%u' -- "$1") in
    0 | "$me") printf '%s\nother users may write it\nchmod go-w %s\n' "$1" "$1" ;;
    *) printf '%s\nit belongs to %s\nchown %s %s\n' "$1" "$(stat -c '%U (%u)' -- "$1")" "$(id -un)" "$1" ;;
  esac
}

# $2: the generation that a rollback leads to, or "". The rest are names of generations. A tar with a folder for each is on stdin.
# A generation appears under its name only when all of them are complete and on disk. tar accepts a stream that was cut between
# two files, so the manifests must be there: they come last. The rollback's link is made now: later the disk may be full.
stage() {
  set -e
  umask 022
  cd "$1"
  back=$2
  shift 2
  mkdir -p generations
  for name; do [ ! -e "generations/$name" ] || { echo "generations/$name exists already" >&2; exit "$CHANGED"; }; done
  temp="generations/.$1.tmp"
  rm -rf "$temp"
  trap 'rm -rf "$temp"' EXIT
  mkdir "$temp"
  tar -xf - --no-same-owner -C "$temp"
  for name; do [ -s "$temp/$name/manifest.json" ] || { echo 'the stream was cut off' >&2; exit "$NOT_DONE"; }; done
  sync "$temp"/*/* "$temp"/*
  for name; do mv -T "$temp/$name" "generations/$name"; done
  sync generations
  [ -z "$back" ] || { rm -f .live.back && ln -s "generations/$back" .live.back && sync .; }
}

# The rest are names of generations. Deletes them, but never the live one.
prune() {
  cd "$1/generations" || exit "$NO_FOLDER"
  live=$(readlink ../live)
  shift
  for name; do
    case $name in */* | .* | '') continue ;; esac
    [ "generations/$name" = "$live" ] || rm -rf "./$name" "./.$name.tmp"
  done
}

"$0" "$@"
