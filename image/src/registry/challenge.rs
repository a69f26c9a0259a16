//! The `WWW-Authenticate` header (RFC 9110 section 11.6.1; distribution token specification). Pure.

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Name of the service the token is for.
        service: Option<String>,
        /// What the token is to allow.
        scope: Option<String>,
    },
}

/// The challenge in a header value that can be met: bearer before basic; none if there is neither.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    let mut basic = None;
    let mut rest = header;
    while let Some((scheme, parameters, after)) = next(rest) {
        if scheme.eq_ignore_ascii_case("bearer") {
            let value = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            if let Some(realm) = value("realm") {
                return Some(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
        rest = after;
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// One challenge, `scheme name=value, name="value", …`, and what comes after it.
fn next(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find([' ', ',']).unwrap_or(text.len());
    let (scheme, mut rest) = text.split_at(end);
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = Vec::new();
    while let Some((name, value, after)) = parameter(rest) {
        parameters.push((name.to_owned(), value));
        rest = after;
    }
    Some((scheme, parameters, rest))
}

fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_end();
    // A space in it means that the next scheme has begun.
    if name.is_empty() || name.contains([' ', ',', '"']) {
        return None;
    }
    let rest = rest.trim_start();
    match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, after) = unquote(quoted)?;
            Some((name, value, after))
        }
        None => {
            let end = rest.find([',', ' ']).unwrap_or(rest.len());
            Some((name, rest[..end].to_owned(), &rest[end..]))
        }
    }
}

/// The text up to the closing quote, backslashes taken away.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn challenges_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        let cases = [
            (
                hub,
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull"),
                ),
            ),
            ("bearer realm=https://x/t", bearer("https://x/t", None, None)),
            (r#"Bearer realm="a\"b" , service = "c,d""#, bearer("a\"b", Some("c,d"), None)),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            (r#"Basic realm="x", Bearer realm="https://y""#, bearer("https://y", None, None)),
            (r#"Negotiate, Basic realm="x""#, Some(Challenge::Basic)),
            ("Bearer", None),
            (r#"Bearer realm="unclosed"#, None),
            ("", None),
        ];
        for (header, expected) in cases {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_in_the_end(header in ".{0,200}|[A-Za-z=,\" \\\\]{0,200}") {
            parse(&header);
        }
    }
}
