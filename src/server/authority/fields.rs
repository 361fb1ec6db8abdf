// SPDX-License-Identifier: Apache-2.0

//! Follows a field block (HPACK, RFC 7541), as far as that needs no table.

/// Name of the field, and its index in the static table.
const AUTHORITY: &[u8] = b":authority";
const INDEX: u32 = 1;

/// Maximum number of bits of an integer. Beyond it, the library refuses the block, too.
const MAX_INTEGER_BITS: u32 = 28;

/// A field block, which may be in several frames.
#[derive(Default)]
pub(super) struct Fields {
    at: At,
    /// The string being read has Huffman coding.
    coded: bool,
    /// The field being read is the authority, so far.
    authority: bool,
    /// Within the brackets of an IPv6 address, where a `%` is accepted.
    bracketed: bool,
}

/// The part of a field to which the next byte belongs.
#[derive(Clone, Copy, Default)]
enum At {
    #[default]
    Field,
    /// An integer: its value so far, and the bits of that.
    Integer(u32, u32, Meaning),
    NameLength,
    /// A name: bytes read, and bytes left.
    Name(usize, u32),
    ValueLength,
    /// A value: bytes left.
    Value(u32),
    /// Malformed: the library will refuse it.
    Lost,
}

/// The meaning of an integer.
#[derive(Clone, Copy)]
enum Meaning {
    /// A whole field, or the size of the table.
    Field,
    /// The index of a name; 0 if the name follows.
    Name,
    NameLength,
    ValueLength,
}

impl Fields {
    /// Follows some bytes of the block, and changes those of the authority.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.at = self.step(byte);
        }
    }

    fn step(&mut self, byte: &mut u8) -> At {
        match self.at {
            At::Field => match *byte {
                0x80.. => self.integer(*byte, 7, Meaning::Field),
                0x40.. => self.integer(*byte, 6, Meaning::Name),
                0x20.. => self.integer(*byte, 5, Meaning::Field),
                _ => self.integer(*byte, 4, Meaning::Name),
            },
            At::Integer(_, MAX_INTEGER_BITS.., _) | At::Lost => At::Lost,
            At::Integer(value, bits, meaning) => {
                let value = value + (u32::from(*byte & 0x7f) << bits);
                match *byte & 0x80 {
                    0 => self.read(value, meaning),
                    _ => At::Integer(value, bits + 7, meaning),
                }
            }
            At::NameLength => self.length(*byte, Meaning::NameLength),
            At::ValueLength => self.length(*byte, Meaning::ValueLength),
            At::Name(read, left) => {
                self.authority &= AUTHORITY.get(read) == Some(byte);
                if left > 1 { At::Name(read + 1, left - 1) } else { At::ValueLength }
            }
            At::Value(left) => {
                self.value(byte);
                if left > 1 { At::Value(left - 1) } else { At::Field }
            }
        }
    }

    /// The first byte of an integer, in its last `bits`.
    fn integer(&mut self, byte: u8, bits: u32, meaning: Meaning) -> At {
        let all = (1 << bits) - 1;
        match u32::from(byte) & all {
            value if value == all => At::Integer(all, 0, meaning),
            value => self.read(value, meaning),
        }
    }

    /// The first byte of a string's length.
    fn length(&mut self, byte: u8, meaning: Meaning) -> At {
        self.coded = byte & 0x80 != 0;
        self.integer(byte, 7, meaning)
    }

    /// The part after an integer.
    fn read(&mut self, value: u32, meaning: Meaning) -> At {
        match meaning {
            Meaning::Field => At::Field,
            Meaning::Name if value == 0 => At::NameLength,
            Meaning::Name => {
                self.authority = value == INDEX;
                At::ValueLength
            }
            Meaning::NameLength => {
                self.authority = !self.coded && value as usize == AUTHORITY.len();
                if value > 0 { At::Name(0, value) } else { At::ValueLength }
            }
            Meaning::ValueLength => {
                self.bracketed = false;
                if value > 0 { At::Value(value) } else { At::Field }
            }
        }
    }

    fn value(&mut self, byte: &mut u8) {
        match *byte {
            _ if !self.authority || self.coded => {}
            b'[' => self.bracketed = true,
            b']' => self.bracketed = false,
            b'%' if !self.bracketed => *byte = b'-',
            _ => {}
        }
    }
}
