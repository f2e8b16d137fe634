#!/bin/sh
# Checks that the originals stand where the configs expect them, and builds BVISD from them.
#
# Usage: sh tools/dataset_converters/prepare.sh [--check] [--frames] [--sets "ytvis21 ovis coco"] [ROOT]
#   ROOT      folder of all data (default: data)
#   --check   only look, build nothing
#   --frames  afterwards also look at every frame of what was built (slow)
#   --sets    the sets to use, separated by spaces (default: all three)
#   PYTHON=   interpreter (default: .venv/bin/python if there, else python)
#
# The folder tree, as the archives unpack; only the marked files are needed for training:
#
#   ROOT/
#     ytvis_2021/                        https://youtube-vos.org/dataset/vis (2021 version)
#       train/instances.json             *  2,985 videos
#       train/JPEGImages/VIDEO/*.jpg     *
#       valid/instances.json                hidden set: no annotations
#       valid/JPEGImages/VIDEO/*.jpg
#     OVIS/                              https://songbai.site/ovis
#       annotations_train.json           *  607 videos
#       train/VIDEO/*.jpg                *
#       annotations_valid.json              hidden set: no annotations
#       valid/VIDEO/*.jpg
#     coco/                              https://cocodataset.org (2017)
#       annotations/instances_train2017.json  *
#       train2017/*.jpg                  *
#     bvisd/                             written here:
#       {ytvis21,ovis,coco}_train.json, {ytvis21,ovis,bvisd}_valid.json, manifest.json
#
# Links instead of these folders will do, but not instead of those of single VIDEOs. The validation
# files keep masks, so that mask AP can be computed; the training files have boxes only
# (tools/dataset_converters/build_bvisd.py --help).

set -u

tools="$(cd "$(dirname "$0")/.." && pwd)"
root=data
sets='ytvis21 ovis coco'
check_only=
frames=

usage() { sed -n '2,/^$/{s/^# \{0,1\}//p;}' "$0"; }

while [ $# -gt 0 ]; do
  case "$1" in
    --check) check_only=1 ;;
    --frames) frames=1 ;;
    --sets)
      [ $# -gt 1 ] || { echo 'error: --sets needs names' >&2; exit 2; }
      sets="$2"
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "error: unknown option $1; see --help" >&2; exit 2 ;;
    *) root="$1" ;;
  esac
  shift
done

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python
  [ -x "$tools/../.venv/bin/python" ] && PYTHON="$tools/../.venv/bin/python"
fi

annotations_of() {
  case "$1" in
    ytvis21) echo "$root/ytvis_2021/train/instances.json" ;;
    ovis) echo "$root/OVIS/annotations_train.json" ;;
    coco) echo "$root/coco/annotations/instances_train2017.json" ;;
    *) echo "error: unknown set $1; choose from ytvis21, ovis, coco" >&2; return 1 ;;
  esac
}

frames_of() {
  case "$1" in
    ytvis21) echo "$root/ytvis_2021/train/JPEGImages" ;;
    ovis) echo "$root/OVIS/train" ;;
    coco) echo "$root/coco/train2017" ;;
  esac
}

missing=0
set --
for name in $sets; do
  file="$(annotations_of "$name")" || exit 2
  folder="$(frames_of "$name")"
  if [ -s "$file" ]; then
    echo "found    $file"
    set -- "$@" "--$name" "$file"
  else
    echo "MISSING  $file" >&2
    missing=1
  fi
  if [ -d "$folder" ] && [ -n "$(ls -A "$folder" 2>/dev/null | head -n 1)" ]; then
    echo "found    $folder"
  else
    echo "MISSING  $folder (no such folder, or empty)" >&2
    missing=1
  fi
done
if [ $# -eq 0 ] && [ "$missing" -eq 0 ]; then
  echo 'error: --sets names no set' >&2
  exit 2
fi
if [ "$missing" -ne 0 ]; then
  echo 'Put or link the missing parts there (sh prepare.sh --help shows the tree and the sites),' >&2
  echo 'or choose the sets that you have, such as --sets "ytvis21 coco".' >&2
  exit 1
fi
[ -z "$check_only" ] || exit 0

"$PYTHON" "$tools/dataset_converters/build_bvisd.py" "$@" --out "$root/bvisd" --masks valid || exit 1
[ -n "$frames" ] || exit 0
status=0
for name in $sets; do
  for part in train valid; do
    file="$root/bvisd/${name}_$part.json"
    [ -f "$file" ] || [ "$part" = train ] || continue # COCO has no validation file
    "$PYTHON" "$tools/misc/check_dataset.py" "$file" \
      --classes bvisd --images "$(frames_of "$name")" || status=1
  done
done
exit $status
