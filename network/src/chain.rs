//! An error with its causes as one line, for messages that tell of several errors at once.

/// The error and its causes, outermost first, joined by colons.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Several errors, each with its causes, joined by semicolons.
pub(crate) fn chains<'a, E: std::error::Error + 'static>(errors: impl IntoIterator<Item = &'a E>) -> String {
    errors.into_iter().map(|error| chain(error)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn every_cause_is_told_once() {
        let inner = std::fmt::Error.to_string();
        let one = format!("outer: {inner}");
        assert_eq!(chains([&Outer(std::fmt::Error), &Outer(std::fmt::Error)]), format!("{one}; {one}"));
    }
}
