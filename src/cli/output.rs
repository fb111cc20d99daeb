//! Writing to standard output: in one piece, and without a panic when the reader has gone.

use std::io::{BufRead, ErrorKind, Read, Write};

use serde_json::Value;

use crate::error::{Failure, Kind, tolerate};

/// The longest answer to a question that is read.
const MAX_ANSWER: u64 = 64;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct Error {
    source: std::io::Error,
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// Writes `text` to standard output. A reader that has gone (`wherry images | head -1`) has seen
/// enough, which is no failure.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => Err(Error { source }),
        _ => Ok(()),
    }
}

/// Asks whether to go on. Only a yes is one.
pub fn confirmed(warning: &str) -> Result<bool, Error> {
    print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    // What cannot be read is no yes.
    tolerate(std::io::stdin().lock().take(MAX_ANSWER).read_line(&mut answer));
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `text` without what a terminal would obey: an image, a registry or a container chose parts of it.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Whether a terminal takes a character for a command, or for one to show others in another order (UAX #9).
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character has a meaning in HTML, or ends a line in JavaScript: Go never leaves these in JSON.
fn is_special(c: char) -> bool {
    matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

/// JSON as Docker prints it: within its strings nothing that a terminal would obey, or HTML.
pub fn json(value: &Value) -> String {
    escaped(&value.to_string(), |c| is_obeyed(c) || is_special(c))
}

/// The same for the `json` of a template, which leaves alone what is special in HTML.
pub fn plain_json(value: &Value) -> String {
    escaped(&value.to_string(), is_obeyed)
}

/// The same on many lines, indented by four spaces.
pub fn indented(value: &Value) -> String {
    let text = escaped(&format!("{value:#}"), |c| c != '\n' && (is_obeyed(c) || is_special(c)));
    // No string has a line break in it: what a line begins with is its indentation, of two spaces for each level.
    text.lines().map(|line| format!("{:width$}{line}\n", "", width = line.len() - line.trim_start().len())).collect()
}

/// JSON with some characters, which are all within strings, written as their numbers.
fn escaped(json: &str, special: impl Fn(char) -> bool) -> String {
    let escape = |c: char| if special(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escape).collect()
}

/// The spaces between columns, and the least that a column has.
const GAP: usize = 3;
const NARROWEST: usize = 10;

/// A table as Docker lays it out: every column as wide as its widest cell and three spaces more, at
/// least ten characters, the last one as it comes.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    // A tab in a cell would begin another column, and a line break another row.
    let line =
        |row: &Vec<String>| row.iter().map(|cell| cell.replace(['\t', '\n'], " ")).collect::<Vec<_>>().join("\t");
    aligned([header.join("\t")].into_iter().chain(rows.iter().map(line)))
}

/// A table of some fields of rows, under their headings.
pub fn columns(rows: &[Value], columns: &[(&str, &str)]) -> String {
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|(field, _)| cell(row, field)).collect()).collect();
    table(&columns.iter().map(|(_, heading)| *heading).collect::<Vec<_>>(), &cells)
}

/// Lines whose cells are separated by tabs, laid out as Docker lays out a table of chosen columns.
pub fn aligned(lines: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<String> = lines.into_iter().collect();
    let rows: Vec<Vec<String>> = lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| (width(column).unwrap_or(0) + GAP).max(NARROWEST)).collect();
    let line = |row: &Vec<String>| {
        let last = row.len() - 1;
        let cells = row.iter().enumerate().map(|(at, cell)| match at {
            at if at == last => cell.clone(),
            at => format!("{cell:width$}", width = widths[at]),
        });
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_harmless_and_still_the_same() {
        let value = serde_json::json!({"a<b>": ["\u{1b}[2J\u{9b}2J\u{7f}\u{2028}\u{202e}&", {"k": []}]});
        for text in [json(&value), indented(&value), plain_json(&value)] {
            assert!(!text.chars().any(|c| is_obeyed(c) && c != '\n'), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        assert!(json(&value).starts_with("{\"a\\u003cb\\u003e\":[\"\\u001b[2J\\u009b2J"), "{}", json(&value));
        assert!(plain_json(&value).contains("a<b>"));
        assert!(indented(&value).starts_with("{\n    \"a\\u003cb\\u003e\": [\n        \""), "{}", indented(&value));
    }

    #[test]
    fn columns_fit_their_widest_cell() {
        let rows = vec![vec!["a-rather-long-name".to_owned(), "1".to_owned(), "x".to_owned()]];
        assert_eq!(
            table(&["NAME", "N", "LAST"], &rows),
            "NAME                 N         LAST\na-rather-long-name   1         x\n"
        );
    }
}
