//! The file TIERS: the buckets of all tables that have not ended, so that a start goes on with them.
//!
//! It is replaced at every flush, after the tiers' files and before those of rows. So it is what tells which rows are in the
//! tiers: a file of a tier that goes beyond it is of an interrupted flush, and the next start deletes it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::buckets::{Buckets, Head, Run, Taken};
use super::series::{Key, Series};
use crate::family::{FamilyId, PerFamily};
use crate::record::Table;

/// The file, in the data folder.
pub(in crate::store) const FILE: &str = "TIERS";
/// What it begins with. The number is that of its layout.
const MAGIC: &[u8] = b"kymo tiers 2\n";
/// It is small, and written often.
const ZSTD_LEVEL: i32 = 1;
/// A larger one is not read.
const BYTES_MAX: usize = 1 << 30;

/// The file's bytes.
pub(super) fn write<'a>(tables: impl IntoIterator<Item = &'a Buckets>) -> io::Result<Vec<u8>> {
    let mut out = Out(Vec::new());
    tables.into_iter().for_each(|buckets| out.table(buckets));
    let packed = zstd::bulk::compress(&out.0, ZSTD_LEVEL)?;
    Ok([MAGIC, &crc32c::crc32c(&packed).to_le_bytes(), &(out.0.len() as u64).to_le_bytes(), &packed].concat())
}

/// The buckets of each table that it has as they are now; `None` if it is damaged.
pub(super) fn read(bytes: &[u8]) -> Option<PerFamily<Option<Buckets>>> {
    let (checksum, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let (length, packed) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= BYTES_MAX)?;
    if crc32c::crc32c(packed) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let bytes = zstd::bulk::decompress(packed, length).ok()?;
    let mut found = PerFamily::default();
    let mut rest = In(&bytes);
    while !rest.0.is_empty() {
        rest.table(&mut found)?;
    }
    Some(found)
}

/// What the columns of a table are. Buckets of others cannot be gone on with.
fn described(table: &Table) -> String {
    let columns = table
        .columns
        .iter()
        .map(|column| format!("{} {:?} {:?} {:?}", column.name, column.kind, column.role, column.ty));
    columns.collect::<Vec<_>>().join("\n")
}

struct Out(Vec<u8>);

impl Out {
    fn word(&mut self, word: u64) {
        self.0.extend_from_slice(&word.to_le_bytes());
    }

    /// Many words in one go.
    fn words(&mut self, words: &[u64]) {
        let start = self.0.len();
        self.0.resize(start + size_of_val(words), 0);
        let (places, _) = self.0[start..].as_chunks_mut::<{ size_of::<u64>() }>();
        places.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.word(count as u64);
    }

    fn number(&mut self, number: i64) {
        self.word(number.cast_unsigned());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn key(&mut self, buckets: &Buckets, key: Key) {
        let table = buckets.family.table;
        key.labels.iter().take(table.labels().count()).for_each(|part| self.text(buckets.series.text(*part)));
        key.identities.iter().take(table.identities().count()).for_each(|part| self.number(*part));
    }

    fn table(&mut self, buckets: &Buckets) {
        self.text(buckets.family.name());
        self.text(&described(buckets.family.table));
        let place = self.0.len();
        self.count(0);
        self.buckets(buckets);
        // Its length is known only now.
        let length = (self.0.len() - place - size_of::<u64>()) as u64;
        self.0[place..place + size_of::<u64>()].copy_from_slice(&length.to_le_bytes());
    }

    fn buckets(&mut self, buckets: &Buckets) {
        let [seconds, minutes] = buckets.next_seqs;
        [buckets.end_seq, buckets.gap_end_seq, seconds, minutes].into_iter().for_each(|word| self.word(word));
        self.text(&buckets.collector);
        self.word(u64::from(buckets.has_seconds));
        self.word(u64::from(buckets.missed.is_some()));
        let missed = buckets.missed.iter().flatten();
        self.count(missed.clone().count());
        missed.for_each(|(second, lost)| {
            self.number(*second);
            self.number(*lost);
        });
        self.count(buckets.hosts.len());
        buckets.hosts.iter().for_each(|host| self.text(host));
        self.count(buckets.runs.len());
        for (slot, run) in buckets.runs.iter().enumerate() {
            self.key(buckets, buckets.series.key(slot));
            let Run { seen_us, second, in_second, minute, in_minute } = *run;
            let Taken { ticks, elapsed_us } = in_second;
            [seen_us, second, ticks, elapsed_us, minute].into_iter().for_each(|number| self.number(number));
            let Taken { ticks, elapsed_us } = in_minute;
            [ticks, elapsed_us].into_iter().for_each(|number| self.number(number));
        }
        for heads in &buckets.ended {
            self.count(heads.len());
            for Head { start, key, taken: Taken { ticks, elapsed_us }, missed, host } in heads {
                self.key(buckets, *key);
                let numbers = [*start, *ticks, *elapsed_us, missed.unwrap_or(-1)];
                numbers.into_iter().for_each(|number| self.number(number));
                self.count(*host);
            }
        }
        let mut words = Vec::new();
        for column in &buckets.columns {
            words.clear();
            column.words(&mut words);
            self.words(&words);
        }
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    /// How many of something follow, each of which takes a byte at least.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.word()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    fn number(&mut self) -> Option<i64> {
        Some(self.word()?.cast_signed())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes()?).ok()
    }

