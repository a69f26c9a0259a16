//! The reader as a whole, on archives made by hand.

use std::io::BufReader;

use proptest::prelude::*;

use super::*;

#[path = "../../../tests/privileged_image/fixture/tar.rs"]
#[expect(dead_code, reason = "shared with the tests that need root, which use the rest of it")]
mod build;

use build::{Head, Tar, seal};

/// Everything in an archive: paths, kinds and data. A small buffer lets data straddle its ends.
fn read(bytes: &[u8]) -> Result<Vec<(String, Kind, Vec<u8>)>, TarError> {
    let mut archive = Archive::new(BufReader::with_capacity(700, bytes));
    let mut found = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut data = Vec::new();
        loop {
            let piece = archive.data()?;
            if piece.is_empty() {
                break;
            }
            data.extend_from_slice(piece);
            let length = piece.len();
            archive.consume(length);
        }
        found.push((String::from_utf8_lossy(&entry.path).into_owned(), entry.kind, data));
    }
    archive.drain()?;
    Ok(found)
}

fn paths(bytes: &[u8]) -> Vec<String> {
    read(bytes).unwrap().into_iter().map(|(path, ..)| path).collect()
}

#[test]
fn entries_are_found_whatever_their_size() {
    let big = vec![7; 3000];
    let tar =
        Tar::new().file("a", "").file("b", "x").file("c", vec![1; 512]).file("d", &big).dir("e/").finish();
    let found = read(&tar).unwrap();
    assert_eq!(found.iter().map(|(_, _, data)| data.len()).collect::<Vec<_>>(), [0, 1, 512, 3000, 0]);
    assert_eq!(found[3].2, big);
    assert_eq!(found[4].1, Kind::Directory);
    assert_eq!(paths(&Tar::new().file("a", "x").cut()), ["a"], "the closing blocks may be missing");
    assert_eq!(paths(b""), Vec::<String>::new());
}

#[test]
fn long_names_come_from_either_extension() {
    let (long, target) = ("l".repeat(300), "t".repeat(300));
    let nul = |text: &str| [text.as_bytes(), b"\0"].concat();
    let gnu = Tar::new()
        .add(&Head::new(b'L', "././@LongLink"), &nul(&long))
        .add(&Head::new(b'K', "././@LongLink"), &nul(&target))
        .symlink("short", "short")
        .finish();
    let pax = Tar::new()
        .add(&Head::new(b'g', "pax_global_header"), b"19 comment=abcdefg\n")
        .pax(&[("path", long.as_bytes()), ("linkpath", target.as_bytes())])
        .symlink("short", "short")
        .finish();
    for bytes in [gnu, pax] {
        let found = read(&bytes).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].0, &found[0].1), (&long, &Kind::Symlink(target.clone().into_bytes())));
    }
    let mut prefixed = Head::new(b'0', "name").block();
    prefixed[345..351].copy_from_slice(b"prefix");
    seal(&mut prefixed);
    assert_eq!(paths(&Tar::new().padded(&prefixed).finish()), ["prefix/name"]);
}

#[test]
fn the_pax_size_decides_where_the_next_header_is() {
    // A header that says 0 hides a whole archive from readers that believe it (CVE-2025-62518).
    let hidden = Tar::new().file("hidden", "").cut();
    let size = hidden.len().to_string();
    let head = Head::new(b'0', "carrier").block();
    let tar =
        Tar::new().pax(&[("size", size.as_bytes())]).padded(&head).padded(&hidden).file("after", "").finish();
    assert_eq!(paths(&tar), ["carrier", "after"]);
    let directory = Head { size: 512, ..Head::new(b'5', "dir") }.block();
    let tar = Tar::new().padded(&directory).file("after", "").finish();
    assert_eq!(paths(&tar), ["dir", "after"], "a folder has no data, whatever it says");
}

#[test]
fn damaged_headers_are_refused() {
    let good = Head::new(b'0', "a").block();
    let damaged = |at: usize, bytes: &[u8]| {
        let mut block = good;
        block[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut block);
        Tar::new().padded(&block).finish()
    };
    let mut unsealed = good;
    unsealed[0] = b'b';
    let cases = [
        ("checksum", Tar::new().padded(&unsealed).finish()),
        ("empty name", damaged(0, b"\0")),
        ("mode", damaged(100, b"9")),
        ("negative size", damaged(124, &[0xff; 12])),
        ("huge size", damaged(124, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("uid of -1", damaged(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
        ("type", damaged(156, b"V")),
        ("symlink to nothing", damaged(156, b"2")),
        ("half a header", good[..300].to_vec()),
        (
            "sparse beyond its end",
            Tar::new()
                .pax(&[("GNU.sparse.map", b"9,2"), ("GNU.sparse.size", b"10")])
                .file("a", "xx")
                .finish(),
        ),
        (
            "sparse overlap",
            Tar::new()
                .pax(&[("GNU.sparse.map", b"4,2,5,1"), ("GNU.sparse.size", b"10")])
                .file("a", "xxx")
                .finish(),
        ),
        (
            "sparse with other data",
            Tar::new()
                .pax(&[("GNU.sparse.map", b"0,2"), ("GNU.sparse.size", b"10")])
                .file("a", "xxx")
                .finish(),
        ),
        (
            "sparse of the future",
            Tar::new().pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")]).file("a", "").finish(),
        ),
        (
            "sparse map without end",
            Tar::new()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1")])
                .file("a", [b'1'; 1024])
                .finish(),
        ),
        (
            "sparse map too long",
            Tar::new()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1")])
                .file("a", b"99999999\n")
                .finish(),
        ),
        ("long name too long", Tar::new().add(&Head::new(b'L', "x"), &[b'a'; 5000]).file("a", "").finish()),
    ];
    for (name, bytes) in cases {
        assert!(read(&bytes).is_err(), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(read(&bytes).is_ok() || !bytes.is_empty());
    }

    #[test]
    fn any_damage_to_an_archive_is_read_or_refused(at in 0_usize..6000, byte in any::<u8>(), reseal in any::<bool>()) {
        let mut bytes = Tar::new()
            .pax(&[("path", b"some/long/path"), ("SCHILY.xattr.user.a", b"b"), ("mtime", b"1.5")])
            .file("a", "data")
            .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")])
            .file("b", "1\n0\n3\n")
            .finish();
        let at = at % bytes.len();
        bytes[at] = byte;
        if reseal {
            let block = at / 512 * 512;
            let mut copy: [u8; 512] = bytes[block..block + 512].try_into().unwrap();
            seal(&mut copy);
            bytes[block..block + 512].copy_from_slice(&copy);
        }
        // Whatever the outcome, it ends, without a panic.
        drop(read(&bytes));
    }
}
