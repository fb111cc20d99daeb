//! The part of Go's templates that scripts use with `--format`: `{{.A.B}}`, `{{json .A}}`, `{{.}}`, and text
//! around them. Everything else is refused by name rather than printed wrongly.

use serde_json::Value;

use crate::error::{Failure, Kind};

/// The fields that are maps with any keys.
const MAPS: [&str; 2] = ["Attributes", "Labels"];

/// A parsed template.
#[derive(Debug)]
pub struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not one of the forms.
    #[error("template parsing error: {action:?} is not offered: use {{{{.Field.Field}}}} or {{{{json .Field}}}}")]
    Action {
        /// What is between the braces.
        action: String,
    },
    /// A brace has no other.
    #[error("template parsing error: unclosed action")]
    Unclosed,
    /// There is no such field.
    #[error("template: can't evaluate field {field}")]
    NoField {
        /// Its name.
        field: String,
    },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

impl Template {
    /// Parses `text`, in which `\\t` and `\\n` are what they look like.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let unescaped = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut rest = unescaped.as_str();
        let mut pieces = Vec::new();
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or(Error::Unclosed)?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(field(action.trim())?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// Fills it in from `value`.
    pub fn render(&self, value: &Value) -> Result<String, Error> {
        self.0.iter().map(|piece| piece.render(value)).collect()
    }
}

fn field(action: &str) -> Result<Piece, Error> {
    let (json, path) = action.strip_prefix("json ").map_or((false, action), |path| (true, path.trim()));
    let refuse = || Error::Action { action: action.to_owned() };
    let path = path.strip_prefix('.').ok_or_else(refuse)?;
    let names: Vec<String> = path.split('.').filter(|n| !n.is_empty()).map(str::to_owned).collect();
    let plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if names.iter().all(plain) { Ok(Piece::Field { path: names, json }) } else { Err(refuse()) }
}

impl Piece {
    fn render(&self, value: &Value) -> Result<String, Error> {
        let (path, json) = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::Field { path, json } => (path, *json),
        };
        let mut found = value.clone();
        let mut of_map = false;
        for name in path {
            found = match found.get(name) {
                Some(field) => field.clone(),
                // What Go prints of a map that has no such key; of anything else it is a mistake.
                None if of_map => Value::from("<no value>"),
                None => return Err(Error::NoField { field: name.clone() }),
            };
            of_map = MAPS.contains(&name.as_str());
        }
        Ok(match found {
            Value::String(text) if !json => text,
            Value::Null if !json => "<nil>".to_owned(),
            // Go prints lists in brackets, without commas.
            Value::Array(items) if !json => {
                let words = items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned));
                format!("[{}]", words.collect::<Vec<_>>().join(" "))
            }
            other => other.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let value = serde_json::json!({"A": {"B": 3, "L": ["x", "y"]}, "S": "text"});
        let render = |t: &str| Template::parse(t).and_then(|t| t.render(&value)).map_err(|e| e.to_string());
        assert_eq!(render("{{.A.B}}-{{ .S }}\\t!").unwrap(), "3-text\t!");
        assert_eq!(render("{{json .S}} {{.A.L}} {{json .A.L}}").unwrap(), "\"text\" [x y] [\"x\",\"y\"]");
        let event = serde_json::json!({"Attributes": {"name": "x"}});
        let of_event = |t: &str| Template::parse(t).unwrap().render(&event).unwrap();
        assert_eq!(of_event("{{.Attributes.name}} {{.Attributes.trap}}"), "x <no value>");
        for (bad, says) in [("{{range .A}}", "range"), ("{{.A", "unclosed"), ("{{.Nope}}", "Nope")] {
            assert!(render(bad).unwrap_err().contains(says), "{bad}");
        }
    }
}
