//! Seeded mutation for parsers of what others write: every run is the same, and a finding names its number.
//!
//! `CLEAT_FUZZ_EXECUTIONS` sets how many inputs each target gets (a number; 2,000 without it, millions for a long run).

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cleat_test_fuzz::{Campaign, Dice};

use crate::auth::AuthFile;
use crate::reference::{Algorithm, Digest, Reference};
use crate::registries::Registries;
use crate::registry::{Credentials, parse_manifest};
use crate::unpack::tar::Archive;
use crate::unpack::{UnpackLimits, unpack_layer};

const DEFAULT_EXECUTIONS: u64 = 2_000;
/// Longest input in bytes: beyond it nothing new happens.
const MAX_INPUT_BYTES: usize = 64 << 10;
/// Bytes on which parsers turn.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff \n\r\t\"'\\/:@.,=[]{}()<>-_~*$%09afzAZ";

/// An ordinary test run is the same each time.
const SEED: u64 = 0x5eed_c1ea_7000_0003;

/// Feed mutations of `seeds` to `target`, which may refuse them and must not panic.
pub(crate) fn run(name: &str, seeds: &[&[u8]], target: impl Fn(&[u8])) {
    let campaign = Campaign::from_environment(DEFAULT_EXECUTIONS, SEED);
    for (number, mut dice) in campaign.cases() {
        let mut input = dice.one(seeds).to_vec();
        for _ in 0..=dice.roll(6) {
            mutate(&mut input, seeds, &mut dice);
        }
        input.truncate(MAX_INPUT_BYTES);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(
            outcome.is_ok(),
            "{name}: seed {}, execution {number} panicked on {:?}",
            campaign.seed,
            input.escape_ascii().to_string()
        );
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[&[u8]], dice: &mut Dice) {
    let at = dice.index(input.len() + 1);
    let end = (at + dice.index(64)).min(input.len());
    match dice.index(7) {
        0 if at < input.len() => input[at] ^= 1 << dice.index(8),
        1 if at < input.len() => input[at] = TELLING[dice.index(TELLING.len())],
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            let times = 1 + dice.index(40);
            input.splice(at..at, piece.repeat(times));
        }
        4 => {
            let other = seeds[dice.index(seeds.len())];
            let from = dice.index(other.len() + 1);
            let to = (from + dice.index(600)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        5 => input.insert(at, TELLING[dice.index(TELLING.len())]),
        _ => input.truncate(at),
    }
}

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references_and_digests() {
    let at = format!("host.example:5000/a/b__c:tag@{EMPTY}");
    run("reference", &[at.as_bytes(), b"busybox", b"[::1]:80/x:1", EMPTY.as_bytes()], |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(reference) = Reference::parse(&text) {
            assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
        }
        if let Ok(digest) = Digest::parse(&text) {
            assert_eq!(digest.to_string(), text);
        }
    });
}

#[test]
fn manifests() {
    let blob =
        format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{EMPTY}","size":1}}"#);
    let config = blob.replace("layer.v1.tar", "config.v1+json");
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{blob}]}}"#);
    let platform = r#""platform":{"os":"linux","architecture":"arm","variant":"v7"},"size":1}"#;
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, blob.replace(r#""size":1}"#, platform));
    run("manifest", &[manifest.as_bytes(), index.as_bytes()], |input| drop(parse_manifest(input, None)));
}

#[test]
fn registries_conf_and_auth_fields() {
    let conf = "unqualified-search-registries = ['a.b']\nshort-name-mode = 'enforcing'\n[aliases]\n'x' = 'a.b/x'\n\
                [[registry]]\nprefix = '*.b'\nlocation = 'c.d/e'\n[[registry.mirror]]\nlocation = 'm.n'\n";
    let references = ["x", "a.b/x:1", "z.b/c"];
    run("registries.conf", &[conf.as_bytes()], |input| {
        let Ok(registries) = Registries::parse(&String::from_utf8_lossy(input)) else { return };
        for text in references {
            drop(registries.candidates(text));
            drop(registries.sources(&Reference::parse(text).expect("it is a reference")));
        }
    });
    run("auth", &[b"dTpw", b"dTpwOnE="], |input| {
        drop(Credentials::from_auth(&String::from_utf8_lossy(input)))
    });
}

/// A header as the writer of archives makes it, by the one that saves images.
fn header(kind: u8, path: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..path.len()].copy_from_slice(path.as_bytes());
    for (field, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000")] {
        block[field..field + text.len()].copy_from_slice(text.as_bytes());
    }
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block
}

