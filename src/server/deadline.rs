// SPDX-License-Identifier: Apache-2.0

//! Reads the time that a caller waits for its answer.

use std::time::Duration;

use tonic::metadata::MetadataMap;

use crate::chain::{DEFAULT_TIMEOUT, Reason, Result};

/// Header with the time that the caller waits.
const HEADER: &str = "grpc-timeout";
/// Longest time that a call may take, even if the caller allows more.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Time that a call may take: the value of `grpc-timeout`, [`DEFAULT_TIMEOUT`] without it, and
/// 60 s at most.
///
/// # Errors
/// `Invalid` if the header is not 1 to 8 digits and one of `H M S m u n`.
pub fn call_timeout(metadata: &MetadataMap) -> Result<Duration> {
    let Some(value) = metadata.get(HEADER) else { return Ok(DEFAULT_TIMEOUT) };
    let text = value.to_str().unwrap_or("(not ASCII)");
    parse(text).map(|time| time.min(MAX_TIMEOUT)).ok_or_else(|| {
        let text: String = text.chars().take(32).collect();
        Reason::Invalid(format!("{HEADER} is `{text}` (accepted: 1 to 8 digits and one of H M S m u n)"))
            .into()
    })
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_answer_by_the_table() {
        let read = |text: Option<&str>| {
            let mut metadata = MetadataMap::new();
            text.map(|text| metadata.insert(HEADER, text.parse().unwrap()));
            call_timeout(&metadata).map_err(|error| error.to_string())
        };
        let ms = Duration::from_millis;
        let good = [
            (None, ms(15_000)),
            (Some("14960m"), ms(14_960)),
            (Some("3S"), ms(3000)),
            (Some("1500000u"), ms(1500)),
            (Some("99999999n"), Duration::from_nanos(99_999_999)),
            (Some("0n"), ms(0)),
            (Some("1M"), ms(60_000)),
            (Some("61S"), ms(60_000)),
            (Some("99999999H"), ms(60_000)),
        ];
        for (text, expected) in good {
            assert_eq!(read(text), Ok(expected), "{text:?}");
        }
        for bad in ["", "S", "15", "15s", "-1S", "+1S", "1.5S", "123456789n", "1 S"] {
            let error = read(Some(bad)).unwrap_err();
            assert!(
                error.contains(&format!("grpc-timeout is `{bad}`")) && error.contains("1 to 8 digits"),
                "{error}"
            );
        }
    }
}
