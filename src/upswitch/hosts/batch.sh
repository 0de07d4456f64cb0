#!/bin/sh
# The beginning of a batch: `end` prints the end of a command's outputs, with the word that the batch got on stdin.
end() {
  printf '%s %03d\n' "$end" "$1"
  printf '%s\n' "$end" >&2
}
IFS= read -r end