/// Put right checksums into everything that could be a header, so that mutations get past them.
fn seal(input: &mut [u8]) {
    for block in input.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
}

#[test]
fn auth_files() {
    let text = r#"{"auths":{"a.b/c":{"auth":"dTpw"},"https://a.b/v1/":{"username":"u","password":"p"},"d.e":
        {"identitytoken":"t"}},"credHelpers":{"f.g":"x"},"credsStore":"y"}"#;
    let references =
        ["a.b/c/d", "d.e/x", "f.g/x", "busybox"].map(|text| Reference::parse(text).expect("it is one"));
    run("auth.json", &[text.as_bytes()], |input| {
        let Ok(file) = AuthFile::parse(std::path::Path::new("auth.json"), input) else { return };
        for reference in &references {
            drop((file.find(reference), file.helper(reference)));
        }
    });
}

#[test]
fn archives_are_read_to_an_end_and_recorded_whole() {
    let padded = |mut bytes: Vec<u8>| {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let pax =
        b"13 path=a/b/c\n30 SCHILY.xattr.user.x=0123456\n22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n";
    let seeds: Vec<Vec<u8>> = vec![
        [header(b'0', "a/file", 5), padded(b"data!".to_vec()), header(b'5', "d/", 0), vec![0; 1024]].concat(),
        [
            header(b'x', "pax", pax.len() as u64),
            padded(pax.to_vec()),
            header(b'0', "f", 512),
            vec![b'1'; 512],
        ]
        .concat(),
        [header(b'L', "long", 9), padded(b"long/name".to_vec()), header(b'1', "l", 0)].concat(),
        [header(b'S', "sparse", 7), padded(b"content".to_vec())].concat(),
        [header(b'0', "a/.wh.b", 0), header(b'0', "a/.wh..wh..opq", 0), header(b'3', "null", 0)].concat(),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    run("tar", &seeds, |input| {
        let mut input = input.to_vec();
        seal(&mut input);
        let (mut data, mut record) = (0_u64, Vec::new());
        let mut archive = Archive::recording(&input[..], &mut record);
        let ended = loop {
            match archive.next_entry() {
                Ok(Some(_)) => {}
                end => break end,
            }
            // Take half of each entry's data; the rest is passed by.
            let length = archive.data().map_or(0, <[u8]>::len) / 2;
            archive.consume(length);
            data += length as u64;
        };
        if ended.is_ok() && archive.drain().is_ok() {
            assert_eq!(record.len() as u64 + data, input.len() as u64, "a byte is neither data nor recorded");
        }
    });
}

/// Whatever an archive of whiteouts, links and folders asks for, nothing beside its folder is made, changed or removed.
#[test]
fn privileged_whiteouts_and_links_stay_inside() {
    let link = |path: &str, target: &str, kind: u8| {
        let mut block = header(kind, path, 0);
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        block
    };
    let file = |path: &str| header(b'0', path, 0);
    let seeds: Vec<Vec<u8>> = vec![
        [file("a/.wh.b"), file("a/.wh..wh..opq"), file("a/b"), file(".wh.a"), header(b'5', "a/", 0)].concat(),
        [link("l", "../outside", b'2'), file("l/.wh.kept"), file("l/.wh..wh..opq"), file("l/kept")].concat(),
        [link("l", "/../..", b'2'), link("h", "l/outside/kept", b'1'), file(".wh..."), file("../.wh.kept")]
            .concat(),
        [header(b'5', "d/", 0), link("d/up", "..", b'2'), file("d/up/.wh.d"), file("d/up/../.wh.x")].concat(),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("outside")).unwrap();
    std::fs::write(base.path().join("outside/kept"), "kept").unwrap();
    run("whiteouts", &seeds, |input| {
        let mut input = input.to_vec();
        seal(&mut input);
        let inside = base.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let folder = std::fs::File::open(&inside).unwrap();
        let size = input.len() as u64;
        drop(unpack_layer(&input[..], size, folder.as_fd(), Algorithm::Sha256, &UnpackLimits::default()));
        std::fs::remove_dir_all(&inside).unwrap();
        assert_eq!(std::fs::read(base.path().join("outside/kept")).unwrap(), b"kept");
        let mut names: Vec<_> =
            ["", "outside"].iter().flat_map(|at| std::fs::read_dir(base.path().join(at)).unwrap()).collect();
        assert_eq!(
            names.drain(..).map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(),
            ["outside", "kept"]
        );
    });
}
