//! Dates and times without a clock: the Gregorian calendar, and the form that signatures use.

use std::fmt;

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 86_400;

/// A moment in whole seconds, taken apart. In UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

impl Civil {
    /// Splits a moment, given in seconds since 1970.
    #[must_use]
    pub fn of(unix_seconds: i64) -> Self {
        let (days, rest) = (
            unix_seconds.div_euclid(DAY_SECONDS),
            unix_seconds.rem_euclid(DAY_SECONDS),
        );
        // Uses eras of 400 years, and years that begin in March, so that a leap day comes last.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        // Each of these is far below 256.
        Self {
            year,
            month: month as u8,
            day: day as u8,
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }

    /// Returns the moment in seconds since 1970; None if there is no such day or time.
    #[must_use]
    pub fn unix_seconds(self) -> Option<i64> {
        let in_range = (0..=9_999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && self.day >= 1
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if !in_range {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let clock =
            i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second);
        let seconds = days * DAY_SECONDS + clock;
        // The 31st of a short month would come back as a day of the next month.
        (Self::of(seconds) == self).then_some(seconds)
    }
}

/// A moment in the form of signatures: `20130524T000000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmzTime(i64);

impl AmzTime {
    /// Takes a moment in seconds since 1970.
    #[must_use]
    pub fn at(unix_seconds: i64) -> Self {
        Self(unix_seconds)
    }

    /// Reads `YYYYMMDDTHHMMSSZ`; None for any other text and for days that don't exist.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().try_fold(0_i64, |number, byte| {
                let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
                Some(number * 10 + digit)
            })
        };
        let small = |from, to| number(from, to).and_then(|number| u8::try_from(number).ok());
        let civil = Civil {
            year: number(0, 4)?,
            month: small(4, 6)?,
            day: small(6, 8)?,
            hour: small(9, 11)?,
            minute: small(11, 13)?,
            second: small(13, 15)?,
        };
        civil.unix_seconds().map(Self)
    }

    /// Returns the moment in seconds since 1970.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0
    }

    /// Returns the day in the form of scopes: `20130524`.
    #[must_use]
    pub fn date(self) -> String {
        let Civil {
            year, month, day, ..
        } = Civil::of(self.0);
        format!("{year:04}{month:02}{day:02}")
    }
}

impl fmt::Display for AmzTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = Civil::of(self.0);
        write!(
            f,
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_return() {
        for seconds in (-70_000_000_000..250_000_000_000).step_by(86_400 * 97 + 12_345) {
            let civil = Civil::of(seconds);
            if (0..=9_999).contains(&civil.year) {
                assert_eq!(civil.unix_seconds(), Some(seconds), "{civil:?}");
            }
        }
    }

    #[test]
    fn known_moments() {
        let check = |text: &str, seconds| {
            let time = AmzTime::parse(text).expect("a time");
            assert_eq!(time.unix_seconds(), seconds, "{text}");
            assert_eq!(time.to_string(), text);
            assert_eq!(time.date(), text[..8]);
        };
        check("19700101T000000Z", 0);
        check("20130524T000000Z", 1_369_353_600);
        check("20000229T235959Z", 951_868_799);
        check("19691231T235959Z", -1);
        check("20240229T120000Z", 1_709_208_000);
    }

    #[test]
    fn nonsense_is_none() {
        for text in [
            "",
            "20130524",
            "20130524T000000",
            "20130524 000000Z",
            "2013-05-24T00:00",
            "20130229T000000Z",
            "19000229T000000Z",
            "20130431T000000Z",
            "20131301T000000Z",
            "20130001T000000Z",
            "20130500T000000Z",
            "20130524T240000Z",
            "20130524T006000Z",
            "20130524T000060Z",
            "+0130524T000000Z",
            "2013052４T0000Z",
        ] {
            assert_eq!(AmzTime::parse(text), None, "{text}");
        }
    }
}
