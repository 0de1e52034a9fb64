//! Sums of lines that have a name and a number for each CPU.
//!
//! `/proc/interrupts` and `/proc/softirqs` have such lines. They are long on hosts with many CPUs, and most are the
//! same as a tick ago. A line with the same bytes keeps its sum without being parsed.

use super::counter::growth;
use super::counter::wraps::{RANGE_32_BITS, wrapped};
use super::outcome::Outcome;
use super::text::{lines, number, text, with_room, words};

/// The lines of one file below its heading, as last parsed.
#[derive(Debug)]
pub(crate) struct Sums<L> {
    /// The first line, which names the CPUs.
    heading: Vec<u8>,
    /// The first line before that one changed.
    heading_before: Vec<u8>,
    lines: Vec<Line<L>>,
    /// The labels are to be made anew.
    has_stale_labels: bool,
}

#[derive(Debug)]
struct Line<L> {
    bytes: Vec<u8>,
    numbers: Numbers,
    /// What wraps took from the sum, and CPUs that went offline.
    lost: i64,
    labels: L,
}

/// A line without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// The number of the line below the heading.
    pub(crate) row: usize,
    /// The text before the colon.
    pub(crate) name: &'a [u8],
    /// The text after the last number.
    pub(crate) rest: &'a [u8],
}

impl<L> Default for Sums<L> {
    fn default() -> Sums<L> {
        Sums { heading: Vec::new(), heading_before: Vec::new(), lines: Vec::new(), has_stale_labels: false }
    }
}

impl<L: Copy> Sums<L> {
    /// Has the labels of all lines made anew at the next tick.
    pub(crate) fn forget_labels(&mut self) {
        self.has_stale_labels = true;
    }

    /// Takes a tick's bytes of `file`. Calls `label` for lines whose name or rest is new.
    pub(crate) fn read(
        &mut self,
        file: &'static str,
        bytes: &[u8],
        outcome: &mut Outcome,
        mut label: impl FnMut(Named<'_>) -> L,
    ) {
        let mut found = lines(bytes);
        let heading = found.next().unwrap_or_default();
        let same_cpus = self.heading == heading;
        if !same_cpus {
            std::mem::swap(&mut self.heading, &mut self.heading_before);
            heading.clone_into(&mut self.heading);
        }
        let mut count = 0;
        let has_stale_labels = std::mem::take(&mut self.has_stale_labels);
        for (row, bytes) in found.enumerate() {
            count += 1;
            if self.lines.get(row).is_none_or(|line| line.bytes != bytes) {
                self.change(row, bytes, same_cpus, &mut label);
            }
            if has_stale_labels && let Some(line) = self.lines.get_mut(row) {
                line.labels = label(line.numbers.named(row, &line.bytes));
            }
            if self.lines.get(row).is_some_and(|line| line.numbers.sum.is_none() && !line.has_words_only()) {
                outcome.fail(file, format!("not understood: {}", text(bytes)));
            }
        }
        self.lines.truncate(count);
    }

    /// Takes a line that differs from the known one at `row`. Added and removed lines move those below them.
    fn change(&mut self, row: usize, bytes: &[u8], same_cpus: bool, label: &mut impl FnMut(Named<'_>) -> L) {
        let numbers = Numbers::new(bytes);
        let now = numbers.named(row, bytes);
        match self.lines.iter().skip(row).position(|line| line.numbers.named(row, &line.bytes) == now) {
            Some(0) => (),
            Some(below) => self.lines.swap(row, row + below),
            None => {
                let labels = label(now);
                self.lines.insert(row, Line { bytes: with_room(bytes), numbers, lost: 0, labels });
                return;
            }
        }
        let Sums { heading, heading_before, lines, .. } = self;
        if let Some(line) = lines.get_mut(row) {
            line.change(bytes, numbers, (!same_cpus).then_some((heading_before, heading)));
        }
    }

    /// The sum and the labels of each line.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (i64, L)> {
        self.lines.iter().filter_map(|line| Some((line.numbers.sum?.saturating_add(line.lost), line.labels)))
    }
}

impl<L: Copy> Line<L> {
    /// Whether it has words in place of numbers: some interrupts of 32-bit ARM only name a handler.
    fn has_words_only(&self) -> bool {
        let Numbers { name_end, rest_at, .. } = self.numbers;
        let blank_follows = self.bytes.get(name_end + 1) == Some(&b' ');
        name_end > 0 && blank_follows && self.bytes.get(rest_at).is_some_and(u8::is_ascii_alphabetic)
    }

