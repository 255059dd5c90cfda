//! Times as people and programs read them: RFC 3339, UTC, nanoseconds. The proleptic Gregorian calendar, no leap seconds.

const NS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_PER_ERA: u64 = 146_097;
/// From 1 March of the year 0 to 1 January 1970.
const DAYS_TO_EPOCH: u64 = 719_468;

/// `2026-11-25T08:02:19.000000000Z`.
pub fn rfc3339(unix_ns: u64) -> String {
    let seconds = unix_ns / NS_PER_SECOND;
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    let of_day = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let ns = unix_ns % NS_PER_SECOND;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// Year, month and day. Years are counted from March, so that the leap day is the last one of its year and every
/// month's start is a linear function: 153 days in five months.
fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + DAYS_TO_EPOCH;
    let era = days / DAYS_PER_ERA;
    let of_era = days % DAYS_PER_ERA;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, carry) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix_s: u64, ns: u64, expect: &str) {
        assert_eq!(rfc3339(unix_s * NS_PER_SECOND + ns), expect);
    }

    #[test]
    fn the_epoch() {
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn a_time_of_day_with_nanoseconds() {
        check(1_700_000_000, 123_456_789, "2023-11-14T22:13:20.123456789Z");
    }

    #[test]
    fn leap_days() {
        check(951_782_400, 0, "2000-02-29T00:00:00.000000000Z");
        check(951_868_800, 0, "2000-03-01T00:00:00.000000000Z");
        check(1_709_164_800, 0, "2024-02-29T00:00:00.000000000Z");
    }

    #[test]
    fn no_leap_day_in_2100() {
        check(4_107_542_399, 0, "2100-02-28T23:59:59.000000000Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z");
    }

    #[test]
    fn ends_of_years() {
        check(1_767_225_599, 999_999_999, "2025-12-31T23:59:59.999999999Z");
        check(1_767_225_600, 0, "2026-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn the_last_one() {
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }
}
