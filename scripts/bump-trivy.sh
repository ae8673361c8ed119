#!/usr/bin/env bash
# bump-trivy.sh TO: builds in another Trivy. Takes that Trivy's own requirements into go.mod, since its versions
# cannot be listed by `go get`, adds ours, and renames the version in the documents. What Trivy changed in the code that
# ours follows (imageFlags, transport.go, artifact/) is for a person: the tests compare with the new trivy.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1#v}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || { echo "bump-trivy: TO=0.75.0 is what a version looks like, not '$1'" >&2; exit 2; }
old=$(sed -n 's|^\tgithub.com/aquasecurity/trivy v||p' go.mod)

module=$(go mod download -json "github.com/aquasecurity/trivy@v$version")
source=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$module")

cp go.mod go.mod.old
sed 's|^module .*|module github.com/trivy-plugin-nydus/trivy-plugin-nydus|; /^tool ($/,/^)$/d' "$source/go.mod" >go.mod
sort -u "$source/go.sum" go.sum >go.sum.new && mv go.sum.new go.sum
go mod edit -require="github.com/aquasecurity/trivy@v$version"
# What the new Trivy does not require itself keeps our version.
go mod edit -json go.mod.old | sed -n '/"Require"/,$p' | tr -d '\n\t' | grep -o '"Path": "[^"]*","Version": "[^"]*"' |
    sed 's/"Path": "\([^"]*\)","Version": "\([^"]*\)"/\1 \2/' | while read -r path at; do
    grep -q "^	$path " go.mod || go mod edit -require="$path@$at"
done
rm go.mod.old
GOEXPERIMENT=jsonv2 CGO_ENABLED=0 go build -trimpath -buildvcs=false -mod=mod -o /dev/null .
grep -rlF "$old" README.md docs CHANGELOG.md | xargs -r sed -i "s/\\b${old//./\\.}\\b/$version/g"
echo "bump-trivy: $old -> $version; now run make test, and read what changed in pkg/commands/app.go, pkg/fanal/artifact/image and pkg/fanal/walker"