    /// Takes the line's new bytes. `headings` are the old and the new heading if other CPUs are online now.
    fn change(&mut self, bytes: &[u8], numbers: Numbers, headings: Option<(&[u8], &[u8])>) {
        if let (Some(before), Some(now)) = (self.numbers.sum, numbers.sum) {
            self.lost = match headings {
                // The kernel omits CPUs that are offline, and keeps their counts.
                Some((heading_before, heading)) => {
                    let counts_before = self.numbers.by_cpu(heading_before, &self.bytes);
                    let grown = grown(counts_before, numbers.by_cpu(heading, bytes));
                    self.lost.saturating_add(before).saturating_add(grown).saturating_sub(now)
                }
                // Each CPU counts in 32 bits.
                None => match wrapped(before, now, RANGE_32_BITS) {
                    Some(lost) => self.lost.saturating_add(lost),
                    None if now < before => 0,
                    None => self.lost,
                },
            };
        }
        self.numbers = numbers;
        bytes.clone_into(&mut self.bytes);
    }
}

/// What the CPUs that are in both lists grew by. The lists have the CPUs' numbers in rising order, with their counts.
fn grown(before: impl Iterator<Item = (i64, i64)>, now: impl Iterator<Item = (i64, i64)>) -> i64 {
    let mut before = before.peekable();
    let mut grown = 0_i64;
    for (cpu, now) in now {
        while before.next_if(|(other, _)| *other < cpu).is_some() {}
        if let Some((_, before)) = before.next_if(|(other, _)| *other == cpu) {
            let taken = wrapped(before, now, RANGE_32_BITS).unwrap_or(0);
            grown = grown.saturating_add(growth(before, now.saturating_add(taken)));
        }
    }
    grown
}

/// A line's numbers, and what stands around them.
#[derive(Debug)]
struct Numbers {
    /// Where the name ends.
    name_end: usize,
    /// Where the text after the last number begins.
    rest_at: usize,
    /// Their sum; `None` for a line that is not understood.
    sum: Option<i64>,
}

impl Numbers {
    /// A line has as many numbers as there are CPUs, or one, as in `ERR`; so it is read up to the first other word.
    fn new(bytes: &[u8]) -> Numbers {
        let Some(name_end) = bytes.iter().position(|byte| *byte == b':') else {
            return Numbers { name_end: 0, rest_at: 0, sum: None };
        };
        let mut rest_at = name_end + 1;
        let (mut sum, mut number) = (None, None);
        for (at, byte) in (rest_at..).zip(bytes.get(rest_at..).unwrap_or_default()) {
            match byte {
                b'0'..=b'9' => number = Some(append(number, *byte)),
                b' ' | b'\t' => {
                    if number.is_some() {
                        (sum, number) = (add(sum, number), None);
                    }
                    rest_at = at + 1;
                }
                // A word that is no number: the rest began where it begins.
                _ => return Numbers { name_end, rest_at, sum },
            }
        }
        Numbers { name_end, rest_at: bytes.len(), sum: add(sum, number) }
    }

    /// The CPUs that `heading` names, each with its number in the line `bytes`.
    fn by_cpu<'a>(&self, heading: &'a [u8], bytes: &'a [u8]) -> impl Iterator<Item = (i64, i64)> + use<'a> {
        let cpus = words(heading).filter_map(|cpu| number(cpu.strip_prefix(b"CPU")?));
        cpus.zip(words(bytes.get(self.name_end + 1..self.rest_at).unwrap_or_default()).filter_map(number))
    }

    /// The line without them.
    fn named<'a>(&self, row: usize, bytes: &'a [u8]) -> Named<'a> {
        let part = |from, to| bytes.get(from..to).unwrap_or_default().trim_ascii();
        Named { row, name: part(0, self.name_end), rest: part(self.rest_at, bytes.len()) }
    }
}

fn append(number: Option<i64>, digit: u8) -> i64 {
    number.unwrap_or(0).saturating_mul(10).saturating_add(i64::from(digit - b'0'))
}

