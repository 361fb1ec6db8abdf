// SPDX-License-Identifier: Apache-2.0

//! Output for people: without control characters, and with colours if stdout is a terminal.

use std::{
    fmt::Display,
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
    #[cfg(test)]
    pub(super) const PLAIN: Style = Style { coloured: false };

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_peer_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
    }

    #[test]
    fn a_style_without_colours_prints_the_text_alone() {
        assert_eq!(Style::PLAIN.paint(Colour::Red, "down"), "down");
        assert_eq!(Style { coloured: true }.paint(Colour::Red, "down"), "\x1b[31mdown\x1b[0m");
    }
}
