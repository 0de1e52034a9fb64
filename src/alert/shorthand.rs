//! The short forms: `condition` and `threshold` instead of SQL.

/// A condition with a name.
#[derive(Debug)]
pub(super) struct Shorthand {
    /// Its name, the value of `condition`.
    pub(super) name: &'static str,
    /// The table it watches.
    pub(super) table: &'static str,
    /// The rows that it watches, as SQL; empty for all.
    only: &'static str,
    /// The value that is compared with the threshold, as SQL.
    left: &'static str,
    /// What else must hold, as SQL; empty for nothing.
    also: &'static str,
    unit: Unit,
}

#[derive(Debug)]
enum Unit {
    /// 0…100: a threshold from 0 to below 100.
    Percent,
    /// A threshold of 0 or more in this unit.
    AtLeastZero(&'static str),
}

const fn percent(name: &'static str, table: &'static str, only: &'static str, left: &'static str) -> Shorthand {
    Shorthand { name, table, only, left, also: "", unit: Unit::Percent }
}

const fn at_least_zero(name: &'static str, table: &'static str, left: &'static str, unit: &'static str) -> Shorthand {
    Shorthand { name, table, only: "", left, also: "", unit: Unit::AtLeastZero(unit) }
}

/// All short forms.
pub(super) static SHORTHANDS: &[Shorthand] = &[
    percent("cpu_usage_above", "cpu", "cpu = 'total'", "utilization * 100"),
    percent("memory_usage_above", "memory", "", "(total_bytes - available_bytes) * 100.0 / total_bytes"),
    // What is mounted read-only cannot fill up, and images are always full.
    Shorthand { also: "read_only = 0", ..percent("disk_usage_above", "filesystem", "", "used_ratio * 100") },
    at_least_zero("network_rx_above", "network", "rate(rx_bytes)", "bytes per second"),
    at_least_zero("network_tx_above", "network", "rate(tx_bytes)", "bytes per second"),
    percent("swap_usage_above", "memory", "", "(swap_total_bytes - swap_free_bytes) * 100.0 / swap_total_bytes"),
    at_least_zero("load_above", "host", "load1", "runnable tasks, the 1 minute load average"),
];

/// The short form of this name.
pub(super) fn find(name: &str) -> Option<&'static Shorthand> {
    SHORTHANDS.iter().find(|shorthand| shorthand.name == name)
}

impl Shorthand {
    /// The condition as SQL. An error if there is no threshold or no value can cross it.
    pub(super) fn expand(&self, threshold: Option<f64>) -> Result<String, String> {
        let (right, unit) = match self.unit {
            Unit::Percent => ("a number from 0 to below 100", "percent"),
            Unit::AtLeastZero(unit) => ("a number of 0 or more", unit),
        };
        let Some(threshold) = threshold else {
            return Err(format!("is missing; `{}` needs {right} ({unit})", self.name));
        };
        let fits = match self.unit {
            Unit::Percent => (0.0..100.0).contains(&threshold),
            Unit::AtLeastZero(_) => threshold.is_finite() && threshold >= 0.0,
        };
        if !fits {
            return Err(format!("is {threshold}; `{}` needs {right} ({unit})", self.name));
        }
        let compared = format!("{} > {threshold:?}", self.left);
        let parts = [self.only, &compared, self.also];
        Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" AND "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_written_out() {
        let expanded = |name, threshold| find(name).unwrap().expand(Some(threshold)).unwrap();
        assert_eq!(expanded("cpu_usage_above", 90.0), "cpu = 'total' AND utilization * 100 > 90.0");
        assert_eq!(expanded("network_rx_above", 1.5e6), "rate(rx_bytes) > 1500000.0");
        assert_eq!(expanded("load_above", 0.0), "load1 > 0.0");
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        for shorthand in SHORTHANDS {
            for threshold in [None, Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
                let problem = shorthand.expand(threshold).unwrap_err();
                assert!(problem.contains(shorthand.name), "{problem}");
            }
        }
        let problem = find("cpu_usage_above").unwrap().expand(Some(100.0)).unwrap_err();
        assert_eq!(problem, "is 100; `cpu_usage_above` needs a number from 0 to below 100 (percent)");
    }
}
