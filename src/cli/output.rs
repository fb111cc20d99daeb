//! Writing to standard output: in one piece, and without a panic when the reader has gone.

use std::io::{BufRead, ErrorKind, Read, Write};

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
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The spaces between columns, and the least that a column has.
const GAP: usize = 3;
const NARROWEST: usize = 10;

/// A table as Docker lays it out: every column as wide as its widest cell and three spaces more, at
/// least ten characters, the last one as it comes.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    // A tab in a cell would begin another column.
    let line = |row: &Vec<String>| row.iter().map(|cell| cell.replace('\t', " ")).collect::<Vec<_>>().join("\t");
    aligned([header.join("\t")].into_iter().chain(rows.iter().map(line)))
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
    fn columns_fit_their_widest_cell() {
        let rows = vec![vec!["a-rather-long-name".to_owned(), "1".to_owned(), "x".to_owned()]];
        assert_eq!(
            table(&["NAME", "N", "LAST"], &rows),
            "NAME                 N         LAST\na-rather-long-name   1         x\n"
        );
    }
}