    /// Reads the buckets of the next table, unless kymo has no such table.
    fn table(&mut self, found: &mut PerFamily<Option<Buckets>>) -> Option<()> {
        let (name, columns) = (self.text()?, self.text()?);
        let mut bytes = In(self.bytes()?);
        let family = FamilyId::find(name).filter(|family| family.has_tiers && described(family.table) == columns);
        if let Some(family) = family {
            found[family] = Some(bytes.buckets(family).filter(|_| bytes.0.is_empty())?);
        }
        Some(())
    }

    fn buckets(&mut self, family: FamilyId) -> Option<Buckets> {
        let (end_seq, gap_end_seq) = (self.word()?, self.word()?);
        let next_seqs = [self.word()?, self.word()?];
        let mut buckets = Buckets::new(family, end_seq, next_seqs);
        buckets.gap_end_seq = gap_end_seq;
        buckets.collector = self.text()?.into();
        buckets.has_seconds = self.word()? != 0;
        let knows_missed = self.word()? != 0;
        let mut missed = BTreeMap::new();
        for _ in 0..self.count()? {
            missed.insert(self.number()?, self.number()?);
        }
        buckets.missed = knows_missed.then_some(missed);
        for _ in 0..self.count()? {
            buckets.hosts.push(Arc::from(self.text()?));
        }
        for _ in 0..self.count()? {
            let key = self.key(family, &mut buckets.series)?;
            // Each series has its own labels, or its number would not be the next one.
            if buckets.series.slot(key) as usize != buckets.runs.len() {
                return None;
            }
            let (seen_us, second, in_second) = (self.number()?, self.number()?, self.taken()?);
            let (minute, in_minute) = (self.number()?, self.taken()?);
            buckets.runs.push(Run { seen_us, second, in_second, minute, in_minute });
        }
        for tier in 0..buckets.ended.len() {
            for _ in 0..self.count()? {
                let key = self.key(family, &mut buckets.series)?;
                let (start, taken, missed) = (self.number()?, self.taken()?, self.number()?);
                let host = usize::try_from(self.word()?).ok().filter(|host| *host < buckets.hosts.len())?;
                buckets.ended[tier].push(Head { start, key, taken, missed: (missed >= 0).then_some(missed), host });
            }
        }
        let (words, rest) = self.0.as_chunks();
        if !rest.is_empty() {
            return None;
        }
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let mut rest = &words[..];
        let ended = [buckets.ended[0].len(), buckets.ended[1].len()];
        for column in &mut buckets.columns {
            column.take_words(&mut rest, buckets.runs.len(), ended)?;
        }
        self.0 = &[];
        rest.is_empty().then_some(buckets)
    }

    fn taken(&mut self) -> Option<Taken> {
        Some(Taken { ticks: self.number()?, elapsed_us: self.number()? })
    }

    fn key(&mut self, family: FamilyId, series: &mut Series) -> Option<Key> {
        let mut key = Key::default();
        for (part, _) in key.labels.iter_mut().zip(family.table.labels()) {
            *part = series.intern(self.text()?);
        }
        for (part, _) in key.identities.iter_mut().zip(family.table.identities()) {
            *part = self.number()?;
        }
        Some(key)
    }
}