fn add(sum: Option<i64>, number: Option<i64>) -> Option<i64> {
    match (sum, number) {
        (Some(sum), Some(number)) => Some(i64::saturating_add(sum, number)),
        (sum, number) => sum.or(number),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGE: i64 = RANGE_32_BITS;

    /// Reads a file over and over.
    #[derive(Default)]
    struct Reader {
        sums: Sums<usize>,
        named: Vec<String>,
    }

    impl Reader {
        /// Sums, with the name and the rest; and the error.
        fn read(&mut self, bytes: &[u8]) -> (Vec<(i64, String)>, Option<String>) {
            let named = &mut self.named;
            let label = |line: Named<'_>| {
                named.push(format!("{} {}={}", line.row, text(line.name), text(line.rest)));
                named.len() - 1
            };
            let mut outcome = Outcome::default();
            self.sums.read("x", bytes, &mut outcome, label);
            let rows = self.sums.rows().map(|(sum, label)| (sum, self.named[label].clone())).collect();
            (rows, outcome.into_result().err().map(|error| error.to_string()))
        }

        /// The sum of the only line, below `heading`.
        fn sum(&mut self, heading: &str, line: &str) -> i64 {
            self.read(format!("{heading}\n{line}\n").as_bytes()).0[0].0
        }
    }

    #[test]
    fn a_line_is_a_name_numbers_and_the_rest() {
        let mut reader = Reader::default();
        let (rows, error) =
            reader.read(b" CPU0 CPU3\n  1: 2  3  IO-APIC 5-edge  i8042 \nERR:\t4\nx:y\n9z: 5 6a 7\n:1\ncut: 1");
        assert_eq!(
            rows,
            [(5, "0 1=IO-APIC 5-edge  i8042".into()), (4, "1 ERR=".into()), (5, "3 9z=6a 7".into()), (1, "4 =".into())]
        );
        assert_eq!(error.as_deref(), Some("read x: not understood: x:y"));
        for bad in [&b""[..], b"name", b"name:", b"name: \t", b"name: -1 2", b": \xff"] {
            assert_eq!(Numbers::new(bad).sum, None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_only_names_a_handler_has_no_row_and_is_no_error() {
        let (rows, error) = Reader::default().read(b"CPU0\nFIQ:              usb_fiq\n 1: 2 x\n");
        assert_eq!((rows, error), (vec![(2, "1 1=x".into())], None));
        let (_, error) = Reader::default().read(b"CPU0\nFIQ:  \n");
        assert!(error.is_some());
    }

    #[test]
    fn labels_are_made_for_new_lines_only() {
        let mut reader = Reader::default();
        reader.read(b"h\na: 1 2 x\nb: 3 4 y\n");
        reader.read(b"h\na: 1 2 x\nb: 3 5 y\n");
        assert_eq!(reader.named, ["0 a=x", "1 b=y"]);
        assert_eq!(reader.read(b"h\nb: 3 5 y\na: 1 2 x\nc: 1\n").0.len(), 3);
        assert_eq!(reader.named[2..], ["2 c="]);
        assert_eq!(reader.read(b"h\nb: 3 5 z\n").0, [(8, "0 b=z".into())]);
        assert_eq!(reader.read(b"h\n").0, []);
        assert_eq!(reader.read(b"").0, []);
    }

    #[test]
    fn sums_go_on_where_a_cpus_number_starts_again() {
        let mut reader = Reader::default();
        assert_eq!(reader.sum("CPU0 CPU1", "a: 4294967290 4000000000 x"), 8_294_967_290);
        assert_eq!(reader.sum("CPU0 CPU1", "a: 4 4000000001 x"), 8_294_967_301);
        assert_eq!(reader.sum("CPU0 CPU1", "a: 5 4000000001 x"), 8_294_967_302);
        assert_eq!(reader.sum("CPU0 CPU1", "a: 6 1 x"), 8_589_934_599);
        // Another thing of the same name starts from what it has.
        assert_eq!(reader.sum("CPU0 CPU1", "a: 7 2 y"), 9);
    }

    #[test]
    fn sums_fall_where_a_device_goes_and_not_where_a_cpu_does() {
        let mut reader = Reader::default();
        assert_eq!(reader.sum("CPU0 CPU1", "a: 4294967295 2000000000 x"), 6_294_967_295);
        assert_eq!(reader.sum("CPU0 CPU1", "a: 0 0 x"), 0);
        assert_eq!(reader.sum("CPU0 CPU1", "a: 4294967295 7 x"), 4_294_967_302);
        assert_eq!(reader.sum("CPU1", "a: 7 x"), 4_294_967_302);
        assert_eq!(reader.sum("CPU1", "a: 9 x"), 4_294_967_304);
        assert_eq!(reader.sum("CPU0 CPU1", "a: 4294967295 9 x"), 4_294_967_304);
        assert_eq!(reader.sum("CPU0 CPU1", "a: 4294967295 10 x"), 4_294_967_305);
    }

    #[test]
    fn sums_go_on_with_the_cpus_that_stay() {
        let mut reader = Reader::default();
        assert_eq!(reader.sum("CPU0 CPU1 CPU10", "a: 10 20 4294967295 x"), 4_294_967_325);
        assert_eq!(reader.sum("CPU1 CPU10", "a: 25 4 x"), 4_294_967_335, "one wraps and one is gone");
        assert_eq!(reader.sum("CPU0 CPU1 CPU2 CPU10", "a: 12 26 1000 4 x"), 4_294_967_336, "others come");
        assert_eq!(reader.sum("CPU0 CPU1 CPU2 CPU10", "a: 13 26 1001 4 x"), 4_294_967_338);
        // A line with one number.
        assert_eq!(reader.sum("CPU0 CPU1", "ERR: 7"), 7);
        assert_eq!(reader.sum("CPU0", "ERR: 9"), 9);
    }

    proptest! {
        /// Over any course of counts that wrap, and of CPUs that go offline and come back, a sum grows by what the CPUs
        /// grew by between reads that had them.
        #[test]
        fn sums_grow_by_what_cpus_grew_by(
            first in prop::array::uniform4(0..RANGE),
            course in prop::collection::vec(prop::array::uniform4((0..RANGE / 20, 0..8_u8)), 1..20),
        ) {
            let mut reader = Reader::default();
            let mut online = [true; 4];
            let mut counts = first;
            let mut read = |counts: &[i64; 4], online: &[bool; 4]| {
                let there = || (0..4).filter(|cpu| online[*cpu]);
                let heading = there().map(|cpu| format!(" CPU{cpu}")).collect::<Vec<_>>().concat();
                let numbers = there().map(|cpu| format!(" {}", counts[cpu] % RANGE)).collect::<Vec<_>>().concat();
                reader.sum(&heading, &format!("a:{numbers} x"))
            };
            let mut expected = read(&counts, &online);
            for changes in course {
                for (cpu, (grows, dice)) in changes.into_iter().enumerate() {
                    // One CPU stays.
                    let is_online = cpu == 0 || dice > 1;
                    if is_online {
                        counts[cpu] += grows;
                        expected += if online[cpu] { grows } else { 0 };
                    }
                    online[cpu] = is_online;
                }
                prop_assert_eq!(read(&counts, &online), expected);
            }
        }
    }

    #[test]
    fn lines_that_move_keep_what_they_have() {
        let mut reader = Reader::default();
        reader.read(b"h\na: 4294967295 x\nb: 4294967295 y\n");
        let sums = |(rows, _): (Vec<(i64, String)>, _)| rows.into_iter().map(|(sum, _)| sum).collect::<Vec<_>>();
        assert_eq!(sums(reader.read(b"h\na: 1 x\nb: 2 y\n")), [RANGE + 1, RANGE + 2]);
        assert_eq!(sums(reader.read(b"h\nnew: 5\na: 1 x\nb: 3 y\n")), [5, RANGE + 1, RANGE + 3]);
        assert_eq!(sums(reader.read(b"h\nb: 3 y\n")), [RANGE + 3]);
    }

    /// 512 CPUs, each with the greatest number that there is.
    #[test]
    fn many_cpus_have_a_right_sum() {
        let cpus = " CPU".repeat(512);
        let numbers = format!("{:>11}", u32::MAX).repeat(512);
        let mut reader = Reader::default();
        assert_eq!(reader.sum(&cpus, &format!("TIMER:{numbers}")), 512 * i64::from(u32::MAX));
        // A 64-bit number may be there as well, and then the sum stays at the greatest.
        assert_eq!(reader.sum(&cpus, &format!("TIMER:{numbers} 18446744073709551615")), i64::MAX);
    }
}
