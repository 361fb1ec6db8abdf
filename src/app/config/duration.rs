// SPDX-License-Identifier: Apache-2.0
//! Parses durations as Go's `time.ParseDuration` does, bit for bit.
//!
//! Manifests are written for a Go program, so `1m30s`, `1.5h`, `.5s`, `+3s`, `1µs` and `0` must
//! have the same meaning here. The result is in nanoseconds and may be negative; the caller decides
//! whether that is accepted.

/// The reason why a text is not a Go duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A number is missing: the text is empty, or has a sign or a unit alone. Write `5s`.
    #[error("number missing")]
    NumberMissing,
    /// A number has no unit. Only `0` may stand alone.
    #[error("unit missing")]
    UnitMissing,
    /// A unit is not one of `ns`, `us`, `µs`, `ms`, `s`, `m`, `h`. There are no days in Go.
    #[error("unknown unit")]
    UnknownUnit,
    /// The duration does not fit into 63 bits of nanoseconds, about 292 years.
    #[error("out of range")]
    OutOfRange,
}

use InvalidDuration::{NumberMissing, OutOfRange, UnitMissing, UnknownUnit};

/// 2⁶³: the largest magnitude while parsing; only a negative result may reach it.
const LIMIT: u64 = 1 << 63;

/// Nanoseconds of a Go duration such as `1h15m30.918s`.
///
/// # Errors
/// [`InvalidDuration`] for exactly those texts that Go refuses.
///
/// ```
/// # use nsm::app::config::parse_duration;
/// assert_eq!(parse_duration("1m30s"), Ok(90_000_000_000));
/// assert_eq!(parse_duration("-1.5h"), Ok(-5_400_000_000_000));
/// assert!(parse_duration("1d").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<i64, InvalidDuration> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(NumberMissing);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = term(rest)?;
        total = total.checked_add(nanos).filter(|total| *total <= LIMIT).ok_or(OutOfRange)?;
        rest = after;
    }
    match (negative, total) {
        (true, LIMIT) => Ok(i64::MIN),
        (true, total) => i64::try_from(total).map(|total| -total).map_err(|_| OutOfRange),
        (false, total) => i64::try_from(total).map_err(|_| OutOfRange),
    }
}

