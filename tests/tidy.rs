//! The rules of the house, as tests: who may import whom, and what may be said where.
//!
//! The import law is the table in `docs/architecture.md`; this file only reads it. Sources are read with comments
//! and literals blanked out, so that a word in prose never counts. The reading is lexical, not a parse: it
//! knows braces, paths and inline modules, which is all that the rules need.
//!
//! What it does not do: judge code inside of macros by their expansion, or follow re-exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAX_FILE_LINES: usize = 800;
const MAX_JUSTFILE_LINES: usize = 30;

/// One source file: where it is, what it says, and what is left without comments and literals.
struct Source {
    path: String,
    text: String,
    code: String,
}

/// A word that may be used only in some places.
struct Fence {
    what: &'static str,
    /// Matches a path like `std::env::var` or a macro like `println!`, by whole words at its start.
    words: &'static [&'static str],
    inside: &'static [&'static str],
}

const DOORS: &[&str] = &["src/cli", "src/daemon", "src/runtime", "src/main.rs", "shim/"];

const FENCES: &[Fence] = &[
    Fence { what: "unsafe code", words: &["unsafe"], inside: &["src/sys"] },
    // libc's constants may be named anywhere; its functions are `unsafe`, and so fenced in by the line above.
    Fence { what: "printing", words: &["println!", "eprintln!", "print!", "eprint!", "dbg!"], inside: DOORS },
    Fence { what: "ending the process", words: &["process::exit", "process::abort"], inside: DOORS },
    Fence {
        what: "the environment",
        words: &["env::var", "env::vars", "env::var_os", "env::vars_os", "env::args", "env::args_os"],
        inside: &["src/cli", "src/daemon", "src/runtime", "src/main.rs", "src/host", "src/config", "shim/"],
    },
    Fence {
        what: "wasmtime",
        words: &["wasmtime", "wasmtime_wasi"],
        inside: &["src/engine/wasm", "src/sys/wasm_code.rs"],
    },
    Fence { what: "clap", words: &["clap", "clap_complete"], inside: &["src/cli", "src/runtime", "src/main.rs"] },
    Fence { what: "the distribution client", words: &["oci_distribution"], inside: &["src/registry"] },
    Fence { what: "SQLite", words: &["rusqlite"], inside: &["src/state"] },
    Fence { what: "progress bars", words: &["indicatif"], inside: &["src/cli"] },
    Fence { what: "silencing a lint", words: &["#[allow", "#![allow"], inside: &[] },
    Fence { what: "unfinished work", words: &["todo!", "unimplemented!"], inside: &[] },
];

#[test]
fn every_import_is_allowed_by_the_table() {
    let law = import_law(&read("docs/architecture.md"));
    let mut faults = Vec::new();
    for source in sources() {
        let Some(room) = room_of(&source.path) else { continue };
        let Some(allowed) = law.get(room) else {
            faults.push(format!("{}: the room `{room}` has no line in the table", source.path));
            continue;
        };
        for import in imports(&source) {
            if import != room && law.contains_key(import.as_str()) && !allowed.contains(&import) {
                faults.push(format!("{}: `{room}` may not import `{import}`", source.path));
            }
        }
    }
    assert_clean(faults);
}

#[test]
fn words_stay_inside_their_fences() {
    let mut faults = Vec::new();
    for source in sources() {
        for fence in FENCES.iter().filter(|fence| !fence.inside.iter().any(|place| source.path.starts_with(place))) {
            for word in fence.words {
                for line in lines_with(&source.code, word) {
                    faults.push(format!(
                        "{}:{line}: {} (`{word}`) belongs in {:?}",
                        source.path, fence.what, fence.inside
                    ));
                }
            }
        }
    }
    assert_clean(faults);
}

#[test]
fn every_file_says_what_it_owns_and_is_short() {
    let mut faults = Vec::new();
    for Source { path, text, .. } in sources() {
        if !text.starts_with("//! ") {
            faults.push(format!("{path}: does not open with `//!`"));
        }
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES {
            faults.push(format!("{path}: {lines} lines, more than {MAX_FILE_LINES}"));
        }
        for mark in [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")] {
            if let Some(line) = lines_with(&text, mark).first() {
                faults.push(format!("{path}:{line}: says {mark}; file an issue instead"));
            }
        }
    }
    let just = read("justfile").lines().count();
    if just > MAX_JUSTFILE_LINES {
        faults.push(format!("justfile: {just} lines, more than {MAX_JUSTFILE_LINES}"));
    }
    assert_clean(faults);
}

