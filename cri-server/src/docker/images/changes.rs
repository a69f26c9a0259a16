//! Changes to an image's configuration, written as instructions of a Dockerfile (`docker import --change`, `docker commit
//! --change`). Pure.

use oci_spec::image::Config;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::docker::healthcheck::Healthcheck;
use crate::docker::refusal::Refusal;

/// An image's `config`: what OCI has in it, and what Docker has besides.
pub(in crate::docker) type Settings = Map<String, Value>;

/// What `changes` make of `config`.
///
/// # Errors
/// When one of them is no instruction that changes a configuration.
pub(in crate::docker) fn apply<'a>(
    mut config: Settings,
    changes: impl Iterator<Item = &'a str>,
) -> Result<Settings, Refusal> {
    let mut has_command = false;
    for change in changes.map(str::trim) {
        change_one(&mut config, change)?;
        let begins =
            |word: &str| change.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        has_command |= begins("CMD");
        // The arguments of before were those of another program.
        if begins("ENTRYPOINT") && !has_command {
            config.remove("Cmd");
        }
    }
    let wrong = |error| Refusal::bad(format!("the changes make no configuration: {error}"));
    Config::deserialize(&Value::Object(config.clone())).map_err(wrong)?;
    Ok(config)
}

fn change_one(config: &mut Settings, change: &str) -> Result<(), Refusal> {
    let (instruction, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let rest = rest.trim();
    let instruction = instruction.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(Refusal::bad(format!("{instruction} requires at least one argument")));
    }
    match instruction.as_str() {
        "CMD" => set(config, "Cmd", command(rest)),
        "ENTRYPOINT" => set(config, "Entrypoint", command(rest)),
        "USER" => set(config, "User", rest.into()),
        "WORKDIR" => set(config, "WorkingDir", rest.into()),
        "STOPSIGNAL" => set(config, "StopSignal", rest.into()),
        "ENV" => {
            for (key, value) in pairs(rest)? {
                add_variable(config, &key, &value);
            }
        }
        "LABEL" => {
            let labels = pairs(rest)?.into_iter().map(|(key, value)| (key, value.into()));
            insert_all(config, "Labels", labels.collect());
        }
        "EXPOSE" => {
            let ports = rest.split_whitespace().map(|port| {
                let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
                (port, json!({}))
            });
            insert_all(config, "ExposedPorts", ports.collect());
        }
        "VOLUME" => {
            let paths = list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            insert_all(config, "Volumes", paths.into_iter().map(|path| (path, json!({}))).collect());
        }
        "HEALTHCHECK" => set(config, "Healthcheck", json!(Healthcheck::from_instruction(rest)?)),
        "ONBUILD" => add_trigger(config, rest)?,
        other => {
            let other = other.to_ascii_lowercase();
            return Err(Refusal::bad(format!("{other} is not a valid change command")));
        }
    }
    Ok(())
}

