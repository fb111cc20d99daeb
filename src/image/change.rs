//! `--change` of `commit` and `import`: instructions of a Dockerfile that change a config. Pure.

use serde_json::{Map, Value, json};

use super::healthcheck;
use crate::error::{Failure, Kind};

/// An instruction that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Invalid {
    #[error("{word} is not a valid change command")]
    Word { word: String },
    #[error("{word} requires at least one argument")]
    Empty { word: String },
    #[error("invalid change {line:?}: {why}")]
    Form { line: String, why: &'static str },
    #[error("invalid containerPort: {port}")]
    Port { port: String },
    #[error("{why}")]
    Healthcheck { why: String },
}

impl Failure for Invalid {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// What may be changed.
const WORDS: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The most ports of one range.
const MAX_PORTS: u16 = 1024;

/// Changes the `config` object of an image's config as an instruction says.
pub fn apply(config: &mut Map<String, Value>, line: &str) -> Result<(), Invalid> {
    let trimmed = line.trim();
    let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    if !WORDS.contains(&word.as_str()) {
        return Err(Invalid::Word { word });
    }
    if rest.is_empty() {
        return Err(Invalid::Empty { word });
    }
    match word.as_str() {
        "CMD" => set(config, "Cmd", json!(command(config, rest))),
        "ENTRYPOINT" => {
            set(config, "Entrypoint", json!(command(config, rest)));
            // As docker has it: the image's arguments were another entry point's.
            config.remove("Cmd");
        }
        "ENV" => {
            for (name, value) in pairs(line, rest)? {
                variable(config, &name, &value);
            }
        }
        "LABEL" => {
            for (name, value) in pairs(line, rest)? {
                object(config, "Labels").insert(name, Value::String(value));
            }
        }
        "HEALTHCHECK" => {
            let check = healthcheck::parse(rest).map_err(|why| Invalid::Healthcheck { why })?;
            set(config, "Healthcheck", check);
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                for port in ports(port)? {
                    object(config, "ExposedPorts").insert(port, json!({}));
                }
            }
        }
        "VOLUME" => {
            let list = list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            for path in list {
                object(config, "Volumes").insert(path, json!({}));
            }
        }
        "ONBUILD" => match config.entry("OnBuild").or_insert_with(|| json!([])) {
            Value::Array(all) => all.push(json!(rest)),
            other => *other = json!([rest]),
        },
        "STOPSIGNAL" => set(config, "StopSignal", json!(rest)),
        "USER" => set(config, "User", json!(rest)),
        _ => {
            let path = workdir(config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/"), rest);
            set(config, "WorkingDir", json!(path));
        }
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        // Go writes a map that was never made as null.
        *value = json!({});
    }
    value.as_object_mut().expect("it was made one")
}

/// A JSON list of strings, if it is one.
fn list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok())?
}

/// A command in either form.
fn command(config: &Map<String, Value>, text: &str) -> Vec<String> {
    if let Some(list) = list(text) {
        return list;
    }
    let shell = config.get("Shell").and_then(Value::as_array);
    let shell: Vec<String> = shell.into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned())).collect();
    let shell = if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell };
    shell.into_iter().chain([text.to_owned()]).collect()
}

fn variable(config: &mut Map<String, Value>, name: &str, value: &str) {
    let prefix = format!("{name}=");
    let new = json!(format!("{prefix}{value}"));
    let env = config.entry("Env").or_insert_with(|| json!([]));
    if !env.is_array() {
        *env = json!([]);
    }
    let env = env.as_array_mut().expect("it was made one");
    match env.iter_mut().find(|known| known.as_str().is_some_and(|known| known.starts_with(&prefix))) {
        Some(known) => *known = new,
        None => env.push(new),
    }
}

/// `NAME=value NAME="a value"`, or in the old form `NAME a value`.
fn pairs(line: &str, text: &str) -> Result<Vec<(String, String)>, Invalid> {
    let form = |why| Invalid::Form { line: line.to_owned(), why };
    let words = words(text).ok_or_else(|| form("a quote is not closed"))?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace).ok_or_else(|| form("it has no value"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| {
        let (name, value) = word.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    words.into_iter().map(|word| pair(word).ok_or_else(|| form("expected NAME=value"))).collect()
}

/// Words as a Dockerfile has them: quotes keep spaces, a backslash keeps what follows. `None` for a quote that stays open.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), letter) if open == letter => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// `80`, `53/udp`, `8000-8002/tcp`.
fn ports(text: &str) -> Result<Vec<String>, Invalid> {
    let invalid = || Invalid::Port { port: text.to_owned() };
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if first == 0 || last < first || last - first >= MAX_PORTS {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A directory, in the one that it is relative to.
fn workdir(from: &str, to: &str) -> String {
    let whole = if to.starts_with('/') { to.to_owned() } else { format!("{from}/{to}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(lines: &[&str]) -> Value {
        let mut config = json!({"Cmd": ["old"], "Env": ["A=0"], "WorkingDir": "/srv"}).as_object().unwrap().clone();
        for line in lines {
            apply(&mut config, line).unwrap();
        }
        Value::Object(config)
    }

    #[test]
    fn instructions() {
        assert_eq!(changed(&[r#"CMD ["a", "b c"]"#])["Cmd"], json!(["a", "b c"]));
        assert_eq!(changed(&["cmd echo hi"])["Cmd"], json!(["/bin/sh", "-c", "echo hi"]));
        let entry = changed(&[r#"ENTRYPOINT ["/x"]"#]);
        assert_eq!((&entry["Entrypoint"], entry.get("Cmd")), (&json!(["/x"]), None));
        let env = changed(&[r#"ENV A=1 B="two words" C=a\ b"#, "ENV D the rest of it"]);
        assert_eq!(env["Env"], json!(["A=1", "B=two words", "C=a b", "D=the rest of it"]));
        assert_eq!(changed(&["LABEL a=1 'b c'=2"])["Labels"], json!({"a": "1", "b c": "2"}));
        let ports = changed(&["EXPOSE 80 53/UDP 8000-8002"]);
        assert_eq!(
            ports["ExposedPorts"].as_object().unwrap().keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        assert_eq!(
            changed(&["VOLUME /a /b", r#"VOLUME ["/c d"]"#])["Volumes"],
            json!({"/a": {}, "/b": {}, "/c d": {}})
        );
        assert_eq!(changed(&["HEALTHCHECK CMD x", "healthcheck none"])["Healthcheck"], json!({"Test": ["NONE"]}));
        assert_eq!(changed(&["ONBUILD RUN x", "ONBUILD RUN y"])["OnBuild"], json!(["RUN x", "RUN y"]));
        assert_eq!(changed(&["WORKDIR a/../b"])["WorkingDir"], "/srv/b");
        assert_eq!(changed(&["WORKDIR /x", "USER ada", "STOPSIGNAL SIGINT"])["User"], "ada");
    }

    #[test]
    fn what_is_no_instruction_is_said() {
        for (line, says) in [
            ("RUN x", "RUN is not a valid change command"),
            ("", "is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "no value"),
            ("ENV A=\"x", "not closed"),
            ("ENV A=1 B", "expected NAME=value"),
            ("EXPOSE 0", "invalid containerPort: 0"),
            ("EXPOSE 80/xyz", "invalid containerPort"),
            ("EXPOSE 1-60000", "invalid containerPort"),
            ("EXPOSE http", "invalid containerPort"),
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ] {
            let error = apply(&mut Map::new(), line).unwrap_err().to_string();
            assert!(error.contains(says), "{line:?}: {error}");
        }
    }
}
