//! Which things a family records, by patterns of their names.

use glob::{MatchOptions, Pattern};

use crate::words::shortened;

/// The most patterns of a list.
pub const PATTERNS_MAX: usize = 1_000;
/// The greatest length of a pattern.
pub const PATTERN_BYTES_MAX: usize = 256;

/// `*` stands for slashes too, and for a dot at the beginning.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: false, require_literal_leading_dot: false };

/// Takes the names that match one of the patterns to include, or all names if there is none, and that match none of the
/// patterns to exclude.
///
/// In a pattern, `*` stands for any characters, slashes too, `?` for one character, and `[abc]`, `[a-z]` and `[!a-z]` for one
/// of a set.
///
/// ```
/// use kymo::reading::filter::Filter;
///
/// let filter = Filter::new(&["e*", "lo"], &["e?p*"]).unwrap();
/// assert!(filter.takes("eth0") && filter.takes("lo") && !filter.takes("enp1s0") && !filter.takes("wlan0"));
/// assert!(Filter::default().takes("anything"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// The filters of the families that have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Of block devices, by name.
    pub disk: Filter,
    /// Of network interfaces, by name.
    pub network: Filter,
    /// Of file systems, by mount point and by type.
    pub filesystem: Filter,
    /// Of control groups, by path.
    pub cgroup: Filter,
    /// Of sensors, by chip and by device.
    pub sensor: Filter,
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern: {problem}")]
pub struct PatternError {
    /// The list that it stands in: `include` or `exclude`.
    pub list: &'static str,
    /// Its position there.
    pub index: usize,
    pattern: String,
    problem: String,
}

impl Filter {
    /// The filter of these patterns.
    ///
    /// # Errors
    /// When a text is no pattern.
    pub fn new(include: &[impl AsRef<str>], exclude: &[impl AsRef<str>]) -> Result<Filter, PatternError> {
        Ok(Filter { include: patterns("include", include)?, exclude: patterns("exclude", exclude)? })
    }

    /// Whether it takes `name`.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        self.takes_thing(&[name])
    }

    /// Whether it takes a thing of these names: each pattern is compared with each name.
    #[must_use]
    pub fn takes_thing(&self, names: &[&str]) -> bool {
        let has = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| names.iter().any(|name| pattern.matches_with(name, OPTIONS)))
        };
        (self.include.is_empty() || has(&self.include)) && !has(&self.exclude)
    }

    /// Whether it leaves out `name` and all names that begin with it.
    #[must_use]
    pub fn leaves_out_all_of(&self, name: &str) -> bool {
        let goes_on = |pattern: &&Pattern| pattern.as_str().ends_with('*');
        self.exclude.iter().filter(goes_on).any(|pattern| pattern.matches_with(name, OPTIONS))
    }

    /// Whether it takes all names.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

fn patterns(list: &'static str, texts: &[impl AsRef<str>]) -> Result<Vec<Pattern>, PatternError> {
    let pattern = |(index, text): (usize, &str)| {
        let wrong = |problem| PatternError { list, index, pattern: shortened(text).to_owned(), problem };
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return Err(wrong(format!("a pattern has 1 to {PATTERN_BYTES_MAX} bytes")));
        }
        Pattern::new(text).map_err(|error| wrong(problem(error.msg).to_owned()))
    };
    texts.iter().map(AsRef::as_ref).enumerate().map(pattern).collect()
}

/// The crate speaks of files here.
fn problem(message: &str) -> &str {
    match message {
        "invalid range pattern" => "a `[` has no `]`; write `[[]` for a `[` itself",
        _ => "`**` and `***` have no meaning; write `*`",
    }
}

/// A filter that remembers its answers for the rows of a file, so that a row whose name stayed costs one comparison.
#[derive(Debug, Default)]
pub(crate) struct RowFilter {
    filter: Filter,
    /// The name of each row and whether it is taken.
    known: Vec<(Vec<u8>, bool)>,
}

impl RowFilter {
    /// The rows that `filter` takes.
    pub(crate) fn new(filter: Filter) -> RowFilter {
        RowFilter { filter, known: Vec::new() }
    }

    /// Whether the `row`th row of a file, which is called `name`, is taken.
    pub(crate) fn takes(&mut self, row: usize, name: &[u8]) -> bool {
        if self.filter.takes_all() {
            return true;
        }
        match self.known.get_mut(row) {
            Some((known, taken)) if known == name => *taken,
            Some(known) => {
                name.clone_into(&mut known.0);
                known.1 = self.filter.takes(&String::from_utf8_lossy(name));
                known.1
            }
            None => {
                let taken = self.filter.takes(&String::from_utf8_lossy(name));
                self.known.push((name.to_vec(), taken));
                taken
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [&str; 0] = [];

    #[test]
    fn patterns_match_whole_names_across_slashes() {
        let takes = |pattern: &str, name: &str| Filter::new(&[pattern], &NONE).unwrap().takes(name);
        for (pattern, name) in [
            ("/var/*", "/var/lib/docker/x"),
            ("*", ""),
            ("lxc[0-9a-f][0-9a-f]*", "lxc0a9"),
            ("[!v]*", "eth0"),
            ("???", "eth"),
            ("a[[]b", "a[b"),
            ("*.mount", ".a.mount"),
        ] {
            assert!(takes(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("/var/*", "/var"), ("veth", "veth0"), ("lxc[0-9a-f][0-9a-f]*", "lxcbr0"), ("eth?", "ETH0"), ("???", "et")]
        {
            assert!(!takes(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_excluded_stays_out_whatever_includes_it() {
        let filter = Filter::new(&["/*"], &["/boot", "vfat"]).unwrap();
        assert!(filter.takes_thing(&["/", "ext4"]) && !filter.takes_thing(&["/efi", "vfat"]));
        assert!(!filter.takes_thing(&["/boot", "ext4"]) && !filter.takes_thing(&["efi", "ext4"]));
        assert!(Filter::new(&NONE, &["a"]).unwrap().takes("b"));
    }

    #[test]
    fn what_is_no_pattern_is_told_with_its_place() {
        let told = |include: &[&str], exclude: &[&str]| {
            let error = Filter::new(include, exclude).unwrap_err();
            (error.list, error.index, error.to_string())
        };
        let bracket = "\"a[b\" is no pattern: a `[` has no `]`; write `[[]` for a `[` itself";
        assert_eq!(told(&["x", "a[b"], &[]), ("include", 1, bracket.to_owned()));
        let stars = "\"a**\" is no pattern: `**` and `***` have no meaning; write `*`";
        assert_eq!(told(&[], &["a**"]), ("exclude", 0, stars.to_owned()));
        assert!(told(&[""], &[]).2.ends_with("a pattern has 1 to 256 bytes"));
        assert!(told(&[&"x".repeat(257)], &[]).2.len() < 150);
    }

    #[test]
    fn rows_that_change_their_names_are_asked_for_again() {
        let mut rows = RowFilter::new(Filter::new(&NONE, &["veth*"]).unwrap());
        assert!(rows.takes(0, b"lo") && !rows.takes(1, b"veth1"));
        assert!(!rows.takes(0, b"veth1") && rows.takes(1, b"\xff"));
        assert!(RowFilter::default().takes(7, b"any"));
    }
}
