#!/usr/bin/env bash
# The images of the CRI validation suite: sourced by hack/test-images, which has the functions used here.
#
# Each stands in for the public one of that name and holds what the suite's specs look for in it. Half of them are served
# as OCI indexes, half as Docker manifest lists, all with a decoy for another architecture.

# shellcheck disable=SC2154 # root, images, work and arch are hack/test-images' own
nginx=$root/target/tools/nginx/usr/sbin/nginx
# Of the package busybox. That of busybox-static runs its applets without executing their files, so that hiding or replacing
# a file changes nothing, and the specs do both.
busybox=$root/target/tools/busybox/bin/busybox

# What the images depend on besides hack/test-images.
critest_sources() {
    printf '%s\n' "$root/hack/critest-images.bash" "$busybox" /usr/bin/ipcs /usr/bin/pgrep "$nginx"
}

# with_libraries TREE PROGRAM PATH: puts a program of this machine at PATH in TREE, with the libraries it loads.
with_libraries() {
    local tree=$1 program=$2 path=$3 library
    install -D -m 755 "$program" "$tree$path"
    ldd "$program" | grep -q 'not found' && die "this machine lacks libraries of $program: $(ldd "$program")"
    while read -r library; do
        install -D -m 755 "$library" "$tree$library"
    done < <(ldd "$program" | grep -o '/[^ ]*')
}

# The suite's busybox, with the two programs it asks for that Debian's busybox lacks.
critest_base_tree() {
    with_libraries "$1" "$busybox" /bin/busybox
    busybox_tree "$1" "$busybox"
    with_libraries "$1" /usr/bin/ipcs /bin/ipcs
    with_libraries "$1" /usr/bin/pgrep /bin/pgrep
}

# image NAME CONFIG [TREE...]: an image of the base and the trees, with a decoy.
image() {
    local name=$1 config=$2 tree real
    shift 2
    say "$name"
    layout_begin "$images/$name"
    for tree in "$work/base" "$@"; do layer "$tree" gzip; done
    real=$(manifest "$arch" "$config")
    layout_end "$(decoy_manifest)" "$real"
}

# marked NAME: a tree with one empty file, which makes an image different from the others; prints its path.
marked() {
    mkdir -p "$work/marked-$1"
    : >"$work/marked-$1/$1"
    printf '%s\n' "$work/marked-$1"
}

# nginx_tree TREE PORT: nginx as process 1.
nginx_tree() {
    local tree=$1 port=$2
    mkdir -p "$tree"/{etc/nginx,usr/share/nginx/html,var/{run,lib/nginx,log/nginx}}
    with_libraries "$tree" "$nginx" /usr/sbin/nginx
    printf 'served by nginx\n' >"$tree/usr/share/nginx/html/index.html"
    cat >"$tree/etc/nginx/nginx.conf" <<NGINX
user www-data;
worker_processes 1;
pid /var/run/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
    access_log /dev/stdout;
    server {
        listen $port;
        root /usr/share/nginx/html;
    }
}
NGINX
}

# A program with the set-user-id bit that says who it is.
no_new_privileges_tree() {
    local tree=$1
    mkdir -p "$tree/bin"
    gcc -Os -static -o "$tree/bin/effective-user" -x c - <<'C'
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("Effective uid: %d\n", geteuid()); }
C
    chmod 4755 "$tree/bin/effective-user"
}

predefined_group_tree() {
    local tree=$1
    mkdir -p "$tree/etc"
    cp "$work/base/etc/passwd" "$work/base/etc/group" "$tree/etc/"
    printf 'default-user:x:1000:1000::/home/default-user:/bin/sh\n' >>"$tree/etc/passwd"
    printf 'default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n' >>"$tree/etc/group"
}

critest_build() {
    [[ -x $nginx && -x $busybox ]] || die "nginx and busybox are not in target/tools: run hack/deps critest"
    local path='"Env":["PATH=/bin:/usr/bin:/usr/sbin"]' name web
    critest_base_tree "$work/base"
    nginx_tree "$work/nginx" 80
    nginx_tree "$work/hostnet-nginx" 12003
    no_new_privileges_tree "$work/nonewprivs"
    predefined_group_tree "$work/predefined-group"
    image busybox "{\"Cmd\":[\"sh\"],$path}"
    web='"Cmd":["nginx","-g","daemon off;"],"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT"'
    image nginx "{$web,$path}" "$work/nginx"
    image hostnet-nginx "{${web/80/12003},$path}" "$work/hostnet-nginx"
    build_httpd "$images/httpd"
    image nonewprivs "{\"Entrypoint\":[\"/bin/effective-user\"],$path}" "$work/nonewprivs"
    image pause '{"Entrypoint":["/bin/sleep"],"Cmd":["1000000"]}' "$(marked pause)"
    for name in latest 1 2 3 tag-test tag-all tags; do
        image "test-$name" "{\"Cmd\":[\"sh\"],$path}" "$(marked "$name")"
    done
    image user-uid "{\"User\":\"1002\",$path}"
    image user-username "{\"User\":\"www-data\",$path}"
    image user-uid-group "{\"User\":\"1003:1004\",$path}"
    image user-username-group "{\"User\":\"www-data:1004\",$path}"
    image predefined-group "{\"User\":\"1000\",$path}" "$work/predefined-group"
}

critest_push() {
    local name
    copy busybox e2e-test-images/busybox:1.29-2
    copy nginx e2e-test-images/nginx:1.14-2 --format v2s2
    copy httpd e2e-test-images/httpd:2.4.39-4
    copy nonewprivs e2e-test-images/nonewprivs:1.3 --format v2s2
    copy pause pause:3.9
    copy test-latest k8s-staging-cri-tools/test-image-latest:latest --format v2s2
    copy test-1 k8s-staging-cri-tools/test-image-1:latest
    copy test-2 k8s-staging-cri-tools/test-image-2:latest --format v2s2
    copy test-3 k8s-staging-cri-tools/test-image-3:latest
    copy test-tag-test k8s-staging-cri-tools/test-image-tag:test
    copy test-tag-all k8s-staging-cri-tools/test-image-tag:all --format v2s2
    for name in 1 2 3; do copy test-tags "k8s-staging-cri-tools/test-image-tags:$name"; done
    copy user-uid k8s-staging-cri-tools/test-image-user-uid:latest
    copy user-username k8s-staging-cri-tools/test-image-user-username:latest --format v2s2
    copy user-uid-group k8s-staging-cri-tools/test-image-user-uid-group:latest
    copy user-username-group k8s-staging-cri-tools/test-image-user-username-group:latest --format v2s2
    copy predefined-group k8s-staging-cri-tools/test-image-predefined-group:latest
    copy hostnet-nginx "k8s-staging-cri-tools/hostnet-nginx-$arch:latest"
}
