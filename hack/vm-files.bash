#!/usr/bin/env bash
# What the tests in the virtual machine need of the source tree: sourced by hack/vm-test and hack/critest-vm, which have
# `root` and `die`.
#
# Outside, it is collected in a folder laid out as the source tree is. Inside, programs that look for the tree where they
# were built find it there by a link.

# shellcheck disable=SC2154 # root is the sourcing script's own
programs=(cleatd cleat-conmon cleat-runtime cleat-pause)
# Repositories of the registry, or folders of them: all but the 300 MB of the tests of unpacking.
images=(cleat-test/busybox cleat-test/httpd e2e-test-images k8s-staging-cri-tools pause)

# ---- Outside ----

# executables FILTER CARGO-ARGUMENTS...: builds, and prints the paths of those programs that jq's FILTER selects.
executables() {
    local filter=$1
    shift
    (cd "$root" && cargo "$@" --locked --quiet --message-format=json) | jq -r "select($filter) | .executable | strings"
}

# copy_images FROM TO: what a registry's storage has of the images, and nothing else of it.
copy_images() {
    local storage=docker/registry/v2 image digest blob
    for image in "${images[@]}"; do
        mkdir -p "$2/$storage/repositories/$image"
        cp -r "$1/$storage/repositories/$image/." "$2/$storage/repositories/$image"
    done
    find "$2/$storage/repositories" -name link -exec cat {} + | grep -oE 'sha256:[0-9a-f]{64}' | sort -u |
        while IFS=: read -r _ digest; do
            blob=$storage/blobs/sha256/${digest:0:2}/$digest
            mkdir -p "$2/$blob"
            cp "$1/$blob/data" "$2/$blob/data"
        done
}

# collect FOLDER SCRIPT...: the programs, the tools, the images and these scripts of hack/.
collect() {
    local files=$1
    shift
    mkdir -p "$files"/{hack,target/cleat/bin,target/tools/bin}
    cp "${@/#/$root/hack/}" "$root/hack/vm-files.bash" "$files/hack"
    cp "${programs[@]/#/${CLEAT_BIN_DIR:-$root/target/cleat/bin}/}" "$files/target/cleat/bin"
    cp "$root/target/tools/bin"/{crictl,critest,ginkgo} "$files/target/tools/bin"
    executables true build -p cleat-test-support --bin cleat-leaks | xargs -I{} cp {} "$files/target"
    strip --strip-debug "$files/target/cleat-leaks"
    copy_images "$root/target/registry" "$files/target/registry"
    printf '%s\n' "$root" >"$files/built-at"
}

# fill_registry FOLDER: fills the storage of images by a registry with its files in FOLDER, in a network of its own.
fill_registry() {
    ((EUID == 0)) || die "run it as root: layers of images hold files of other owners"
    # shellcheck disable=SC2016 # the other shell's own
    unshare --net -- bash -c 'set -euo pipefail
        hack=$1 storage=$2 folder=$3
        ip link set lo up
        trap "\"\$hack/registry\" stop \"\$folder\"" EXIT
        "$hack/registry" start "$folder" 5000 "$storage"
        "$hack/test-images" push "$storage" 5000
        "$hack/test-images" push "$storage" 5000 critest' - "$root/hack" "$root/target/registry" "$1"
}

# machine FOLDER COMMAND...: hack/vm, which ends with this script.
machine() { setpriv --pdeathsig TERM -- "$root/hack/vm" "$@"; }

# ---- Inside the machine, in the folder of files ----

# What every script is told there: where things are, that the machine is ten times slower than a host, whose driver of
# cgroups is meant.
settle() {
    local tree
    tree=$(cat "$root/built-at")
    [[ -e $tree ]] || { mkdir -p "${tree%/*}" && ln -s "$root" "$tree"; }
    export CLEAT_TEST_SLOWNESS=10 CLEAT_TEST_SECONDS=200 CLEAT_LEAKS=$root/target/cleat-leaks
    export CLEAT_TEST_STORAGE=$root/target/registry CLEAT_TEST_CGROUP_DRIVER=systemd
    export CLEAT_BIN_DIR=$root/target/cleat/bin OCI_RUNTIME=$root/target/cleat/bin/cleat-runtime
}
