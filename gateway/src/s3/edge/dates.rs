//! Dates in the forms of HTTP and XML.

use megalith_sigv4::time::{Civil, DAY_SECONDS};

/// Starts with Thursday, the first day of 1970.
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Writes `Wed, 21 Oct 2015 07:28:00 GMT`.
pub(in crate::s3) fn http_date(unix_seconds: i64) -> String {
    let civil = Civil::of(unix_seconds);
    let weekday = unix_seconds.div_euclid(DAY_SECONDS).rem_euclid(7) as usize;
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[weekday],
        civil.day,
        MONTHS[usize::from(civil.month) - 1],
        civil.year,
        civil.hour,
        civil.minute,
        civil.second
    )
}

/// Writes a time in milliseconds since 1970 as [`http_date`] does.
pub(in crate::s3) fn http_date_ms(time_ms: u64) -> String {
    http_date(i64::try_from(time_ms / 1000).unwrap_or(0))
}

/// Reads what [`http_date`] writes, as seconds since 1970. The day of the week is not checked.
pub(in crate::s3) fn parse_http_date(text: &str) -> Option<i64> {
    let (weekday, rest) = text.split_once(", ")?;
    if !DAYS.contains(&weekday) {
        return None;
    }
    let mut fields = rest.split(' ');
    let mut next = || fields.next();
    let (day, month, year, clock, zone) = (next()?, next()?, next()?, next()?, next()?);
    if zone != "GMT" || next().is_some() {
        return None;
    }
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| plain)
    };
    let small = |text: &str| number(text, 2).and_then(|number| u8::try_from(number).ok());
    let mut clock = clock.split(':');
    let (hour, minute, second) = (clock.next()?, clock.next()?, clock.next()?);
    if clock.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)?;
    let civil = Civil {
        year: i64::from(number(year, 4)?),
        month: u8::try_from(month + 1).ok()?,
        day: small(day)?,
        hour: small(hour)?,
        minute: small(minute)?,
        second: small(second)?,
    };
    civil.unix_seconds()
}

/// Writes a time in milliseconds since 1970 as `2015-10-21T07:28:00.000Z`.
pub(in crate::s3) fn iso(time_ms: u64) -> String {
    let civil = Civil::of(i64::try_from(time_ms / 1000).unwrap_or(0));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        civil.year,
        civil.month,
        civil.day,
        civil.hour,
        civil.minute,
        civil.second,
        time_ms % 1000
    )
}

/// Writes a time in seconds since 1970 as `2015-10-21T07:28:00Z`.
pub(super) fn iso_seconds(unix_seconds: i64) -> String {
    let millis = u64::try_from(unix_seconds)
        .unwrap_or(0)
        .saturating_mul(1000);
    iso(millis).replace(".000Z", "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_return() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 1_445_412_480),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Mon, 01 Jan 1900 00:00:00 GMT", -2_208_988_800),
        ] {
            assert_eq!(http_date(seconds), text);
            assert_eq!(parse_http_date(text), Some(seconds), "{text}");
        }
        assert_eq!(iso_seconds(1_445_412_480), "2015-10-21T07:28:00Z");
        assert_eq!(iso(1_445_412_480_007), "2015-10-21T07:28:00.007Z");
    }

    #[test]
    fn nonsense_is_none() {
        for text in [
            "",
            "yesterday",
            "Wed, 21 Oct 2015 07:28:00 CET",
            "Wed, 21 Oct 2015 07:28 GMT",
            "Wed, 32 Oct 2015 07:28:00 GMT",
            "Wed, 31 Feb 2015 07:28:00 GMT",
            "Xyz, 21 Oct 2015 07:28:00 GMT",
            "Wed, 1 Oct 2015 07:28:00 GMT",
            "2015-10-21T07:28:00Z",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }
}
