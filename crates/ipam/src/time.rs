//! Points in time as IPAM records spell them: RFC 3339 with whole seconds, and Go's `time.Time` text.
//!
//! The clock is the caller's; this file only does calendar arithmetic (proleptic Gregorian, UTC, no leap seconds).

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

const NANOS: u64 = 1_000_000_000;

impl UnixTime {
    /// From whole seconds.
    pub const fn from_secs(secs: u64) -> UnixTime {
        UnixTime(secs * NANOS)
    }

    /// Whole seconds, rounded down.
    pub const fn secs(self) -> u64 {
        self.0 / NANOS
    }

    /// `2026-11-23T00:47:57Z`, as `affinity_claim_time` and `releasedAt` are stored (spec 5 §2.8: 1 s resolution).
    pub fn rfc3339(self) -> String {
        let (year, month, day) = civil(self.secs() / 86_400);
        let s = self.secs() % 86_400;
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
    }

    /// `2026-11-23 00:47:57.1693042 +0000 UTC`, as Go prints a UTC `time.Time`: the `timestamp` attribute of an
    /// assignment (spec 5 §2.1). Trailing zeros of the fraction are left out.
    pub fn go_text(self) -> String {
        let base = self.rfc3339().replace('T', " ");
        let base = base.trim_end_matches('Z');
        match self.0 % NANOS {
            0 => format!("{base} +0000 UTC"),
            nanos => format!("{base}.{} +0000 UTC", format!("{nanos:09}").trim_end_matches('0')),
        }
    }

    /// Reads RFC 3339, with a fraction and an offset if there are. `None` for anything else, or before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<UnixTime> {
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let mut date = date.splitn(3, '-').map(number);
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 9999 {
            return None;
        }
        let zone = rest.find(['Z', 'z', '+', '-'])?;
        let (clock, zone) = rest.split_at(zone);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut clock = clock.splitn(3, ':').map(number);
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let offset = match zone.as_bytes() {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), ..] => {
                let (h, m) = zone.get(1..)?.split_once(':')?;
                let secs = i64::try_from(number(h)? * 3600 + number(m)? * 60).ok()?;
                if *sign == b'+' { secs } else { -secs }
            }
            _ => return None,
        };
        let nanos = match fraction {
            "" => 0,
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => number(&format!("{digits:0<9.9}"))?,
            _ => return None,
        };
        let secs = days(year, month, day)? * 86_400 + (hour * 3600 + minute * 60 + second) as i64 - offset;
        let secs = u64::try_from(secs).ok()?;
        Some(UnixTime(secs.checked_mul(NANOS)?.checked_add(nanos)?))
    }
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Year, month and day of a count of days since 1970-01-01. Eras of 400 years that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The inverse of [`civil`]; negative before 1970.
fn days(year: u64, month: u64, day: u64) -> Option<i64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era) as i64 - 719_468)
}

#[cfg(test)]
mod tests;
