//! RFC 3339 in UTC with nanoseconds, written without allocation and without a calendar library: the one date format a
//! log line needs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Length in bytes of `2016-10-06T00:17:09.669794202Z`.
pub(crate) const TIMESTAMP_BYTES: usize = 30;

const SECONDS_PER_DAY: u64 = 86_400;

/// A formatted instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp([u8; TIMESTAMP_BYTES]);

impl Timestamp {
    /// The present, by the system's clock; the epoch where that clock stands before it.
    pub(crate) fn now() -> Self {
        Self::at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// The instant `since_epoch` after 1970-01-01T00:00:00Z. The calendar is good until the end of the year 9999.
    pub(crate) fn at(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs();
        let (year, month, day) = civil_date(seconds / SECONDS_PER_DAY);
        let of_day = seconds % SECONDS_PER_DAY;
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        put_digits(&mut text[0..4], year);
        put_digits(&mut text[5..7], month);
        put_digits(&mut text[8..10], day);
        put_digits(&mut text[11..13], of_day / 3600);
        put_digits(&mut text[14..16], of_day / 60 % 60);
        put_digits(&mut text[17..19], of_day % 60);
        put_digits(&mut text[20..29], u64::from(since_epoch.subsec_nanos()));
        Self(text)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; TIMESTAMP_BYTES] {
        &self.0
    }
}

/// Writes `value` into `field`, right-aligned over its zeros; digits that do not fit are lost.
fn put_digits(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of the day with this number since 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last of its year and a month's first day is a linear
/// function of its number: 153 days in every five months.
fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    const DAYS_PER_400_YEARS: u64 = 146_097;
    let days = days_since_epoch + DAYS_FROM_MARCH_OF_YEAR_0;
    let era = days / DAYS_PER_400_YEARS;
    let day_of_era = days % DAYS_PER_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) =
        if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64, nanos: u32) -> String {
        String::from_utf8(Timestamp::at(Duration::new(seconds, nanos)).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn known_instants() {
        let table = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (1, 1, "1970-01-01T00:00:01.000000001Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000000000Z"),
            (1_475_713_029, 669_794_202, "2016-10-06T00:17:09.669794202Z"),
            (1_709_164_800, 500, "2024-02-29T00:00:00.000000500Z"),
            (2_147_483_648, 0, "2038-01-19T03:14:08.000000000Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (253_402_300_799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        ];
        for (seconds, nanos, expected) in table {
            assert_eq!(text(seconds, nanos), expected);
        }
    }

    /// Every day of four centuries, against a calendar that simply counts.
    #[test]
    fn every_day_until_2400() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..157_054 {
            assert_eq!(civil_date(number), (year, month, day), "day {number}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (2400, 1, 1));
    }

    #[test]
    fn every_second_of_a_day() {
        for second in 0..SECONDS_PER_DAY {
            let expected =
                format!("1970-01-01T{:02}:{:02}:{:02}.", second / 3600, second / 60 % 60, second % 60);
            assert!(text(second, 0).starts_with(&expected));
        }
    }

    #[test]
    fn now_lies_after_this_code_was_written() {
        assert!(Timestamp::now().as_bytes().as_slice() > b"2026-01-01".as_slice());
    }
}
