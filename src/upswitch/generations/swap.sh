#!/bin/sh
# Points the live link of the folder $1 at generation $3, if it points to $2 now. The dead-man's watcher runs this program too.
# A link that was made beforehand (store.sh, stage) is used where it is the right one: a full disk may have no inode left.
cd "$1" || exit "$NO_FOLDER"
[ "$(readlink live)" = "generations/$2" ] || exit "$CHANGED"
[ -r "generations/$3/marker.conf" ] || exit "$NOT_THERE"
temp=.live.back
if [ "$(readlink $temp)" != "generations/$3" ]; then
  temp=.live.tmp
  rm -f $temp && ln -s "generations/$3" $temp || exit "$NOT_DONE"
fi
[ -r "generations/$3/marker.conf" ] || { rm -f $temp; exit "$NOT_THERE"; }
mv -fT $temp live || { rm -f $temp; exit "$NOT_DONE"; }
sync . || exit "$UNSYNCED"
