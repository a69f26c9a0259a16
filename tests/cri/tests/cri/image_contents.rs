//! What a container sees of its image's layers.

use std::time::Duration;

use anyhow::{Context, Result};
use cleat_tests_cri::{LAYERS, LAYERS_ZSTD, Node, Pod, check, configs};

/// Scripts in an image of `hack/test-images` and what they have to write.
const LOOKS: &[(&str, &str, &str)] = &[
    ("bulk", "ls /data/1 /data/2 /data/3 | grep -c file; head -c 8 /data/1/file.aaaa | wc -c", "2400\n8"),
    ("a file removed above", "ls -d /special/removed /special/removed-folder 2>&1 | grep -c 'No such'", "2"),
    ("an opaque folder", "ls -A /special/opaque; cat /special/opaque/above", "above\nupper"),
    ("a folder that became a file", "cat /special/becomes-file", "upper"),
    (
        "a folder that became a link",
        "readlink /special/becomes-link; cat /special/becomes-link/above",
        "opaque\nupper",
    ),
    ("a file that became a folder", "cat /special/becomes-folder/file", "upper"),
    ("no marker is seen", "find / -xdev -name '.wh.*' | wc -l", "0"),
    (
        "hard links",
        "stat -c %h /special/hard-1; [ /special/hard-1 -ef /special/sticky/hard-2 ] && echo same",
        "2\nsame",
    ),
    (
        "symbolic links",
        "cat /special/relative-link; readlink /special/absolute-link; readlink /special/dangling-link",
        "linked\n/etc/hostname\n/nowhere/at/all",
    ),
    (
        "modes",
        "stat -c '%a %u:%g' /special/setuid /special/setgid /special/owned /special/sticky /root /tmp",
        "4755 0:0\n2755 0:33\n644 1000:2000\n1777 0:0\n700 0:0\n1777 0:0",
    ),
    (
        "devices",
        "stat -c '%F %t:%T' /special/null /special/block /special/fifo",
        "character special file 1:3\nblock special file 7:63\nfifo 0:0",
    ),
    ("long and foreign names", "cat /special/a-name-of-a-hundred* /special/Ümläut", "long\numlaut"),
    ("times", "stat -c %Y /special/owned", "1700000000"),
    ("the last layer", "cat /etc/top-layer", "on top"),
];

fn look(node: &Node, pod: &Pod, image: &str, prefix: &str) -> Result<()> {
    for (number, (what, script, expected)) in LOOKS.iter().enumerate() {
        let mut config = configs::script(&format!("{prefix}-{number}"), script);
        config.image = configs::container("", image).image;
        let output = node.output(pod, &config).with_context(|| format!("{what} of {image}"))?;
        assert_eq!(output, *expected, "{what} of {image}");
    }
    Ok(())
}

#[test]
fn privileged_a_container_sees_what_the_layers_add_up_to() {
    check(Node::builder().images(&[]).limit(Duration::from_secs(240)), |node| {
        let pod = node.run_pod(configs::pod("layers"))?;
        node.cri().pull(LAYERS)?;
        look(node, &pod, LAYERS, "gzip")?;
        let image = node.cri().image(LAYERS)?.context("image")?.id;
        node.cri().remove_image_named(&image)?;
        node.cri().pull(LAYERS_ZSTD)?;
        look(node, &pod, LAYERS_ZSTD, "zstd")
    });
}

#[test]
fn privileged_extended_attributes_are_kept() {
    check(Node::builder().images(&[]).limit(Duration::from_secs(240)), |node| {
        node.cri().pull(LAYERS)?;
        let pod = node.run_pod(configs::pod("attributes"))?;
        let mut config = configs::sleeper("attributes");
        config.image = configs::container("", LAYERS).image;
        let id = node.start(&pod, &config)?;
        // busybox reads no attributes: the host's program does, through the container's root.
        let file = format!("/proc/{}/root/special/attributes", node.init_pid(&id)?);
        let read = |name: &str| {
            let command = format!("getfattr --absolute-names --only-values -n {name} {file}");
            node.cleat().world().shell(&format!("{command} | od -An -tx1 | tr -d ' \\n'"))
        };
        assert_eq!(read("user.cleat")?, "612076616c7565");
        assert_eq!(read("security.capability")?, "0100000200200000000000000000000000000000");
        Ok(())
    });
}

#[test]
fn privileged_a_containers_changes_are_its_own_and_go_with_it() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("changes"))?;
        let change = "rm /bin/ls; echo own >/etc/passwd; mkdir /new; mv /usr /moved && ls /moved";
        let changer = node.run(&pod, &configs::script("changer", change))?;
        assert_eq!(changer.status.exit_code, 0, "{}", changer.stderr());
        let other = "ls /bin/ls; head -c 4 /etc/passwd; ls -d /new 2>&1";
        let output = node.output(&pod, &configs::script("other", &format!("{other}; true")))?;
        assert_eq!(output, "/bin/ls\nrootls: /new: No such file or directory");
        Ok(())
    });
}
