//! A segment's frames as record batches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;

use super::encode::type_name;
use super::frame::{self, Broken, Header, Kind, MAGIC};
use super::queue::WAITING_BYTES_MAX;
use crate::batch::columns;
use crate::family::{FamilyId, PerFamily};
use crate::record::{ABSENT, Table, Type};
use crate::store::hot::HotBatch;

/// Rows of a batch at most, unless one frame has more.
const BATCH_ROWS_MAX: usize = 65_536;
/// Tables of a segment at most: kymo writes no segment with more.
const TABLES_MAX: usize = 4_096;
/// In search of a whole frame, checksums of so many bytes are computed at most: a second's work at the slowest.
const CHECKED_BYTES_MAX: usize = 256 << 20;

/// What can be read of a segment.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Its number, from its first frame.
    pub number: u64,
    /// The host whose rows it has.
    pub host: Arc<str>,
    /// The wanted rows, in the order of their sequence numbers.
    pub batches: PerFamily<Vec<HotBatch>>,
    /// One more than the last sequence number of each table, of all rows.
    pub end_seqs: PerFamily<u64>,
    /// Tables with rows that this kymo cannot take: it has no such table or column, or the column has another type.
    pub foreign: Vec<String>,
    /// Frames that were read.
    pub frames: u64,
    /// Bytes that could be read, from the start.
    pub bytes: u64,
    /// Why reading ended before the end.
    pub broken: Option<Broken>,
}

/// Reads a segment up to its end or its first frame that is not whole. Of each host and family, the rows from the sequence
/// number `from` on are wanted.
#[must_use]
pub fn read(bytes: &[u8], from: &dyn Fn(&str, FamilyId) -> u64) -> Replayed {
    let mut reading = Reading { replayed: Replayed::default(), from, tables: HashMap::new() };
    reading.replayed.broken = reading.frames(bytes).err();
    for table in std::mem::take(&mut reading.tables).into_values() {
        reading.finish(table);
    }
    for (_, batches) in reading.replayed.batches.iter_mut() {
        batches.sort_by_key(|batch| batch.first_seq);
    }
    reading.replayed
}

impl Replayed {
    /// Whether reading `bytes` ended where writing was cut off: at a frame that is not whole, in what one write has at most,
    /// and with no whole frame after it. Anything else that is not whole is damage.
    #[must_use]
    pub fn is_torn(&self, bytes: &[u8]) -> bool {
        let end = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let rest = bytes.get(end..).unwrap_or_default();
        matches!(self.broken, Some(Broken::Cut | Broken::Checksum))
            && rest.len() <= WAITING_BYTES_MAX
            && !may_have_frame(rest.get(1..).unwrap_or_default())
    }
}

/// Whether a whole frame begins somewhere in `bytes`, or that takes too long to find out.
fn may_have_frame(bytes: &[u8]) -> bool {
    let mut left = CHECKED_BYTES_MAX;
    for at in 0..bytes.len() {
        let Some(len) = frame::possible_body(&bytes[at..]) else { continue };
        let Some(still) = left.checked_sub(len) else { return true };
        left = still;
        if matches!(frame::next(&bytes[at..]), Ok(Some(_))) {
            return true;
        }
    }
    false
}

struct Reading<'a> {
    replayed: Replayed,
    from: &'a dyn Fn(&str, FamilyId) -> u64,
    tables: HashMap<u16, Reader>,
}

/// The rows of a table so far.
#[derive(Debug)]
struct Reader {
    name: String,
    /// For each of the segment's columns: its position in the table, and its bytes per row.
    columns: Vec<(Option<usize>, usize)>,
    /// None for a table that this kymo cannot take.
    family: Option<FamilyId>,
    texts: Vec<String>,
    first_seq: u64,
    rows: usize,
    gathered: Vec<Gathered>,
}

/// Values of a column.
#[derive(Debug)]
enum Gathered {
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Keys(Vec<i32>),
}

