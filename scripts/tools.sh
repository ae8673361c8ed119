#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: nydus-image and nydusd, docker-registry, redis-server, rpm, fuse3.
# Does nothing where all is there.
set -euo pipefail

nydus_version=2.2.0
cache=${TRIVY_NYDUS_TOOLS:-$HOME/.cache/trivy-nydus-tools}
nydus=$cache/nydus-$nydus_version

# lacks TOOL HOW: says how to get a tool that cannot be installed here, and ends.
lacks() {
    echo "tools: $1 is missing: $2" >&2
    exit 1
}

# debian_package PROGRAM PACKAGE: installs the package that brings the program, without starting its service.
debian_package() {
    local program=$1 package=$2
    [[ -x /usr/bin/$program ]] && return
    command -v "$program" >/dev/null && return
    command -v apt-get >/dev/null || lacks "$program" "install the package $package of your distribution"
    [[ $EUID -eq 0 ]] || lacks "$program" "run: sudo apt-get install --no-install-recommends $package"
    if [[ -z ${apt_updated:-} ]]; then
        echo "tools: apt-get update"
        apt-get update -qq
        apt_updated=1
    fi
    echo "tools: apt-get install $package"
    # In runlevel 1 invoke-rc.d starts nothing; where it started all the same, as under systemd, it is stopped.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
    if [[ -d /run/systemd/system ]]; then
        systemctl disable --now "$package" >/dev/null 2>&1 || true
    elif [[ -x /etc/init.d/$package ]]; then
        "/etc/init.d/$package" stop >/dev/null 2>&1 || true
    fi
}

if [[ ! -x $nydus/bin/nydus-image || ! -x $nydus/bin/nydusd ]]; then
    cargo=$(command -v cargo || true)
    [[ -n $cargo ]] || cargo=$HOME/.cargo/bin/cargo
    [[ -x $cargo ]] || lacks "nydus-image $nydus_version" "install Rust, then run this again (it builds the crate nydus-rs)"
    echo "tools: cargo install nydus-rs $nydus_version into $nydus (some minutes)"
    "$cargo" install nydus-rs --version "$nydus_version" --locked --quiet --root "$nydus"
fi
debian_package docker-registry docker-registry
debian_package redis-server redis-server
debian_package rpmbuild rpm
debian_package fusermount3 fuse3
debian_package curl curl
debian_package jq jq
