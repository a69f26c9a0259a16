//! Holds docs/config.md to the table of settings. `CLEAT_BLESS=1 cargo test -p cleatd reference` writes the page anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::settings::{Fallback, SETTINGS};

const HEAD: &str = "\
# Settings of cleatd

`cleatd` reads `/etc/cleat/cleat.toml` (or the file of `--config`), then `/etc/cleat/cleat.toml.d/*.toml` in lexical
order, then its command line. The later wins, key by key. Unknown keys are refused. All faults are reported at once, each
with file and line. `cleatd config` prints what is in force and where each value comes from.

SIGHUP (`systemctl reload cleat`) has it read all of that again, and `registries.conf`, its drop-ins and `policy.json` with it. Settings
marked *live* take effect at once, the others at the next start, which the log says. A fault anywhere changes nothing.

This page is written from the table in `cri-server/src/config/settings.rs`; a test compares them.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut heading = Some("none yet");
    for setting in SETTINGS {
        if setting.section() != heading {
            heading = setting.section();
            let title =
                heading.map_or_else(|| "At the top of the file".to_owned(), |name| format!("`[{name}]`"));
            write!(page, "\n## {title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n").unwrap();
        }
        let (name, kind, doc) = (setting.name(), setting.kind, setting.doc);
        let live = if setting.is_live() { " *Live.*" } else { "" };
        writeln!(page, "| `{name}` | {kind} | {} | {doc}{live} |", default(&setting.fallback)).unwrap();
    }
    page
}

fn default(fallback: &Fallback) -> String {
    match fallback {
        Fallback::Text(text) => format!("`\"{text}\"`"),
        Fallback::Integer(number) => format!("`{number}`"),
        Fallback::Switch(on) => format!("`{on}`"),
        Fallback::List([]) => "none".to_owned(),
        Fallback::List(items) => {
            items.iter().map(|item| format!("`\"{item}\"`")).collect::<Vec<_>>().join(", ")
        }
        Fallback::Program(name) => format!("`{name}` beside `cleatd`, else in `{}`", super::LIBEXEC),
        Fallback::Unset => "not set".to_owned(),
    }
}

#[test]
fn the_reference_page_is_that_of_the_table() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let expected = page();
    if std::env::var_os("CLEAT_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == expected,
        "docs/config.md is out of date: CLEAT_BLESS=1 cargo test -p cleatd reference"
    );
}
