//! What the screens of one subject list, in the order in which a person would look: declared columns, one a row.

use super::choice::Screen;
use super::metric::Metric;
use super::picture::Picture;
use super::view::View;
use crate::family::FamilyId;
use crate::record::Table;

/// One row of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// What stands over it: its subject, if the row before is of another one.
    pub(super) heading: Option<String>,
    pub(super) name: String,
    pub(super) metric: Metric,
}

/// Columns of one table below one heading.
struct Part {
    heading: &'static str,
    table: &'static str,
    of: Of,
    /// Columns with their names. Without any, those that are declared.
    columns: &'static [(&'static str, &'static str)],
    /// Whether the table's other columns follow them.
    has_rest: bool,
}

/// Which series.
enum Of {
    /// Those that the table is about as a whole.
    Whole,
    /// Those with these labels.
    Labels(&'static [(&'static str, &'static str)]),
    /// Each value of this label, below a heading of its own.
    Each(&'static str),
    /// Each value of this label, one row each.
    Rows(&'static str),
}

const CPU: &[Part] = &[
    Part {
        heading: "all processors",
        table: "cpu",
        of: Of::Whole,
        columns: &[
            ("utilization", "busy"),
            ("user_us", "user"),
            ("system_us", "system"),
            ("nice_us", "user, low priority"),
            ("iowait_us", "idle, waits for I/O"),
            ("softirq_us", "soft interrupts"),
            ("irq_us", "interrupts"),
            ("steal_us", "taken by other guests"),
        ],
        has_rest: false,
    },
    Part {
        heading: "each processor, busy",
        table: "cpu",
        of: Of::Rows("cpu"),
        columns: &[("utilization", "core")],
        has_rest: false,
    },
    Part {
        heading: "pressure; % of the time",
        table: "pressure",
        of: Of::Labels(&[("resource", "cpu"), ("kind", "some")]),
        columns: &[("total_us", "some task waits for a CPU")],
        has_rest: false,
    },
    Part {
        heading: "tasks",
        table: "host",
        of: Of::Whole,
        columns: &[
            ("load1", "load, 1 min"),
            ("load5", "load, 5 min"),
            ("load15", "load, 15 min"),
            ("running", "running or ready"),
            ("blocked", "waiting for I/O"),
            ("context_switches", "context switches"),
            ("forks", "new processes"),
            ("interrupts", "interrupts"),
        ],
        has_rest: false,
    },
    Part { heading: "processes by state", table: "process_state", of: Of::Whole, columns: &[], has_rest: true },
];

const MEMORY: &[Part] = &[
    Part {
        heading: "memory",
        table: "memory",
        of: Of::Whole,
        columns: &[
            ("used_bytes", "used"),
            ("available_bytes", "available"),
            ("cached_bytes", "cached"),
            ("buffers_bytes", "buffers"),
            ("free_bytes", "free"),
            ("shared_bytes", "shared"),
            ("swap_free_bytes", "swap, free"),
        ],
        has_rest: true,
    },
    Part {
        heading: "pressure; % of the time",
        table: "pressure",
        of: Of::Labels(&[("resource", "memory"), ("kind", "some")]),
        columns: &[("total_us", "some task waits")],
        has_rest: false,
    },
    Part {
        heading: "pressure; % of the time",
        table: "pressure",
        of: Of::Labels(&[("resource", "memory"), ("kind", "full")]),
        columns: &[("total_us", "all tasks wait")],
        has_rest: false,
    },
    Part {
        heading: "paging and reclaim",
        table: "vm",
        of: Of::Whole,
        columns: &[
            ("major_page_faults", "page faults with I/O"),
            ("page_faults", "page faults"),
            ("swapped_in_bytes", "swapped in"),
            ("swapped_out_bytes", "swapped out"),
            ("refaulted_bytes", "refaulted"),
            ("allocation_stalls", "allocation stalls"),
            ("oom_kills", "killed, out of memory"),
        ],
        has_rest: true,
    },
];

const NETWORK: &[Part] = &[
    Part {
        heading: "interface",
        table: "network",
        of: Of::Each("interface"),
        columns: &[
            ("rx_bytes", "received"),
            ("tx_bytes", "sent"),
            ("rx_packets", "packets received"),
            ("tx_packets", "packets sent"),
            ("rx_dropped", "dropped, received"),
            ("tx_dropped", "dropped, to send"),
            ("rx_errors", "errors, received"),
            ("tx_errors", "errors, sent"),
        ],
        has_rest: true,
    },
    Part {
        heading: "TCP",
        table: "tcp",
        of: Of::Whole,
        columns: &[
            ("established", "connections"),
            ("active_opens", "opened"),
            ("passive_opens", "accepted"),
            ("retransmitted_segments", "retransmitted"),
            ("listen_drops", "refused, queue is full"),
        ],
        has_rest: true,
    },
    Part {
        heading: "packets from drivers, by processor",
        table: "softnet",
        of: Of::Whole,
        columns: &[("processed", "processed"), ("dropped", "dropped"), ("time_squeezed", "time squeezed")],
        has_rest: true,
    },
    Part { heading: "IP, ICMP and UDP", table: "ip", of: Of::Whole, columns: &[], has_rest: true },
];

const DISK: &[Part] = &[
    Part {
        heading: "device",
        table: "disk",
        of: Of::Each("device"),
        columns: &[
            ("read_bytes", "read"),
            ("write_bytes", "written"),
            ("busy_us", "busy, % of the time"),
            ("in_flight", "in flight"),
            ("read_ops", "reads"),
            ("write_ops", "writes"),
            ("read_us", "time of all reads"),
            ("write_us", "time of all writes"),
        ],
        has_rest: true,
    },
    Part {
        heading: "pressure; % of the time",
        table: "pressure",
        of: Of::Labels(&[("resource", "io"), ("kind", "some")]),
        columns: &[("total_us", "some task waits for I/O")],
        has_rest: false,
    },
    Part {
        heading: "pressure; % of the time",
        table: "pressure",
        of: Of::Labels(&[("resource", "io"), ("kind", "full")]),
        columns: &[("total_us", "all tasks wait for I/O")],
        has_rest: false,
    },
    Part {
        heading: "file systems, least to fullest; enter tells them apart",
        table: "filesystem",
        of: Of::Whole,
        columns: &[("used_ratio", "used"), ("free_bytes", "free"), ("free_inodes", "free inodes")],
        has_rest: false,
    },
    Part {
        heading: "to be written",
        table: "vm",
        of: Of::Whole,
        columns: &[("dirty_bytes", "changed in memory"), ("writeback_bytes", "on its way")],
        has_rest: false,
    },
];

/// The rows of a screen; none, if it is no list.
pub(super) fn entries(picture: &Picture, view: &View) -> Vec<Entry> {
    let mut listed: Vec<(String, String, Metric)> = Vec::new();
    let parts: &[Part] = match view.screen {
        Screen::Cpu => CPU,
        Screen::Memory => MEMORY,
        Screen::Network => NETWORK,
        Screen::Disk => DISK,
        Screen::All => {
            listed = everything();
            &[]
        }
        Screen::Overview | Screen::Processes | Screen::Cgroups | Screen::Alerts | Screen::Kymo => return Vec::new(),
    };
    for part in parts {
        part.list(picture, &mut listed);
    }
    let is_kept = |(heading, name, metric): &(String, String, Metric)| {
        view.filter.is_empty() || view.filter.takes_name(&format!("{} {name} {heading}", metric.name()))
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut above = String::new();
    for (heading, name, metric) in listed.into_iter().filter(is_kept) {
        let is_unfolded = view.unfolded.as_ref() == Some(&metric);
        let unfolded = if is_unfolded { unfold(picture, &metric) } else { Vec::new() };
        let is_other = heading != above;
        entries.push(Entry { heading: is_other.then(|| heading.clone()), name, metric });
        entries.extend(unfolded);
        above = heading;
    }
    entries
}

/// Every column of every table that has tiers, by its name in SQL.
fn everything() -> Vec<(String, String, Metric)> {
    let of_family = |family: FamilyId| {
        let table = family.table;
        let doc = table.doc.split_inclusive(['.', ':']).next().unwrap_or_default().trim_end_matches(['.', ':']);
        let columns = table.columns.iter().filter(|column| Metric::is_shown(column));
        columns.map(move |column| {
            (format!("{}: {doc}", table.name), column.name.to_owned(), Metric::whole(table.name, column.name))
        })
    };
    FamilyId::all().filter(|family| family.has_tiers).flat_map(of_family).collect()
}

impl Part {
    fn list(&self, picture: &Picture, listed: &mut Vec<(String, String, Metric)>) {
        let Some(table) = FamilyId::find(self.table).map(|family| family.table) else { return };
        let columns = self.named(table);
        let series = |label: &str| -> Vec<String> {
            match (self.table, label) {
                ("cpu", _) => picture.facts.cores().into_iter().map(|(number, _)| number.to_string()).collect(),
                (part, _) => in_order(picture, part),
            }
        };
        match &self.of {
            Of::Whole => listed.extend(
                columns.into_iter().map(|(at, name)| (self.heading.to_owned(), name, Metric::whole(table.name, at))),
            ),
            Of::Labels(labels) => listed.extend(
                columns
                    .into_iter()
                    .map(|(at, name)| (self.heading.to_owned(), name, Metric::new(table.name, at, labels))),
            ),
            Of::Each(label) => {
                for value in series(label) {
                    let heading = format!("{} {value}", self.heading);
                    let metric = |at: &&'static str| Metric::new(table.name, at, &[(*label, value.as_str())]);
                    listed.extend(columns.iter().map(|(at, name)| (heading.clone(), name.clone(), metric(at))));
                }
            }
            Of::Rows(label) => {
                for value in series(label) {
                    let metric = |at: &&'static str| Metric::new(table.name, at, &[(*label, value.as_str())]);
                    let named = |name: &String| format!("{name} {value}");
                    listed.extend(columns.iter().map(|(at, name)| (self.heading.to_owned(), named(name), metric(at))));
                }
            }
        }
    }

    /// The columns with their names.
    fn named(&self, table: &'static Table) -> Vec<(&'static str, String)> {
        let mut named: Vec<_> = self.columns.iter().map(|(column, name)| (*column, (*name).to_owned())).collect();
        if self.has_rest {
            let is_named = |name: &str| self.columns.iter().any(|(column, _)| *column == name);
            let rest = table.columns.iter().filter(|column| Metric::is_shown(column) && !is_named(column.name));
            named.extend(rest.map(|column| (column.name, words(column.name))));
        }
        named
    }
}

/// A column's name as words.
fn words(name: &str) -> String {
    let name = name.trim_end_matches("_bytes").trim_end_matches("_us").trim_end_matches("_ratio");
    name.replace('_', " ")
}

/// Series of a table that charts know, those that carry most first.
fn in_order(picture: &Picture, part: &str) -> Vec<String> {
    let mut labels: Vec<&str> = picture.charts.labels(part).collect();
    labels.sort_by(|one, other| picture.charts.carried(part, other).total_cmp(&picture.charts.carried(part, one)));
    labels.into_iter().map(str::to_owned).collect()
}

/// The series of a metric, one row each.
fn unfold(picture: &Picture, metric: &Metric) -> Vec<Entry> {
    let Some((_, series)) = picture.series.as_ref().filter(|(of, _)| of == metric) else { return Vec::new() };
    let entry = |metric: &Metric| {
        let values: Vec<&str> = metric.labels.iter().map(|(_, value)| value.as_str()).collect();
        Entry { heading: None, name: format!("  {}", values.join(" ")), metric: metric.clone() }
    };
    series.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::cells::Glyphs;
    use crate::cli::top::clock::Clock;
    use crate::cli::top::filter::Filter;
    use crate::cli::top::fixture::picture;
    use crate::cli::top::window::MINUTE_US;

    fn view(screen: Screen) -> View {
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        view.screen = screen;
        view
    }

    #[test]
    fn every_row_is_of_a_declared_column() {
        let picture = picture(36, false);
        for screen in [Screen::Cpu, Screen::Memory, Screen::Network, Screen::Disk, Screen::All] {
            let entries = entries(&picture, &view(screen));
            assert!(entries.len() > 15, "{screen:?}");
            for entry in &entries {
                assert!(entry.metric.declared().is_some(), "{entry:?}");
                let labels = entry.metric.family().unwrap().labels();
                let names: Vec<&str> = labels.map(|(_, column)| column.name).collect();
                assert!(entry.metric.labels.iter().all(|(name, _)| names.contains(name)), "{entry:?}");
            }
        }
    }

    #[test]
    fn everything_has_every_figure_of_every_table() {
        let entries = entries(&picture(36, false), &view(Screen::All));
        for family in FamilyId::all().filter(|family| family.has_tiers) {
            for column in family.table.columns.iter().filter(|column| Metric::is_shown(column)) {
                let is_it = |entry: &&Entry| entry.metric.table == family.name() && entry.metric.column == column.name;
                assert_eq!(entries.iter().filter(is_it).count(), 1, "{}.{}", family.name(), column.name);
            }
        }
    }

    #[test]
    fn a_filter_keeps_the_headings_of_what_it_keeps() {
        let mut view = view(Screen::Network);
        view.filter = Filter::parse("dropped eth0").unwrap();
        let entries = entries(&picture(36, false), &view);
        let told: Vec<_> = entries.iter().map(|entry| (entry.heading.as_deref(), entry.name.as_str())).collect();
        assert_eq!(told, [(Some("interface eth0"), "dropped, received"), (None, "dropped, to send")]);
    }
}
