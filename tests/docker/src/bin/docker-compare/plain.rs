//! Takes out of an answer what differs between two runs of one engine: ids, times, folders, the padding of columns.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// What is replaced, in this order. Digests (`sha256:...`) are no ids: both engines have to tell the same.
static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\r\n", "\n"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
        (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4}( [A-Z]+)?", "<time>"),
        (r"(Less than a|About an?|\b\d+) (second|minute|hour|day|week|month|year)s?( ago)?", "<age>"),
        (r"(?P<before>^|[^:0-9a-f])([0-9a-f]{64}|[0-9a-f]{12})\b", "$before<id>"),
        (r"[ \t]{2,}", "  "),
        (r"(?m)[ \t]+$", ""),
    ]
    .into_iter()
    .map(|(pattern, with)| (Regex::new(pattern).expect("a pattern written here"), with))
    .collect()
});

/// `text` without what is not to be compared. `folder` is where the engine and the shell have their files.
pub(crate) fn plain(text: &str, folder: &Path) -> String {
    let text = text.replace(&folder.display().to_string(), "<folder>");
    let plain = RULES.iter().fold(text, |text, (rule, with)| rule.replace_all(&text, *with).into_owned());
    plain.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out() {
        let id = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            (id.as_str(), "<id>"),
            ("0123456789ab  x", "<id>  x"),
            ("CONTAINER ID   IMAGE      \nx\n\n", "CONTAINER ID  IMAGE\nx"),
            ("2026-11-21T08:09:08.701481535Z hi", "<time> hi"),
            ("2026-11-21 08:09:08 +0000 UTC", "<time>"),
            ("Up 3 seconds", "Up <age>"),
            ("Exited (0) Less than a second ago", "Exited (0) <age>"),
            ("/tmp/x/f", "<folder>/f"),
            ("a 12", "a 12"),
        ] {
            assert_eq!(plain(text, Path::new("/tmp/x")), expected, "{text:?}");
        }
    }
}