/// One number with its unit, in nanoseconds, and the rest of the text.
fn term(text: &str) -> Result<(u64, &str), InvalidDuration> {
    let (whole_digits, mut rest) = split_digits(text);
    let mut fraction_digits = "";
    if let Some(after_point) = rest.strip_prefix('.') {
        (fraction_digits, rest) = split_digits(after_point);
    }
    if whole_digits.is_empty() && fraction_digits.is_empty() {
        return Err(NumberMissing);
    }
    let whole = integer(whole_digits)?;
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit = nanos_of(unit)?;
    if whole > LIMIT / unit {
        return Err(OutOfRange);
    }
    let nanos = whole * unit + fraction(fraction_digits, unit);
    if nanos > LIMIT { Err(OutOfRange) } else { Ok((nanos, rest)) }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn integer(digits: &str) -> Result<u64, InvalidDuration> {
    digits.bytes().try_fold(0u64, |value, digit| {
        let next = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0')));
        next.filter(|value| *value <= LIMIT).ok_or(OutOfRange)
    })
}

/// A decimal fraction of a unit. Like Go it ignores digits beyond 63 bits and truncates a float
/// product.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fraction(digits: &str, unit: u64) -> u64 {
    let mut value = 0u64;
    let mut scale = 1f64;
    for digit in digits.bytes() {
        if value > (LIMIT - 1) / 10 {
            break;
        }
        let next = value * 10 + u64::from(digit - b'0');
        if next > LIMIT {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

fn nanos_of(unit: &str) -> Result<u64, InvalidDuration> {
    Ok(match unit {
        "" => return Err(UnitMissing),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(UnknownUnit),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: i64 = 1_000_000_000;

    /// The cases of Go's own `time_test.go`, and the bounds.
    #[test]
    fn values_mean_the_same_as_in_go() {
        let table: &[(&str, Result<i64, InvalidDuration>)] = &[
            ("0", Ok(0)),
            ("5s", Ok(5 * S)),
            ("30s", Ok(30 * S)),
            ("1478s", Ok(1478 * S)),
            ("-5s", Ok(-5 * S)),
            ("+5s", Ok(5 * S)),
            ("-0", Ok(0)),
            ("+0", Ok(0)),
            ("5.0s", Ok(5 * S)),
            ("5.6s", Ok(5_600_000_000)),
            ("5.s", Ok(5 * S)),
            (".5s", Ok(S / 2)),
            ("1.0s", Ok(S)),
            ("1.004s", Ok(1_004_000_000)),
            ("1.0040s", Ok(1_004_000_000)),
            ("100.00100s", Ok(100_001_000_000)),
            ("10ns", Ok(10)),
            ("11us", Ok(11_000)),
            ("12µs", Ok(12_000)),
            ("12μs", Ok(12_000)),
            ("13ms", Ok(13_000_000)),
            ("14s", Ok(14 * S)),
            ("15m", Ok(900 * S)),
            ("16h", Ok(57_600 * S)),
            ("24h", Ok(86_400 * S)),
            ("3h30m", Ok(12_600 * S)),
            ("10.5s4m", Ok(250_500_000_000)),
            ("-2m3.4s", Ok(-123_400_000_000)),
            ("1h2m3s4ms5us6ns", Ok(3_723_004_005_006)),
            ("39h9m14.425s", Ok(140_954_425_000_000)),
            ("52763797000ns", Ok(52_763_797_000)),
            ("0.3333333333333333333h", Ok(1200 * S)),
            ("9007199254740993ns", Ok(9_007_199_254_740_993)),
            ("9223372036854775807ns", Ok(i64::MAX)),
            ("9223372036854775.807us", Ok(i64::MAX)),
            ("9223372036s854ms775us807ns", Ok(i64::MAX)),
            ("-9223372036854775808ns", Ok(i64::MIN)),
            ("9223372036s", Ok(9_223_372_036 * S)),
            ("0.100000000000000000000h", Ok(360 * S)),
            ("0.830103483285477580700h", Ok(2_988_372_539_827)),
            ("", Err(NumberMissing)),
            ("-", Err(NumberMissing)),
            ("s", Err(NumberMissing)),
            (".", Err(NumberMissing)),
            ("-.", Err(NumberMissing)),
            (".s", Err(NumberMissing)),
            ("+.s", Err(NumberMissing)),
            ("--5s", Err(NumberMissing)),
            (" 5s", Err(NumberMissing)),
            ("3", Err(UnitMissing)),
            ("1.5", Err(UnitMissing)),
            ("1h5", Err(UnitMissing)),
            ("00", Err(UnitMissing)),
            ("1d", Err(UnknownUnit)),
            ("1 m", Err(UnknownUnit)),
            ("5S", Err(UnknownUnit)),
            ("1m 30s", Err(UnknownUnit)),
            ("1s\u{0}", Err(UnknownUnit)),
            ("9223372036854775808ns", Err(OutOfRange)),
            ("9223372036854775.808us", Err(OutOfRange)),
            ("-9223372036854775809ns", Err(OutOfRange)),
            ("9223372036854ms775us808ns", Err(OutOfRange)),
            ("3000000h", Err(OutOfRange)),
            ("99999999999999999999s", Err(OutOfRange)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), *expected, "{text:?}");
        }
    }

    /// The format of Go's `Duration.String` from one hour upwards.
    fn as_go_prints(nanos: i64) -> String {
        let sign = if nanos < 0 { "-" } else { "" };
        let n = nanos.unsigned_abs();
        let hours = n / 3_600_000_000_000;
        let minutes = n / 60_000_000_000 % 60;
        format!("{sign}{hours}h{minutes}m{}.{:09}s", n / 1_000_000_000 % 60, n % 1_000_000_000)
    }

    proptest! {
        #[test]
        fn what_go_prints_is_read_back(nanos in any::<i64>()) {
            prop_assert_eq!(parse_duration(&as_go_prints(nanos)), Ok(nanos));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn near_durations_do_not_panic(text in "[-+]?([0-9]{0,22}(\\.[0-9]{0,22})?(ns|us|µs|ms|s|m|h|x)?){0,4}") {
            let _ = parse_duration(&text);
        }
    }
}
