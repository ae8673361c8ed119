#!/usr/bin/env bash
# pack.sh FOLDER ARCHIVE: packs a plugin folder as a .tar.gz, the same bytes for the same files, with its checksum beside it.
set -euo pipefail

folder=$1 archive=$2
mkdir -p "$(dirname "$archive")"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=u=rwX,go=rX -C "$folder" -cf - . | gzip -n >"$archive"
cd "$(dirname "$archive")"
sha256sum "$(basename "$archive")" >"$(basename "$archive").sha256"
