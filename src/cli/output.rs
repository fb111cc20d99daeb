//! Writing to standard output: in one piece, and without a panic when the reader has gone.

use std::io::{ErrorKind, Write};

use crate::error::{Failure, Kind};

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

/// `text` without what a terminal would obey: an image, a registry or a container chose parts of it.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A table as Docker lays it out: every column as wide as its widest cell and three spaces more, at
/// least ten characters, the last one as it comes.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    const GAP: usize = 3;
    const NARROWEST: usize = 10;
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]);
        (cells.max().unwrap_or(0) + GAP).max(NARROWEST)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let last = cells.len() - 1;
        let padded = cells.iter().enumerate().map(|(at, cell)| match at {
            at if at == last => (*cell).to_owned(),
            at => format!("{cell:width$}", width = widths[at]),
        });
        padded.collect::<String>() + "\n"
    };
    let header = line(header.to_vec());
    rows.iter().fold(header, |text, row| text + &line(row.iter().map(String::as_str).collect()))
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