/// An instruction for whoever builds on the image.
fn add_trigger(config: &mut Settings, text: &str) -> Result<(), Refusal> {
    let instruction = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match instruction.as_str() {
        "ONBUILD" => Err(Refusal::bad("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => {
            Err(Refusal::bad(format!("{instruction} isn't allowed as an ONBUILD trigger")))
        }
        _ => {
            if let Value::Array(present) = config.entry("OnBuild").or_insert_with(|| json!([])) {
                present.push(text.into());
            }
            Ok(())
        }
    }
}

fn set(config: &mut Settings, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

fn insert_all(config: &mut Settings, key: &str, entries: Map<String, Value>) {
    if let Value::Object(present) = config.entry(key).or_insert_with(|| json!({})) {
        present.extend(entries);
    }
}

/// A variable replaces the one of the same name.
fn add_variable(config: &mut Settings, key: &str, value: &str) {
    let Value::Array(present) = config.entry("Env").or_insert_with(|| json!([])) else { return };
    let prefix = format!("{key}=");
    let variable = Value::from(format!("{prefix}{value}"));
    let mut known = present.iter_mut();
    match known.find(|one| one.as_str().is_some_and(|one| one.starts_with(&prefix))) {
        Some(known) => *known = variable,
        None => present.push(variable),
    }
}

/// A JSON list of words, or a line for the shell.
fn command(text: &str) -> Value {
    list(text).map_or_else(|| json!(["/bin/sh", "-c", text]), |words| json!(words))
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// `key=value key="with blanks"`, or `key the rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    let words = words(text)?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Refusal::bad(format!("{text:?} is no key with a value: write key=value")))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| {
        let (key, value) = word.split_once('=').filter(|(key, _)| !key.is_empty())?;
        Some((key.to_owned(), value.to_owned()))
    };
    let all: Option<Vec<_>> = words.into_iter().map(pair).collect();
    all.ok_or_else(|| Refusal::bad(format!("{text:?} is not a list of key=value")))
}

/// Words as a Dockerfile has them: quotes hold blanks, a backslash takes the next character as it is.
fn words(text: &str) -> Result<Vec<String>, Refusal> {
    let (mut words, mut word, mut begun, mut quote) = (Vec::new(), String::new(), false, None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => word.extend(characters.next()),
            (mark, Some(open)) if mark == open => quote = None,
            ('"' | '\'', None) => (begun, quote) = (true, Some(character)),
            (blank, None) if blank.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (other, _) => word.push(other),
        }
    }
    if quote.is_some() {
        return Err(Refusal::bad(format!("a quote in {text:?} is not closed")));
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Value {
        Value::Object(apply(Settings::new(), changes.iter().copied()).unwrap())
    }

    #[test]
    fn instructions_become_configuration() {
        for (change, field, expected) in [
            ("CMD [\"sh\"]", "Cmd", json!(["sh"])),
            ("cmd echo hi", "Cmd", json!(["/bin/sh", "-c", "echo hi"])),
            ("ENTRYPOINT [\"a\", \"b\"]", "Entrypoint", json!(["a", "b"])),
            ("ENV A=1 B=\"x y\"", "Env", json!(["A=1", "B=x y"])),
            ("ENV A the rest", "Env", json!(["A=the rest"])),
            ("ENV A=x\\ y", "Env", json!(["A=x y"])),
            ("LABEL l=1", "Labels", json!({"l": "1"})),
            ("USER 1:2", "User", json!("1:2")),
            ("WORKDIR /w", "WorkingDir", json!("/w")),
            ("STOPSIGNAL SIGINT", "StopSignal", json!("SIGINT")),
            (
                "HEALTHCHECK --retries=2 CMD x",
                "Healthcheck",
                json!({"Test": ["CMD-SHELL", "x"], "Retries": 2}),
            ),
            ("ONBUILD RUN echo a", "OnBuild", json!(["RUN echo a"])),
        ] {
            assert_eq!(applied(&[change])[field], expected, "{change}");
        }
        assert_eq!(applied(&["ENV A=1 B=1", "ENV A=2"])["Env"], json!(["A=2", "B=1"]));
        assert!(applied(&["CMD a", "ENTRYPOINT b"]).get("Cmd").is_some());
        let of_another = Settings::from_iter([("Cmd".to_owned(), json!(["a"]))]);
        assert_eq!(apply(of_another, ["ENTRYPOINT b"].into_iter()).unwrap().get("Cmd"), None);
        let both = applied(&["EXPOSE 80 81/udp", "VOLUME [\"/v\"]"]);
        assert_eq!(both["ExposedPorts"], json!({"80/tcp": {}, "81/udp": {}}));
        assert_eq!(both["Volumes"], json!({"/v": {}}));
        let over = apply(both.as_object().unwrap().clone(), ["EXPOSE 82"].into_iter()).unwrap();
        assert_eq!(over["ExposedPorts"].as_object().map(Map::len), Some(3));
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for (change, status) in [
            ("RUN true", 400),
            ("CMD", 400),
            ("ENV A", 400),
            ("ENV A=\"x", 400),
            ("LABEL a=1 b", 400),
            ("HEALTHCHECK RUN x", 400),
            ("ONBUILD ONBUILD RUN x", 400),
            ("ONBUILD FROM x", 400),
        ] {
            let refusal = apply(Settings::new(), [change].into_iter()).unwrap_err();
            assert_eq!(refusal.status().as_u16(), status, "{change}");
        }
    }
}
