//! Changing the policy that is in force, as `podman image trust set` does: one scope's requirements are replaced, and
//! all else in the file stays.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::check::key;
use super::error::{Error, InvalidPolicy, Result};
use super::policy::{Material, Policy, REGISTRIES};
use super::{Guard, place, scope};

/// What is to be required of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Accept,
    /// It is not admitted.
    Reject,
    /// A signature by one of the keys in these files.
    Signed {
        /// The files, by absolute paths.
        keys: Vec<PathBuf>,
        /// Whether any name in the repository will do: cosign's signatures name no tag.
        whole_repository: bool,
    },
}

impl Change {
    /// The requirements, as they are written.
    fn written(&self) -> Value {
        match self {
            Self::Accept => json!([{"type": "insecureAcceptAnything"}]),
            Self::Reject => json!([{"type": "reject"}]),
            Self::Signed { keys, whole_repository } => {
                let mut requirement = Map::from_iter([("type".to_owned(), "sigstoreSigned".into())]);
                match &keys[..] {
                    [key] => requirement.insert("keyPath".to_owned(), json!(key)),
                    keys => requirement.insert("keyPaths".to_owned(), json!(keys)),
                };
                if *whole_repository {
                    requirement.insert("signedIdentity".to_owned(), json!({"type": "matchRepository"}));
                }
                json!([requirement])
            }
        }
    }
}

impl Guard {
    /// Changes what is required of `scope`, or of everything else if it is `default`. The file that was written.
    pub fn set(&self, scope: &str, change: &Change) -> Result<PathBuf> {
        let path = if self.named { None } else { place::in_force(&self.places) };
        let path = path.or(self.places.first().map(PathBuf::as_path)).ok_or(Error::NoPlace)?;
        let invalid = |source| Error::Policy { path: path.to_owned(), source };
        if scope != "default" {
            scope::check(scope).map_err(invalid)?;
        }
        if let Change::Signed { keys, .. } = change {
            keys.iter().try_for_each(|path| key(&Material::Path(path.clone())).map(drop))?;
        }
        let _held = place::hold(path)?;
        let old = if place::in_force(&[path.to_owned()]).is_some() { Some(place::read(path)?) } else { None };
        // Nothing is made of what is not understood.
        old.as_deref().map(Policy::parse).transpose().map_err(invalid)?;
        let bytes = changed(old.as_deref(), scope, change).map_err(invalid)?;
        Policy::parse(&bytes).map_err(invalid)?;
        place::replace(path, &bytes)?;
        Ok(path.to_owned())
    }
}

/// The policy with one scope changed; a new one accepts what it says nothing about, as no policy does.
fn changed(old: Option<&[u8]>, scope: &str, change: &Change) -> std::result::Result<Vec<u8>, InvalidPolicy> {
    let mut policy: Map<String, Value> = match old {
        Some(bytes) => serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(bytes))?,
        None => Map::from_iter([("default".to_owned(), Change::Accept.written())]),
    };
    if scope == "default" {
        policy.insert("default".to_owned(), change.written());
    } else {
        let inner = |value: &mut Value, name: &str| {
            if value.get(name).is_none_or(Value::is_null) {
                value[name] = json!({});
            }
        };
        let mut whole = Value::Object(policy);
        inner(&mut whole, "transports");
        inner(&mut whole["transports"], REGISTRIES);
        whole["transports"][REGISTRIES][scope] = change.written();
        let Value::Object(done) = whole else { unreachable!("it was made an object above") };
        policy = done;
    }
    let mut text = serde_json::to_vec_pretty(&policy).expect("values can be written");
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: Option<&str>, scope: &str, change: &Change) -> Value {
        let bytes = changed(old.map(str::as_bytes), scope, change).unwrap();
        Policy::parse(&bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn what_is_not_changed_stays() {
        let old = r#"{"default":[{"type":"reject"}],"transports":{"docker":{"r.io":[{"type":"reject"}]},"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}"#;
        let new = change(Some(old), "s.io/a", &Change::Accept);
        let mut expected: Value = serde_json::from_str(old).unwrap();
        expected["transports"]["docker"]["s.io/a"] = json!([{"type": "insecureAcceptAnything"}]);
        assert_eq!(new, expected);
        let signed = Change::Signed { keys: vec!["/k".into()], whole_repository: true };
        let new = change(Some(old), "r.io", &signed);
        assert_eq!(new["transports"]["docker"]["r.io"][0]["signedIdentity"]["type"], "matchRepository");
        assert_eq!(change(Some(old), "default", &Change::Accept)["default"][0]["type"], "insecureAcceptAnything");
    }

    #[test]
    fn a_new_policy_accepts_the_rest() {
        let new = change(None, "r.io", &Change::Reject);
        assert_eq!(new["default"], json!([{"type": "insecureAcceptAnything"}]));
        assert_eq!(new["transports"]["docker"]["r.io"], json!([{"type": "reject"}]));
        let null = change(Some(r#"{"default":[{"type":"reject"}],"transports":null}"#), "r.io", &Change::Reject);
        assert_eq!(null["transports"]["docker"]["r.io"], json!([{"type": "reject"}]));
    }

    #[test]
    fn a_broken_policy_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        let guard = Guard::named(path.clone());
        assert_eq!(guard.set("r.io", &Change::Reject).unwrap(), path);
        std::fs::write(&path, "{broken").unwrap();
        assert!(guard.set("r.io", &Change::Accept).is_err());
        assert!(guard.set("alpine", &Change::Accept).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{broken");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
