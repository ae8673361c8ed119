#!/usr/bin/env bash
# reproduce.sh ARCHIVE: builds the archive of this platform once more, in another folder, and says whether it has the same
# bytes; the checksum beside the archive must be its own, too. What was compiled is taken from the build cache, so that this takes
# the time of linking.
set -euo pipefail

archive=$(realpath "$1")
(cd "$(dirname "$archive")" && sha256sum --quiet -c "$(basename "$archive").sha256")
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --exclude=./bin --exclude=./dist --exclude=./.git -cf - . | tar -C "$copy" -xf -
make --no-print-directory -C "$copy" archive >/dev/null
again="$copy/dist/$(basename "$archive")"
cmp "$copy/bin/plugin/trivy-nydus" bin/plugin/trivy-nydus
cmp "$again" "$archive"
(cd "$copy/dist" && sha256sum --quiet -c "$(dirname "$archive")/$(basename "$archive").sha256")
echo "reproduce.sh: the same bytes: $(cut -d' ' -f1 "$archive.sha256")"
