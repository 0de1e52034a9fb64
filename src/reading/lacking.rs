//! What a host does not give of a family that has one row.

use crate::record::gather::Gather;
use crate::record::{ABSENT, Kind, Record, Type};
use crate::words::list;

/// Names the columns that are absent in `record`, for people; `None` if none is. Allocates.
pub(crate) fn lacking<R: Record>(record: &R) -> Option<String> {
    let columns = R::TABLE.columns;
    let mut gather = Gather::new(columns.len(), 1);
    R::gather(&[std::slice::from_ref(record)], &mut gather);
    let values = gather.finish();
    let is_absent = |nth: usize| match columns[nth].ty {
        Type::Int64 => values.typed_data::<i64>()[nth] == ABSENT,
        Type::Float64 => values.typed_data::<f64>()[nth].is_nan(),
        Type::Timestamp | Type::Text => false,
    };
    let values = (0..columns.len()).filter(|nth| matches!(columns[*nth].kind, Kind::Counter | Kind::Gauge));
    let absent: Vec<&str> = values.filter(|nth| is_absent(*nth)).map(|nth| columns[nth].name).collect();
    (!absent.is_empty()).then(|| format!("NULL, because this kernel does not count them: {}", list(absent)))
}
