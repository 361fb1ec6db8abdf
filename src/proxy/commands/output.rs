// SPDX-License-Identifier: Apache-2.0

//! Output for people: aligned columns without control characters, and colours if stdout is a
//! terminal.

use std::{
    fmt::{self, Display, Write},
    io::{self, IsTerminal},
};

/// A colour of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Well.
    Green,
    /// Worse than it should be.
    Yellow,
    /// Broken.
    Red,
}

/// The style of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    coloured: bool,
}

impl Style {
    /// Without colours.
    pub(super) const PLAIN: Style = Style { coloured: false };
    /// With colours.
    #[cfg(test)]
    pub(super) const COLOURED: Style = Style { coloured: true };

    /// With colours if stdout is a terminal.
    pub(super) fn of_stdout() -> Self {
        Self { coloured: io::stdout().is_terminal() }
    }

    /// A text in a colour.
    pub(super) fn paint(self, colour: Colour, text: impl Display) -> String {
        let number = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
        };
        if self.coloured { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// A text on one line, without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

/// A cell. Control characters, which may come from a peer, are replaced.
pub(super) fn cell(text: impl Display) -> Cell {
    Cell { text: printable(&text.to_string()), colour: None }
}

impl Cell {
    /// The cell in a colour.
    pub(super) fn painted(self, colour: Colour) -> Self {
        Self { colour: Some(colour), ..self }
    }
}

/// Rows of cells, printed in columns that are as wide as their widest cell.
#[derive(Debug)]
pub(super) struct Table {
    style: Style,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(super) const fn new(style: Style) -> Self {
        Self { style, rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// Adds the names of the columns.
    pub(super) fn head<const N: usize>(&mut self, names: [&str; N]) {
        self.row(names.map(cell));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count()).max()
        };
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.text.chars().count();
                match cell.colour {
                    Some(colour) => line.push_str(&self.style.paint(colour, &cell.text)),
                    None => line.push_str(&cell.text),
                }
                write!(line, "{:1$}", "", padding + 2)?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        for style in [Style::PLAIN, Style::COLOURED] {
            let mut table = Table::new(style);
            table.head(["NAME", "STATE"]);
            table.row([cell("a").painted(Colour::Red), cell("bröken")]);
            table.row([cell("longer"), cell("")]);
            let text = table.to_string().replace("\x1b[31m", "").replace("\x1b[0m", "");
            assert_eq!(text, "NAME    STATE\na       bröken\nlonger\n");
        }
    }

    #[test]
    fn control_characters_of_a_peer_do_not_reach_the_terminal() {
        let mut table = Table::new(Style::PLAIN);
        table.row([cell("a\x1b[31m\nb")]);
        assert_eq!(table.to_string(), "a\u{fffd}[31m\u{fffd}b\n");
    }

    #[test]
    fn a_style_without_colours_prints_the_text_alone() {
        assert_eq!(Style::PLAIN.paint(Colour::Red, "down"), "down");
        assert_eq!(Style::COLOURED.paint(Colour::Red, "down"), "\x1b[31mdown\x1b[0m");
    }
}