impl Reading<'_> {
    fn frames(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut rest = match bytes.split_first_chunk() {
            Some((&MAGIC, rest)) => rest,
            // These bytes were never written, or never reached the device.
            Some(([0, 0, 0, 0, 0, 0, 0, 0], _)) => return Err(Broken::Checksum),
            None => return Err(Broken::Cut),
            Some(_) => return Err(Broken::Unknown("something else before it than segments of version 1")),
        };
        self.replayed.bytes = MAGIC.len() as u64;
        while let Some(frame) = frame::next(rest)? {
            self.frame(frame.header, frame.body)?;
            rest = frame.rest;
            self.replayed.frames += 1;
            self.replayed.bytes = (bytes.len() - rest.len()) as u64;
        }
        if self.replayed.frames == 0 { Err(Broken::Cut) } else { Ok(()) }
    }

    fn frame(&mut self, header: Header, body: &[u8]) -> Result<(), Broken> {
        if (header.kind == Kind::Segment) != (self.replayed.frames == 0) {
            return Err(Broken::Unknown("another place than it should"));
        }
        match header.kind {
            Kind::Segment => {
                self.replayed.number = header.sequence;
                let host = str::from_utf8(body).map_err(|_| Broken::Unknown("a host that is not UTF-8"))?;
                self.replayed.host = host.into();
            }
            Kind::Table => {
                let table = Reader::new(body).ok_or(Broken::Unknown("a table that this version does not know"))?;
                if self.tables.len() >= TABLES_MAX {
                    return Err(Broken::Unknown("a table beyond all that there can be"));
                }
                if let Some(before) = self.tables.insert(header.table, table) {
                    self.finish(before);
                }
            }
            Kind::Labels => {
                let table = described(&mut self.tables, header)?;
                table.labels(header, body).ok_or(Broken::Unknown("labels out of order"))?;
            }
            Kind::Rows => self.rows(header, body)?,
        }
        Ok(())
    }

    fn rows(&mut self, header: Header, body: &[u8]) -> Result<(), Broken> {
        let count = usize::try_from(header.count).unwrap_or(usize::MAX);
        let end = header.sequence.checked_add(u64::from(header.count));
        let end = end.ok_or(Broken::Unknown("a sequence number beyond all that there can be"))?;
        let table = described(&mut self.tables, header)?;
        let width: usize = table.columns.iter().map(|(_, width)| width).sum();
        if count.checked_mul(width) != Some(body.len()) || count == 0 {
            return Err(Broken::Unknown("another length than its rows have"));
        }
        let Some(family) = table.family else {
            if !self.replayed.foreign.contains(&table.name) {
                self.replayed.foreign.push(table.name.clone());
            }
            return Ok(());
        };
        let end_seq = &mut self.replayed.end_seqs[family];
        *end_seq = end.max(*end_seq);
        // If a file has the first rows of a frame, the rest is wanted.
        let skipped = (self.from)(&self.replayed.host, family).saturating_sub(header.sequence);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(count);
        if skipped == count {
            return Ok(());
        }
        let first_seq = header.sequence + skipped as u64;
        if table.rows > 0 && (table.first_seq + table.rows as u64 != first_seq || table.rows + count > BATCH_ROWS_MAX) {
            self.replayed.batches[family].extend(table.take(&self.replayed.host));
        }
        table.add(first_seq, count, skipped, body).ok_or(Broken::Unknown("a label that was not described"))
    }

    fn finish(&mut self, mut table: Reader) {
        if let Some(family) = table.family {
            self.replayed.batches[family].extend(table.take(&self.replayed.host));
        }
    }
}

fn described(tables: &mut HashMap<u16, Reader>, header: Header) -> Result<&mut Reader, Broken> {
    tables.get_mut(&header.table).ok_or(Broken::Unknown("a table that was not described"))
}

impl Reader {
    fn new(description: &[u8]) -> Option<Reader> {
        let mut lines = str::from_utf8(description).ok()?.split('\n');
        let name = lines.next()?;
        let family = FamilyId::find(name);
        let table = family.map(|family| family.table);
        let column = |line: &str| {
            let (column, ty) = line.split_once(' ')?;
            let width = match ty {
                "text" => 4,
                "timestamp_us" | "int64" | "float64" => 8,
                _ => return None,
            };
            let known = table.and_then(|table| table.column(column));
            Some((known.filter(|(_, known)| type_name(known.ty) == ty).map(|(at, _)| at), width))
        };
        let columns: Vec<(Option<usize>, usize)> = lines.map(column).collect::<Option<_>>()?;
        // Every row needs its time and labels, and every value a column to go to.
        let has = |at: &usize| columns.iter().filter(|(place, _)| *place == Some(*at)).count() == 1;
        let needed = |table: &Table| {
            (0..table.columns.len()).filter(|at| !table.columns[*at].nullable()).all(|at| has(&at))
                && columns.iter().all(|(place, _)| place.is_some_and(|at| has(&at)))
        };
        let family = family.filter(|_| table.is_some_and(needed));
        let gathered = table.map_or_else(Vec::new, gathered);
        Some(Reader { name: name.to_owned(), columns, family, texts: Vec::new(), first_seq: 0, rows: 0, gathered })
    }

