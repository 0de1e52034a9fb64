//! Numbers as the view shows them: three digits and a unit.

/// A share as per cent.
pub(in crate::cli) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if percent >= 9.95 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// A rate of bytes, as networks and disks count.
pub(in crate::cli) fn bytes_per_second(value: f64) -> String {
    scaled(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

/// The same in bits, as links are sold.
pub(super) fn bits_per_second(value: f64) -> String {
    scaled(value * 8.0, 1000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// A length of time that was measured.
pub(super) fn duration(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{us:.0} us"),
        us if us < 999_500.0 => format!("{} ms", three_digits_or_whole(us / 1e3)),
        us if us < 1e8 => format!("{} s", three_digits_or_whole(us / 1e6)),
        #[expect(clippy::cast_possible_truncation, reason = "a length of time in microseconds")]
        us => about(us as i64),
    }
}

/// A rate of bytes in a column whose heading has the `/s`.
pub(super) fn bytes_each_second(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { scaled(value, 1000.0, &["B", "kB", "MB", "GB", "TB"]) }
}

/// Memory and files.
pub(in crate::cli) fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A count or a rate of things.
pub(in crate::cli) fn count(value: f64) -> String {
    if value < 9_999.5 { three_digits_or_whole(value) } else { scaled(value, 1000.0, &["", "k", "M", "G", "T"]) }
}

/// A whole number with a comma at every third digit.
pub(super) fn whole(value: f64) -> String {
    crate::cli::show::grouped(&format!("{value:.0}"))
}

/// A stretch of time, in its largest fitting unit.
pub(super) fn stretch(us: i64) -> String {
    let (us, sign) = (us.unsigned_abs(), if us < 0 { "-" } else { "" });
    let in_unit = |unit: u64, name: &str| {
        let value = us as f64 / unit as f64;
        let text = if us.is_multiple_of(unit) { format!("{value:.0}") } else { trimmed(&format!("{value:.2}")) };
        format!("{sign}{text} {name}")
    };
    match us {
        0..1_000 => in_unit(1, "us"),
        1_000..1_000_000 => in_unit(1_000, "ms"),
        1_000_000..300_000_000 => in_unit(1_000_000, "s"),
        300_000_000..10_800_000_000 => in_unit(60_000_000, "min"),
        10_800_000_000..172_800_000_000 => in_unit(3_600_000_000, "h"),
        _ => in_unit(86_400_000_000, "d"),
    }
}

/// How long ago something was, or how long it lasts, to be read at a glance.
pub(super) fn about(us: i64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        ..0 => "0 s".to_owned(),
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value.max(0.0);
    let mut at = 0;
    // 999.5 would be shown with four digits.
    while value >= base.min(999.5) && at + 1 < units.len() {
        value /= base;
        at += 1;
    }
    // There are no parts of a byte.
    let digits = if at == 0 { format!("{value:.0}") } else { three_digits_or_whole(value) };
    format!("{digits} {}", units[at])
}

fn three_digits_or_whole(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let rates = [0.0, 412.0, 999.6, 81e6, 2.18e9, 1.1e6].map(bytes_per_second);
        assert_eq!(rates, ["0 B/s", "412 B/s", "1.00 kB/s", "81.0 MB/s", "2.18 GB/s", "1.10 MB/s"]);
        assert_eq!([21.4 * 1_073_741_824.0, 1023.0 * 1_048_576.0].map(bytes), ["21.4 GiB", "1.00 GiB"]);
        assert_eq!([0.57, 0.084, 0.0, 1.0].map(percent), ["57 %", "8.4 %", "0.0 %", "100 %"]);
        assert_eq!([0.0, 162.0, 1_205.0, 21_400.0, 0.5].map(count), ["0", "162", "1205", "21.4 k", "0.50"]);
        assert_eq!(whole(71_412.0), "71,412");
        assert_eq!(bits_per_second(1.25e8), "1.00 Gbit/s");
        assert_eq!([310.0, 4_110.0, 2.5e6, 780e9].map(duration), ["310 us", "4.11 ms", "2.50 s", "9 d 0 h"]);
    }

    #[test]
    fn stretches_have_their_largest_fitting_unit() {
        let texts = [500, 40_000, 2_240_000, 72_000_000, 2_000_000, 3_600_000_000, 86_400_000_000].map(stretch);
        assert_eq!(texts, ["500 us", "40 ms", "2.24 s", "72 s", "2 s", "60 min", "24 h"]);
        assert_eq!(
            [15, 1_795, 7_260, 780_000].map(|s| about(s * 1_000_000)),
            ["15 s", "29 min 55 s", "2 h 1 min", "9 d 0 h"]
        );
    }
}
