#!/usr/bin/env bash
# Prints which part of the statements of rafs and blob the fuzz targets reach: with the seeds that are committed and
# with the inputs that `make fuzz` on this machine kept, in Go's build cache. No other test runs.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=bin/fuzz-coverage.out
mkdir -p bin
module=$(go list -m)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# The inputs are read from testdata/fuzz: in a copy of the tree, so that it is not changed.
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
found=$(go env GOCACHE)/fuzz/$module
for package in rafs blob; do
    mkdir -p "$copy/$package/testdata/fuzz"
    if [[ -d $found/$package ]]; then
        cp -r "$found/$package/." "$copy/$package/testdata/fuzz/"
    fi
    inputs=$(find "$copy/$package/testdata/fuzz" -type f | wc -l)
    (cd "$copy" && go test -count=1 -run '^Fuzz' -coverpkg="./$package" -coverprofile="$OLDPWD/$profile" "./$package") >bin/fuzz-coverage.log ||
        { cat bin/fuzz-coverage.log >&2; exit 1; }
    echo "$package: $(go tool cover -func="$profile" | awk '/^total:/ { print $3 }') of its statements, with $inputs inputs beside the seeds in code"
    # file.go:1.2,3.4 STATEMENTS COUNT, a block once for each time that it was built in
    awk -v package="$package" 'NR > 1 { split($1, at, ":"); n = split(at[1], path, "/"); of[path[n], at[2]] = $2; if ($3 > 0) hit[path[n], at[2]] = 1; files[path[n]] = 1 }
        END { for (key in of) { split(key, k, SUBSEP); all[k[1]] += of[key]; if (key in hit) reached[k[1]] += of[key] }
              for (f in files) printf "  %-24s %5.1f%% of %d\n", f, 100 * reached[f] / all[f], all[f] }' "$profile" | sort
done