#[test]
fn every_direct_dependency_has_its_motive() {
    let declared: BTreeSet<String> = ["Cargo.toml", "shim/Cargo.toml"]
        .iter()
        .flat_map(|manifest| dependencies(&read(manifest)))
        .filter(|name| name != "wherry")
        .collect();
    let explained: BTreeSet<String> = read("docs/dependencies.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();
    let unexplained =
        declared.difference(&explained).map(|name| format!("`{name}` has no line in docs/dependencies.md"));
    let stale = explained
        .difference(&declared)
        .map(|name| format!("docs/dependencies.md explains `{name}`, which is not used"));
    assert_clean(unexplained.chain(stale).collect());
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source() {
    let deny = read("deny.toml");
    let allowed: Vec<&str> = deny
        .split_once("\nallow = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .expect("deny.toml has a list of allowed licences")
        .0
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    let mut faults = Vec::new();
    for package in locked_packages() {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !licence_is_allowed(licence, &allowed) {
            faults.push(format!("{name}: licence `{licence}` is not in deny.toml"));
        }
        if package["source"].as_str().is_some_and(|source| !source.ends_with("/rust-lang/crates.io-index")) {
            faults.push(format!("{name}: comes from {}", package["source"]));
        }
    }
    assert_clean(faults);
}

// ---- the repository ----

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "shim/src"] {
        rust_files(&root().join(folder), &mut files);
    }
    files.sort();
    files
        .iter()
        .map(|file| {
            let path = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            let text = read(&path);
            let code = blank_prose(&text);
            Source { path, text, code }
        })
        .collect()
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn locked_packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// The names under every `[…dependencies]` heading of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with([' ', '#'])) {
            names.push(name.trim().split('.').next().unwrap_or_default().trim_matches('"').to_owned());
        }
    }
    names
}

fn assert_clean(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

// ---- the table of imports ----

/// Which rooms each room may import, from the table of the architecture.
fn import_law(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut law = BTreeMap::new();
    let rows = document.lines().skip_while(|line| *line != "| room | owns | may import |").skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [rooms, _, imports] = cells[..] else { panic!("a row of three cells: {row}") };
        let (named, everything) = match imports.strip_suffix("and the rooms above") {
            Some(named) => (named, true),
            None => (imports, false),
        };
        let mut allowed: BTreeSet<String> = named.split(' ').filter(|word| is_name(word)).map(str::to_owned).collect();
        if everything {
            allowed.extend(law.keys().cloned());
        }
        for room in rooms.trim_end_matches("(crate)").split(',') {
            law.insert(room.trim().to_owned(), allowed.clone());
        }
    }
    let known: BTreeSet<&String> = law.keys().collect();
    for (room, allowed) in &law {
        for name in allowed {
            assert!(known.contains(name), "`{room}` may import `{name}`, which is no room");
        }
    }
    assert!(law.len() > 20, "the table was not found");
    law
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The room that a file belongs to; none for the crate root, which only lists rooms.
fn room_of(path: &str) -> Option<&str> {
    if path.starts_with("shim/") {
        return Some("shim");
    }
    let first = path.strip_prefix("src/")?.split('/').next()?;
    let room = first.trim_end_matches(".rs");
    (room != "lib").then_some(room)
}

/// The rooms that a file names, by `crate::room`, `wherry::room` or `super::…::room`.
fn imports(source: &Source) -> BTreeSet<String> {
    let tokens = tokens(&source.code);
    let mut found = BTreeSet::new();
    let mut inline = Vec::new(); // for each open brace: does it open a module?
    for (at, token) in tokens.iter().enumerate() {
        let before = |n: usize| at.checked_sub(n).map_or("", |i| tokens[i]);
        match *token {
            "{" => inline.push(before(2) == "mod"),
            "}" => drop(inline.pop()),
            "crate" | "wherry" if before(1) != "::" && before(1) != "(" => rooms_after(&tokens[at + 1..], &mut found),
            "super" if before(1) != "::" => {
                let ups = tokens[at..].chunks(2).take_while(|pair| pair == &["super", "::"]).count();
                let depth = module_depth(&source.path) + inline.iter().filter(|is_module| **is_module).count();
                if ups >= depth {
                    rooms_after(&tokens[at + 2 * ups - 1..], &mut found);
                }
            }
            _ => {}
        }
    }
    found
}

/// The first names of `::a::b` or of `::{a::b, c, d::{e}}`.
fn rooms_after(tokens: &[&str], found: &mut BTreeSet<String>) {
    let [colons, rest @ ..] = tokens else { return };
    if *colons != "::" {
        return;
    }
    if rest.first() != Some(&"{") {
        found.extend(rest.first().map(|name| (*name).to_owned()));
        return;
    }
    let mut depth = 0;
    let mut first = false;
    for token in rest {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && first => drop(found.insert((*token).to_owned())),
            _ => {}
        }
        first = depth == 1 && matches!(*token, "{" | ",");
        if depth == 0 {
            return;
        }
    }
}

/// How many `super`s lead from this file to the root of the crate.
fn module_depth(path: &str) -> usize {
    let inner = path.trim_start_matches("shim/").trim_start_matches("src/");
    let parts = inner.split('/').count();
    if inner.ends_with("mod.rs") { parts - 1 } else { parts }
}

