//! What a component imports and exports by name, before it is compiled: what it is for decides how.

use wasmparser::{Chunk, Parser, Payload, Result};

/// The names at the outside of a component.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Names {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// The names of the component `bytes`. What is nested in it is passed over, so this takes no time of note.
pub(super) fn of(mut bytes: &[u8]) -> Result<Names> {
    let mut names = Names::default();
    let mut parser = Parser::new(0);
    loop {
        let Chunk::Parsed { consumed, payload } = parser.parse(bytes, true)? else { return Ok(names) };
        bytes = &bytes[consumed..];
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    names.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    names.exports.push(export?.name.name.to_owned());
                }
            }
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                bytes = bytes.get(unchecked_range.len()..).unwrap_or_default();
            }
            Payload::End(_) => return Ok(names),
            _ => {}
        }
    }
}
