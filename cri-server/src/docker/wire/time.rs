//! Times as Docker writes and reads them: RFC 3339 with up to nine digits of a second, and seconds of the Unix epoch.

pub(in crate::docker) use crate::time::{now_ns, rfc3339};

const SECONDS_PER_DAY: i64 = 86_400;
const NS_PER_SECOND: i64 = 1_000_000_000;

/// Nanoseconds since the Unix epoch of an RFC 3339 time.
pub(in crate::docker) fn from_rfc3339(text: &str) -> Option<i64> {
    let field = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|_| plain)
    };
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !text.is_ascii() || marks.iter().any(|(at, mark)| text.as_bytes().get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let days = days_of(year, month, day)?;
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset(zone)?;
    seconds.checked_mul(NS_PER_SECOND)?.checked_add(nanoseconds(fraction)?)
}

/// A moment of a query (`since`, `until`): seconds of the Unix epoch with or without a fraction, or RFC 3339.
pub(in crate::docker) fn seconds(text: &str) -> Option<i64> {
    if text.contains('T') {
        return from_rfc3339(text);
    }
    let (whole, fraction) = text.split_once('.').map_or((text, String::new()), |(a, b)| (a, format!(".{b}")));
    whole.parse::<i64>().ok()?.checked_mul(NS_PER_SECOND)?.checked_add(nanoseconds(&fraction)?)
}

/// The moment that is so long ago, in Go's notation of durations: `1h30m`, `1.5s`, `100ms`.
pub(in crate::docker) fn ago(text: &str) -> Option<i64> {
    now_ns().checked_sub(duration(text)?)
}

/// A duration in Go's notation, nanoseconds.
pub(in crate::docker) fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] =
        [("h", 3.6e12), ("ms", 1e6), ("us", 1e3), ("ns", 1.0), ("m", 6e10), ("s", 1e9)];
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, ns) = UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit))?;
        total += number * ns;
        rest = &rest[end + unit.len()..];
    }
    // Beyond what fits it saturates: longer ago than there are times.
    (!text.is_empty()).then_some(total as i64)
}

/// `.5` as nanoseconds; nothing is none.
fn nanoseconds(fraction: &str) -> Option<i64> {
    let Some(digits) = fraction.strip_prefix('.') else { return fraction.is_empty().then_some(0) };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().ok().filter(|_| plain)
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

/// The reverse of the conversion to text: days since 1970-01-01.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_back() {
        for (ns, text) in [
            (1_000_000_001, "1970-01-01T00:00:01.000000001Z"),
            (1_709_164_800_000_000_000, "2024-02-29T00:00:00.000000000Z"),
            (1_735_689_599_500_000_000, "2024-12-31T23:59:59.500000000Z"),
        ] {
            assert_eq!(rfc3339(ns), text);
            assert_eq!(from_rfc3339(text), Some(ns), "{text}");
        }
        assert_eq!(rfc3339(0), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn zones_and_short_fractions_are_understood() {
        assert_eq!(from_rfc3339("1970-01-01T01:00:00.5+01:00"), Some(500_000_000));
        assert_eq!(from_rfc3339("1969-12-31T23:00:00-01:00"), Some(0));
        for text in ["", "1970", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00", "1970-01-01T00:00:00.Z", "é"]
        {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("100ms", Some(100_000_000)),
            ("", None),
            ("7", None),
            ("1d", None),
            ("s", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn moments_of_a_query() {
        assert_eq!(seconds("12.25"), Some(12_250_000_000));
        assert_eq!(seconds("1970-01-01T00:00:12Z"), Some(12_000_000_000));
        assert_eq!(seconds("soon"), None);
    }
}
