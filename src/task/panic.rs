// SPDX-License-Identifier: Apache-2.0

//! Reads the message of a panic.

use std::any::Any;

/// The message of a panic; `None` if its payload is not a text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_are_messages() {
        assert_eq!(panic_message(&"fixed"), Some("fixed"));
        assert_eq!(panic_message(&"formatted".to_owned()), Some("formatted"));
        assert_eq!(panic_message(&7), None);
    }
}