// ---- reading Rust, roughly ----

fn tokens(code: &str) -> Vec<&str> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        at += match bytes[at] {
            b if is_word(b) => bytes[at..].iter().take_while(|b| is_word(**b)).count(),
            b':' if bytes.get(at + 1) == Some(&b':') => 2,
            b => code[at..].chars().next().map_or(1, char::len_utf8).max(usize::from(b == 0)),
        };
        let token = code[start..at].trim();
        if !token.is_empty() {
            tokens.push(token);
        }
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The numbers of the lines where `word` stands on its own.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let ends_in_word = word.bytes().last().is_some_and(is_word);
    code.match_indices(word)
        .filter(|(at, _)| {
            let before = code[..*at].bytes().last();
            let after = code[at + word.len()..].bytes().next();
            !(word.bytes().next().is_some_and(is_word) && before.is_some_and(is_word)
                || ends_in_word && after.is_some_and(is_word))
        })
        .map(|(at, _)| code[..at].matches('\n').count() + 1)
        .collect()
}

/// The text with every comment, string and character literal turned into spaces; lines stay where they are.
fn blank_prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let prose = prose_length(rest, out.bytes().last().is_some_and(is_word));
        let (taken, keep) = if prose > 0 { (prose, false) } else { (first.len_utf8(), true) };
        out.extend(rest[..taken].chars().map(|c| if keep || c == '\n' { c } else { ' ' }));
        rest = &rest[taken..];
    }
    out
}

/// How many bytes of comment or literal `text` starts with.
fn prose_length(text: &str, after_word: bool) -> usize {
    let until = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment_length(text);
    }
    if !after_word {
        let unprefixed = text.trim_start_matches(['b', 'c']);
        let prefix = text.len() - unprefixed.len();
        if prefix <= 1 && unprefixed.starts_with('r') {
            let hashes = unprefixed[1..].bytes().take_while(|b| *b == b'#').count();
            if unprefixed[1 + hashes..].starts_with('"') {
                return until(prefix + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
            }
        }
    }
    match text.as_bytes()[0] {
        b'"' => quoted_length(text, b'"'),
        // 'a' and '\n' are characters, 'a without a closing quote is a lifetime.
        b'\'' if text[1..].starts_with('\\') => quoted_length(text, b'\''),
        b'\'' => match text[1..].chars().next() {
            Some(c) if text[1 + c.len_utf8()..].starts_with('\'') => c.len_utf8() + 2,
            _ => 0,
        },
        _ => 0,
    }
}

fn quoted_length(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn block_comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is an old way to write OR.
fn licence_is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced =
        expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "\u{a0}WITH\u{a0}");
    let words: Vec<String> =
        spaced.split([' ', '\n']).filter(|word| !word.is_empty()).map(|word| word.replace('\u{a0}', " ")).collect();
    let mut at = 0;
    let verdict = any_of(&words, &mut at, allowed);
    verdict && at == words.len()
}

fn any_of(words: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let mut verdict = all_of(words, at, allowed);
    while words.get(*at).is_some_and(|word| word == "OR") {
        *at += 1;
        verdict |= all_of(words, at, allowed);
    }
    verdict
}

fn all_of(words: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let mut verdict = one_licence(words, at, allowed);
    while words.get(*at).is_some_and(|word| word == "AND") {
        *at += 1;
        verdict &= one_licence(words, at, allowed);
    }
    verdict
}

fn one_licence(words: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if word != "(" {
        return allowed.contains(&word.as_str());
    }
    let verdict = any_of(words, at, allowed);
    *at += 1; // the closing parenthesis
    verdict
}

// ---- the rules are themselves tried ----

#[test]
fn imports_are_found_and_prose_is_not() {
    let text = r##"
        //! crate::prose is not an import
        use crate::{alpha::One, beta, gamma::{delta, Two}};
        fn f<'a>(x: &'a str) -> char { let _s = "crate::text"; let _r = r#"crate::raw " "#; crate::epsilon::go(); '"' }
        /* crate::block /* nested */ crate::still */
        pub(crate) fn g() {}
        mod tests { use super::super::zeta; use super::inner; }
    "##;
    let source = Source { path: "src/room/file.rs".into(), text: text.into(), code: blank_prose(text) };
    let found: Vec<String> = imports(&source).into_iter().collect();
    assert_eq!(found, ["alpha", "beta", "epsilon", "gamma"]);
    let shallow = Source { path: "src/room.rs".into(), ..source };
    assert!(imports(&shallow).contains("zeta"));
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
    for (expression, verdict) in [
        ("MIT", true),
        ("MIT/GPL-3.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT AND (GPL-3.0 OR LGPL-2.1)", false),
        ("", false),
    ] {
        assert_eq!(licence_is_allowed(expression, &allowed), verdict, "{expression}");
    }
}
