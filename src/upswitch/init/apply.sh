#!/bin/sh
# Taking an nginx over (`init --apply`), and giving it back. $0 is the function to run, and the arguments are its own.

# Each argument is a path. Prints one line for each: what it is, how many names it has, and where it really lies.
kinds() {
  for path; do
    kind='none'
    if [ -L "$path" ]; then kind='link'
    elif [ -f "$path" ]; then kind='file'
    elif [ -e "$path" ]; then kind='other'
    fi
    printf '%s %s %s\n' "$kind" "$(stat -L -c %h -- "$path" 2>/dev/null || echo 0)" "$(readlink -m -- "$path")"
  done
}

# $1: the upswitch folder, $2: generation. Makes the first live link, only where there is nothing of that name.
first_link() {
  cd "$1" || exit "$NO_FOLDER"
  [ ! -e live ] && [ ! -L live ] || exit "$CHANGED"
  [ -r "generations/$2/marker.conf" ] || exit "$NOT_THERE"
  ln -sT "generations/$2" live || exit "$NOT_DONE"
  sync . || exit "$UNSYNCED"
}

# $1: the upswitch folder, $2: generation. Deletes the generation, and the live link if it points to it.
forget() {
  cd "$1" 2>/dev/null || exit 0
  [ "$(readlink live)" != "generations/$2" ] || rm live || exit "$NOT_DONE"
  rm -rf "./generations/$2" "./generations/.$2.tmp" || exit "$NOT_DONE"
  sync . generations
}

# $1: the upswitch folder, $2: generation. Removes the live link, only if it points to the generation.
unlink_live() {
  cd "$1" || exit "$NOT_DONE"
  [ "$(readlink live)" = "generations/$2" ] || exit "$CHANGED"
  rm live && sync . || exit "$NOT_DONE"
}

# $1: a path for the candidate, beside the file that it is to replace; the rest is nginx's argv. The candidate is on stdin.
test_beside() {
  put_candidate "$1"
  shift
  "$@"
}

# $1: a folder for the candidates, $2: how many; then for each the file that it covers for the test, and its size in bytes; the
# rest is nginx's argv. The candidates are on stdin, one behind the other.
test_covered() {
  folder=$1 count=$2 n=0
  shift 2
  umask 077
  trap 'rm -f "$folder"/.edit.*.tmp' EXIT
  trap 'exit 143' HUP INT TERM
  while [ $n -lt "$count" ]; do
    n=$((n + 1)) file=$1 size=$2
    shift 2
    head -c "$size" > "$folder/.edit.$n.tmp" || exit "$NOT_DONE"
    set -- "$@" "$folder/.edit.$n.tmp" "$file"
  done
  n=$(($# - 2 * count)) # nginx's words go behind the pairs
  while [ $n -gt 0 ]; do
    n=$((n - 1)) word=$1
    shift
    set -- "$@" "$word"
  done
  export NO_MOUNT
  # shellcheck disable=SC2016  # the inner shell expands it
  unshare -m --propagation private sh -c '
    n=$1
    shift
    while [ "$n" -gt 0 ]; do
      mount --bind "$1" "$2" || exit "$NO_MOUNT"
      n=$((n - 1))
      shift 2
    done
    exec "$@"' sh "$count" "$@"
}

put_candidate() {
  umask 077
  candidate=$1
  trap 'rm -f "$candidate"' EXIT
  trap 'exit 143' HUP INT TERM
  cat > "$candidate" || exit "$NOT_DONE"
}

# $1: file, $2: a path for the backup, which gets a number where that exists. The expected bytes are on stdin. Prints the path.
# The backup of a symlink is a symlink.
backup() {
  cmp -s - "$1" || exit "$CHANGED"
  backup=$2 n=0
  while [ -e "$backup" ] || [ -L "$backup" ]; do n=$((n + 1)) backup=$2.$n; done
  folder=${2%/*}
  temp=$folder/.${2##*/}.tmp
  rm -f "$temp" && cp -pP -- "$1" "$temp" && sync "$temp" && mv -nT "$temp" "$backup" && sync "$folder" || exit "$NOT_DONE"
  printf '%s\n' "$backup"
}

# $1: file, $2: its backup. Our bytes are on stdin: a file that holds anything else is not overwritten.
take_back() {
  if cmp -s - "$1"; then mv -fT "$2" "$1" || exit "$NOT_DONE"
  elif cmp -s "$2" "$1"; then rm -f "$2"
  else exit "$CHANGED"
  fi
  sync "$1" "${1%/*}" || exit "$UNSYNCED"
}

# $1: the folder of the site file.
folder() {
  umask 022
  mkdir -p "$1" || exit "$NOT_DONE"
}

# $1: file. Removed only if it holds the bytes on stdin.
remove_ours() {
  [ -e "$1" ] || exit 0
  cmp -s - "$1" || exit "$CHANGED"
  rm -f "$1"
}

"$0" "$@"
