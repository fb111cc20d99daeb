//! What a program is to somebody who has not got it yet: read from its bytes, which are validated and not compiled.

use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::offer::target_of;
use super::{Error, Kind, Source};

/// A program's outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its shape.
    pub kind: Kind,
    /// What it needs, if it is a component.
    pub imports: Vec<String>,
    /// What it offers, if it is a component.
    pub exports: Vec<String>,
    /// The world of WASI that it is made for, as its exports tell.
    pub target: Option<String>,
}

/// Describes a program.
pub fn describe(source: &Source) -> Result<Description, Error> {
    let invalid = |error: wasmparser::BinaryReaderError| Error::Invalid {
        source: super::shown(&error.to_string(), super::MAX_CAUSE).into(),
    };
    Validator::new_with_features(WasmFeatures::all()).validate_all(&source.bytes).map_err(invalid)?;
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    let parsed = if source.kind == Kind::Component { &source.bytes[..] } else { &[] };
    for payload in Parser::new(0).parse_all(parsed).take_while(|_| !parsed.is_empty()) {
        match payload.map_err(invalid)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let target = target_of(&exports);
    Ok(Description { kind: source.kind, imports, exports, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_components_outside_is_that_of_the_outermost() {
        let text = r#"(component
            (import "wasi:io/poll@0.2.3" (instance))
            (component (import "inner:one/x" (instance)))
            (core module (import "env" "f" (func)))
            (instance $run)
            (export "wasi:cli/run@0.2.3" (instance $run)))"#;
        let source = Source::try_from(wat::parse_str(text).unwrap()).unwrap();
        let described = describe(&source).unwrap();
        assert_eq!(described.imports, ["wasi:io/poll@0.2.3"]);
        assert_eq!(described.exports, ["wasi:cli/run@0.2.3"]);
        assert_eq!(described.target.as_deref(), Some("wasi:cli/command@0.2.3"));
    }

    #[test]
    fn a_module_has_no_outside_and_what_is_broken_is_refused() {
        let module = wat::parse_str(r#"(module (import "a" "b" (func)) (func (export "_start")))"#).unwrap();
        let described = describe(&Source::try_from(module.clone()).unwrap()).unwrap();
        assert_eq!(described, Description { kind: Kind::Module, imports: vec![], exports: vec![], target: None });
        let cut = module[..module.len() - 3].to_vec();
        assert!(matches!(describe(&Source::try_from(cut).unwrap()), Err(Error::Invalid { .. })));
    }
}