    fn labels(&mut self, header: Header, body: &[u8]) -> Option<()> {
        if u64::try_from(self.texts.len()).ok()? != header.sequence {
            return None;
        }
        let mut rest = body;
        for _ in 0..header.count {
            let (len, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
            self.texts.push(str::from_utf8(text).ok()?.to_owned());
            rest = after;
        }
        rest.is_empty().then_some(())
    }

    /// Adds the rows of a frame without the first `skipped`. `None`, with nothing added, if a label has no text.
    fn add(&mut self, first_seq: u64, count: usize, skipped: usize, body: &[u8]) -> Option<()> {
        let mut parts = Vec::with_capacity(self.columns.len());
        let mut rest = body;
        for (place, width) in &self.columns {
            let (part, after) = rest.split_at_checked(count * width)?;
            rest = after;
            let part = part.get(skipped * width..)?;
            if *width == 4 && !part.as_chunks().0.iter().all(|key| self.has(i32::from_le_bytes(*key))) {
                return None;
            }
            parts.push(((*place)?, part));
        }
        for (at, part) in parts {
            match self.gathered.get_mut(at)? {
                Gathered::Integers(values) => {
                    values.extend(part.as_chunks().0.iter().map(|value| i64::from_le_bytes(*value)));
                }
                Gathered::Floats(values) => {
                    values.extend(part.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)));
                }
                Gathered::Keys(keys) => keys.extend(part.as_chunks().0.iter().map(|key| i32::from_le_bytes(*key))),
            }
        }
        if self.rows == 0 {
            self.first_seq = first_seq;
        }
        self.rows += count - skipped;
        Some(())
    }

    fn has(&self, key: i32) -> bool {
        usize::try_from(key).is_ok_and(|key| key < self.texts.len())
    }

    /// Takes the rows so far, which `host` recorded.
    fn take(&mut self, host: &Arc<str>) -> Option<HotBatch> {
        let table = self.family?.table;
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return None;
        }
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(&self.texts));
        let gathered = std::mem::replace(&mut self.gathered, gathered(table));
        let arrays = gathered.into_iter().zip(table.columns).map(|(gathered, column)| match gathered {
            Gathered::Integers(values) if column.ty == Type::Timestamp => Some(columns::times(values.into())),
            // A column that the segment lacks.
            Gathered::Integers(values) if values.is_empty() => Some(columns::integers(vec![ABSENT; rows].into())),
            Gathered::Floats(values) if values.is_empty() => Some(columns::floats(vec![f64::NAN; rows].into())),
            Gathered::Integers(values) => Some(columns::integers(values.into())),
            Gathered::Floats(values) => Some(columns::floats(values.into())),
            Gathered::Keys(keys) => {
                let array = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), Arc::clone(&texts));
                Some(Arc::new(array.ok()?) as ArrayRef)
            }
        });
        let batch = RecordBatch::try_new(table.schema(), arrays.collect::<Option<_>>()?).ok()?;
        Some(HotBatch::new(Arc::clone(host), self.first_seq, batch))
    }
}

