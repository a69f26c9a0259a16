#!/usr/bin/env bash
# The images that hack/bench-image pulls: sourced by hack/test-images, which has the functions used here.
#
# Besides the 300 MB in gzip and in zstd that the tests have, one image of each kind that costs something else: layers,
# files, bytes.

# shellcheck disable=SC2154 # root, images, work and arch are hack/test-images' own
bench_sources() { printf '%s\n' "$root/hack/bench-images.bash" /bin/busybox; }

# text MB NUMBER: hexadecimal text from a fixed key stream, which packs two to one as programs do.
text() {
    openssl enc -aes-128-ctr -nosalt -K "$(printf '%032d' "$2")" -iv 00000000000000000000000000000000 \
        -in /dev/zero 2>/dev/null | basenc --base16 -w 100 | head -c "$1M" || true
}

# 40,960 files of 2 KiB in 61 folders; prints the tree.
small_files_tree() {
    local tree=$work/small folder
    mkdir -p "$tree/all"
    text 80 4 | split -b 2K -a 5 - "$tree/all/file."
    for folder in "$tree/all"/file.???aa; do mkdir -p "$tree/${folder: -5:3}"; done
    for folder in "$tree"/???/; do
        [[ $folder == "$tree/all/" ]] || mv "$tree/all/file.$(basename "$folder")"?? "$folder"
    done
    rmdir "$tree/all"
    printf '%s\n' "$tree"
}

# one_image LAYOUT TREE...: gzip, without a decoy.
one_image() {
    local tree
    layout_begin "$images/$1"
    shift
    for tree in "$@"; do layer "$tree" gzip; done
    layout_end "$(manifest "$arch" '{"Cmd":["sh"]}')"
}

bench_build() {
    local number trees=()
    mkdir -p "$work/decoy-free/etc" "$work/big"
    printf 'on top\n' >"$work/decoy-free/etc/top-layer"
    say "300 MB in gzip and zstd"
    build_layers "$images/layers-gzip" gzip
    build_layers "$images/layers-zstd" zstd
    say "100 layers of ten files"
    for number in {100..199}; do
        mkdir -p "$work/many-$number/opt/$number"
        text 1 "$number" | head -c 40K | split -b 4K - "$work/many-$number/opt/$number/file." || true
        trees+=("$work/many-$number")
    done
    one_image many-layers "${trees[@]}"
    say "40,000 files"
    one_image small-files "$(small_files_tree)"
    say "a file of 512 MB"
    text 512 5 >"$work/big/file"
    one_image big-file "$work/big"
}

bench_push() {
    copy layers-gzip cleat-bench/layers:gzip
    copy layers-zstd cleat-bench/layers:zstd
    copy many-layers cleat-bench/many-layers:1
    copy small-files cleat-bench/small-files:1
    copy big-file cleat-bench/big-file:1
}
