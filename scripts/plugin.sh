#!/usr/bin/env bash
# plugin.sh OS_ARCH VERSION BINARY FOLDER: makes a plugin folder for one platform, as `trivy plugin install` takes it: the
# binary, and plugin.yaml with this platform only, so that Trivy refuses it on another.
set -euo pipefail

platform=$1 version=$2 binary=$3 folder=$4
os=${platform%_*} arch=${platform#*_}
suffix=
[[ $os != windows ]] || suffix=.exe
rm -rf "$folder"
mkdir -p "$folder"
cp "$binary" "$folder/trivy-nydus$suffix"
cp LICENSE "$folder/"
sed -e "s/^version: .*/version: $version/" -e '/^#/d' -e "/selector:/{/os: $os, arch: $arch}/!d}" plugin.yaml >"$folder/plugin.yaml"
grep -q "selector:" "$folder/plugin.yaml" || { echo "plugin.sh: plugin.yaml has no platform $platform" >&2; exit 1; }
