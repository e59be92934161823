//! Numbers in words (HANDS).

/// A value or a dash.
#[must_use]
pub fn or_dash<T>(value: Option<T>, words: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), words)
}

/// Three significant digits with a unit prefix: `1.26 G`.
#[must_use]
pub fn si(value: f64) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.iter().find(|(unit, _)| value.abs() >= 0.9995 * unit) {
        Some((unit, prefix)) => format!("{} {prefix}", significant(value / unit)),
        None => significant(value),
    }
}

/// A cost with its unit: `1.26 GMACs`.
#[must_use]
pub fn macs(macs: u64) -> String {
    let short = si(macs as f64);
    let space = if short.contains(' ') { "" } else { " " };
    format!("{short}{space}MACs")
}

/// As [`si`], without trailing zeros: `5 M`.
#[must_use]
pub fn tick(value: f64) -> String {
    let text = si(value);
    let (number, unit) = text.split_once(' ').map_or((text.as_str(), None), |(number, unit)| (number, Some(unit)));
    let plain = number.contains('.') && !number.contains('e');
    let number = if plain { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    unit.map_or_else(|| number.to_owned(), |unit| format!("{number} {unit}"))
}

/// Three significant digits; very small and very large numbers with a power of ten.
#[must_use]
pub fn significant(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    // 0.9996 rounds to 1.00, so its digits are counted as those of 1.
    let digits = (2 - (1.0005 * size).log10().floor() as i32).clamp(0, 5) as usize;
    format!("{value:.digits$}")
}

/// An accuracy 0..1 in per cent.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A number with its sign and so many decimals: `+0.42`, `−1.10`, `0.00`.
#[must_use]
pub fn signed(value: f64, decimals: usize) -> String {
    with_sign(value, format!("{:.decimals$}", value.abs()))
}

/// As [`tick`], with its sign: `+0.5`.
#[must_use]
pub fn signed_tick(value: f64) -> String {
    with_sign(value, tick(value.abs()))
}

/// A sign is shown of what does not read as zero.
fn with_sign(value: f64, size: String) -> String {
    let zero = !size.chars().any(|c| c.is_ascii_digit() && c != '0');
    match (zero, value < 0.0) {
        (true, _) => size,
        (false, true) => format!("−{size}"),
        (false, false) => format!("+{size}"),
    }
}

/// A mean and how far it may be off, with so many decimals: `73.7 ± 0.3`; the mean alone where that is not known.
#[must_use]
pub fn plus_minus(mean: f64, reach: Option<f64>, decimals: usize) -> String {
    let reach = reach.map_or_else(String::new, |reach| format!(" ± {reach:.decimals$}"));
    format!("{mean:.decimals$}{reach}")
}

/// A whole number with its thousands apart.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// Seconds as `2 h 03 min`, `1 min 48 s` or `12.3 s`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// Seconds since 1970 as a date and time of UTC.
#[must_use]
pub fn date(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, minutes) = (whole / 86_400, whole / 60 % 1440);
    // Days to year, month and day in the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + 400 * era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            ["0", "950", "1.26 G", "1.00 M", "17.6 G"],
            [0.0, 950.0, 1.258e9, 999_999.0, 1.758e10].map(si).each_ref().map(String::as_str)
        );
        assert_eq!(
            ["0", "5 M", "0.2", "30", "1.5 k"],
            [0.0, 5e6, 0.2, 30.0, 1500.0].map(tick).each_ref().map(String::as_str)
        );
        assert_eq!([significant(1.234e-4), significant(0.0567), significant(12.34)], ["1.23e-4", "0.0567", "12.3"]);
        assert_eq!([count(7), count(1_200), count(2_257_344)], ["7", "1,200", "2,257,344"]);
        assert_eq!([duration(12.34), duration(108.0), duration(7384.0)], ["12.3 s", "1 min 48 s", "2 h 03 min"]);
    }

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(date(0.0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_399.0), "2000-02-28 23:59 UTC");
        assert_eq!(date(951_782_400.0), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_441_521.0), "2026-11-23 13:45 UTC");
    }

    #[test]
    fn signs_are_shown_of_what_is_not_zero() {
        assert_eq!([0.416, -1.1, 0.004, -0.004].map(|value| signed(value, 2)), ["+0.42", "−1.10", "0.00", "0.00"]);
        assert_eq!([0.5, -20.0, 0.0, 0.05].map(signed_tick), ["+0.5", "−20", "0", "+0.05"]);
        assert_eq!(plus_minus(73.68, Some(0.26), 1), "73.7 ± 0.3");
        assert_eq!(plus_minus(73.68, None, 1), "73.7");
    }
}