fn gathered(table: &Table) -> Vec<Gathered> {
    let empty = |ty| match ty {
        Type::Timestamp | Type::Int64 => Gathered::Integers(Vec::new()),
        Type::Float64 => Gathered::Floats(Vec::new()),
        Type::Text => Gathered::Keys(Vec::new()),
    };
    table.columns.iter().map(|column| empty(column.ty)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::encode::Encoder;
    use super::*;
    use crate::batch::to_batch;
    use crate::record::Record;
    use crate::record::label::{LABELS_MAX, Labels};
    use crate::sampler::report::{Collector, Gap};
    use crate::store::hot::row_bytes;
    use arrow::compute::concat_batches;

    fn gaps(labels: &Labels, rows: std::ops::Range<i64>) -> RecordBatch {
        let row = |time: i64| Gap {
            collector: labels.intern(&format!("c{}", time % 5)),
            reason: labels.intern(&time.to_string()),
            // Some are absent.
            lost: if time % 3 == 0 { ABSENT } else { -time },
            ..Gap::absent(time)
        };
        let rows: Vec<Gap> = rows.map(row).collect();
        to_batch(&[&rows], labels, &Gap::TABLE.schema())
    }

    /// A segment, the rows that are in it, and where its frames begin.
    fn segment() -> (Vec<u8>, Vec<RecordBatch>) {
        let (labels, mut bytes) = (Labels::default(), Vec::new());
        let mut encoder = Encoder::new("a host".into());
        encoder.begin(&mut bytes, 7);
        let batches: Vec<RecordBatch> = [100..103, 103..104, 104..120].map(|rows| gaps(&labels, rows)).into();
        let mut seq = 100;
        for batch in &batches {
            encoder.rows(&mut bytes, FamilyId::of::<Gap>(), seq, batch);
            seq += batch.num_rows() as u64;
        }
        (bytes, batches)
    }

    /// What batches hold, as text.
    fn text(batches: &[RecordBatch]) -> String {
        let schema = Gap::TABLE.schema();
        let plain = |batch: &RecordBatch| {
            let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
                let to =
                    if field.data_type().is_numeric() { field.data_type() } else { &arrow::datatypes::DataType::Utf8 };
                arrow::compute::cast(column, to).unwrap()
            });
            RecordBatch::try_from_iter(schema.fields().iter().map(|field| field.name().clone()).zip(columns)).unwrap()
        };
        let plain: Vec<RecordBatch> = batches.iter().map(plain).collect();
        let all = concat_batches(&plain[0].schema(), &plain).unwrap();
        arrow::util::pretty::pretty_format_batches(&[all]).unwrap().to_string()
    }

    #[test]
    fn a_segment_has_the_texts_of_names_that_gave_way_to_others() {
        let (labels, mut bytes) = (Labels::default(), Vec::new());
        let mut encoder = Encoder::new("h".into());
        encoder.begin(&mut bytes, 7);
        let before = gaps(&labels, 100..110);
        (0..LABELS_MAX).for_each(|name| _ = labels.intern(&format!("x{name}")));
        let longer = gaps(&labels, 105..110);
        labels.give_way(&(2..9).collect());
        let after = gaps(&labels, 110..113);
        let batches = [before, longer, after];
        let mut seq = 0;
        for batch in &batches {
            encoder.rows(&mut bytes, FamilyId::of::<Gap>(), seq, batch);
            seq += batch.num_rows() as u64;
        }
        let replayed = read(&bytes, &|_, _| 0);
        assert_eq!((replayed.broken, replayed.end_seqs[FamilyId::of::<Gap>()]), (None, 18));
        let found: Vec<_> = replayed.batches[FamilyId::of::<Gap>()].iter().map(|hot| hot.batch.clone()).collect();
        assert_eq!(text(&found), text(&batches));
        assert!(text(&found).contains(" 112 ") && !text(&found).contains("too many"));
    }

    #[test]
    fn a_segment_says_what_was_appended() {
        let (bytes, batches) = segment();
        let replayed = read(&bytes, &|_, _| 0);
        assert_eq!((replayed.number, &*replayed.host, replayed.broken), (7, "a host", None));
        assert_eq!((replayed.bytes, replayed.end_seqs[FamilyId::of::<Gap>()]), (bytes.len() as u64, 120));
        let found = &replayed.batches[FamilyId::of::<Gap>()];
        assert_eq!(found.iter().map(|hot| (hot.first_seq, hot.end_seq())).collect::<Vec<_>>(), [(100, 120)]);
        assert_eq!(text(&[found[0].batch.clone()]), text(&batches));
    }

    #[test]
    fn only_wanted_rows_are_read_even_of_a_part() {
        let (bytes, batches) = segment();
        for from in 0..125 {
            let replayed = read(&bytes, &|_, _| from);
            let found: Vec<RecordBatch> =
                replayed.batches[FamilyId::of::<Gap>()].iter().map(|hot| hot.batch.clone()).collect();
            let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
            let skipped = from.saturating_sub(100).min(20);
            assert_eq!((rows as u64, replayed.end_seqs[FamilyId::of::<Gap>()]), (20 - skipped, 120));
            if rows > 0 {
                let all = crate::batch::merge(&batches).unwrap();
                assert_eq!(text(&found), text(&[all.slice(20 - rows, rows)]));
            }
        }
    }

    #[test]
    fn every_flip_and_every_cut_leaves_the_valid_prefix() {
        let (bytes, _) = segment();
        let whole = read(&bytes, &|_, _| 0).frames;
        let rows_in = |replayed: &Replayed| -> usize {
            replayed.batches[FamilyId::of::<Gap>()].iter().map(|hot| hot.batch.num_rows()).sum()
        };
        for len in 0..bytes.len() {
            let cut = read(&bytes[..len], &|_, _| 0);
            assert!(cut.frames < whole && [0, 3, 4].contains(&rows_in(&cut)), "{len}: {cut:?}");
            // A cut between two frames leaves a whole segment, of less.
            assert!(cut.broken.is_some() || cut.bytes == len as u64, "{len}");
        }
        let mut flipped = bytes.clone();
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                flipped[at] ^= 1 << bit;
                let replayed = read(&flipped, &|_, _| 0);
                assert!(replayed.broken.is_some() && replayed.bytes <= at as u64, "{at}: {replayed:?}");
                assert!([0, 3, 4].contains(&rows_in(&replayed)));
                flipped[at] ^= 1 << bit;
            }
        }
    }

    fn is_torn(bytes: &[u8]) -> bool {
        read(bytes, &|_, _| 0).is_torn(bytes)
    }

    #[test]
    fn an_end_without_a_whole_frame_is_torn_and_one_with_a_frame_is_damaged() {
        let (whole, _) = segment();
        assert!(!is_torn(&whole));
        let mut ends = vec![MAGIC.len()];
        while let Some(frame) = frame::next(&whole[ends[ends.len() - 1]..]).unwrap() {
            let at = whole.len() - frame.rest.len() - frame.body.len() - frame::HEADER_BYTES;
            assert_eq!(frame::possible_body(&whole[at..]), Some(frame.body.len()));
            ends.push(whole.len() - frame.rest.len());
        }
        for len in 0..whole.len() {
            assert_eq!(is_torn(&whole[..len]), !ends[1..].contains(&len), "{len}");
        }
        let last = ends[ends.len() - 2];
        for at in (MAGIC.len()..whole.len()).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            assert_eq!(is_torn(&bytes), at >= last, "{at}");
        }
    }

    #[test]
    fn frames_of_every_table_are_found() {
        for family in FamilyId::all() {
            let bytes = usize::try_from(row_bytes(family.table)).unwrap();
            assert!(frame::ROW_BYTES.contains(&bytes), "{}: {bytes} bytes a row", family.name());
        }
    }

    #[test]
    fn a_torn_end_has_what_one_write_has_at_most() {
        let (mut bytes, _) = segment();
        let whole = bytes.len();
        bytes.resize(whole + WAITING_BYTES_MAX, 0);
        assert!(is_torn(&bytes));
        bytes.push(0);
        assert!(!is_torn(&bytes));
    }

    #[test]
    fn bytes_that_look_like_frames_everywhere_are_kept_soon() {
        let (mut bytes, _) = segment();
        // Headers of frames with a mebibyte of rows each, one after the other, all with wrong checksums.
        let mut header = [0; frame::HEADER_BYTES];
        header[4..8].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        header[8] = Kind::Rows as u8;
        header[12..16].copy_from_slice(&1_024_u32.to_le_bytes());
        bytes.extend(header.repeat(WAITING_BYTES_MAX / header.len()));
        let replayed = read(&bytes, &|_, _| 0);
        assert_eq!(replayed.broken, Some(Broken::Checksum));
        assert!(!replayed.is_torn(&bytes));
    }

    #[test]
    fn tables_of_other_versions_are_told_and_columns_that_came_are_absent() {
        let described = |text: &str| {
            let mut bytes = MAGIC.to_vec();
            let header = |kind, count, sequence| Header { kind, table: 9, count, sequence };
            frame::append(&mut bytes, header(Kind::Segment, 0, 1), |body| body.push(b'h'));
            frame::append(&mut bytes, header(Kind::Table, 0, 0), |body| body.extend_from_slice(text.as_bytes()));
            let row = |body: &mut Vec<u8>| {
                let widths = text.lines().skip(1).map(|line| if line.ends_with("text") { 4 } else { 8 });
                widths.for_each(|width| body.extend_from_slice(&[0; 8][..width]));
            };
            frame::append(&mut bytes, header(Kind::Labels, 1, 0), |body| body.extend_from_slice(&[0; 4]));
            frame::append(&mut bytes, header(Kind::Rows, 1, 5), row);
            read(&bytes, &|_, _| 0)
        };
        let old = described("collector\ntime timestamp_us\ncollector text\nticks int64");
        assert_eq!((old.broken, old.foreign.len()), (None, 0));
        let batch = &old.batches[FamilyId::of::<Collector>()][0].batch;
        let nulls: Vec<usize> = batch.columns().iter().map(|column| column.null_count()).collect();
        assert_eq!(nulls.iter().sum::<usize>(), Collector::TABLE.columns.len() - 3);
        for foreign in [
            "unheard\ntime timestamp_us\nx int64",
            "gap\ntime timestamp_us\ncollector text\nreason text\nfrom_us float64",
            "gap\ntime timestamp_us\ncollector text\nreason text\nwas_us int64",
            "gap\ncollector text\nreason text\nfrom_us int64",
        ] {
            let replayed = described(foreign);
            assert_eq!((replayed.foreign.len(), replayed.broken), (1, None), "{foreign}: {replayed:?}");
        }
        assert!(described("gap\ntime timestamp_us\nx decimal").broken.is_some());
    }
}
