//! Functions that people know from elsewhere.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::functions_nested::all_default_nested_functions;
use datafusion::functions_window::all_default_window_functions;

use super::super::function::burst;
use super::text::{between, first_line};
use crate::words::shortened;

/// What to write instead of a function that kymo does not have.
const INSTEAD: &[(&str, &str)] = &[
    ("approx_count_distinct", "use approx_distinct(x)"),
    ("arg_max", "over windows, use first_value(x) OVER (PARTITION BY label ORDER BY y DESC)"),
    ("arg_min", "over windows, use first_value(x) OVER (PARTITION BY label ORDER BY y)"),
    ("columns", "name the columns; SHOW COLUMNS FROM cpu lists them"),
    ("delta", "use max(x) - min(x), or x - lag(x) OVER (ORDER BY time)"),
    ("derivative", "use rate(counter, time) GROUP BY its labels"),
    ("deriv", "use rate(counter, time) GROUP BY its labels"),
    ("difference", "use x - lag(x) OVER (PARTITION BY label ORDER BY time)"),
    ("first", "use first_value(x ORDER BY time), or first(x, time)"),
    ("fill", "join with generate_series(…), or use last_value(x) IGNORE NULLS OVER (ORDER BY time)"),
    (
        "equi_width_bins",
        "the bins of width_bucket(x, 0, 1, 10) have equal widths; generate_series(0, 10) lists numbers",
    ),
    ("geomean", "use exp(avg(ln(x)))"),
    ("histogram", "group by width_bucket(x, 0, 1, 10), or by x, and count"),
    ("histogram_quantile", "use percentile_cont(0.99) WITHIN GROUP (ORDER BY x)"),
    ("irate", "use rate(counter, time) over the rows of the last second"),
    ("instant_rate", "use rate(counter, time) over the rows of the last second"),
    ("json_agg", "use array_agg(x): a list is sent as one; kymo query --format json prints JSON"),
    ("json_build_object", "use named_struct('name', x): it is sent as a struct; kymo query --format json prints JSON"),
    ("json_object", "use named_struct('name', x): it is sent as a struct; kymo query --format json prints JSON"),
    ("last", "use last_value(x ORDER BY time), or last(x, time)"),
    ("len", "use length(x) for a text and cardinality(x) for a list"),
    ("list_aggregate", "use SELECT sum(x) FROM (SELECT unnest(list) AS x)"),
    ("list_sum", "use SELECT sum(x) FROM (SELECT unnest(list) AS x)"),
    ("list_value", "write ARRAY[1, 2]"),
    ("mad", "use median(abs(x - m)) with the median m of an inner query"),
    ("max_rate", "use peak_rate(counter, time, interval '100 ms') GROUP BY its labels"),
    ("mean", "use avg(x)"),
    ("non_negative_derivative", "use rate(counter, time) GROUP BY its labels"),
    ("non_negative_difference", "use increase(counter, time) GROUP BY its labels; it accounts for resets"),
    ("obj_description", "SHOW COLUMNS FROM cpu lists columns, and kymo tables cpu says what they mean"),
    ("pg_sleep", "a statement that waits would only reach its time limit; let the client wait"),
    ("product", "use exp(sum(ln(x)))"),
    ("regexp_extract_all", "use regexp_extract(text, pattern), which gives the first"),
    ("regexp_split_to_array", "use string_to_array(text, ','), or regexp_replace(text, pattern, ',', 'g') within it"),
    ("row_to_json", "select the columns themselves: kymo query --format json prints JSON"),
    ("selector_first", "use first_value(x ORDER BY time)"),
    ("selector_last", "use last_value(x ORDER BY time)"),
    ("sem", "use stddev(x) / sqrt(count(x))"),
    ("sleep", "a statement that waits would only reach its time limit; let the client wait"),
    ("state_duration", "use time_above(condition, time) or longest_run(condition, time) GROUP BY the labels"),
    ("struct_pack", "use named_struct('name', x)"),
    ("time_below", "use time_above(NOT condition, time) GROUP BY the labels"),
    ("typeof", "use pg_typeof(x) or arrow_typeof(x)"),
    ("to_json", "select the columns themselves: kymo query --format json prints JSON"),
];

/// Functions of kymo that are neither DataFusion's nor of bursts.
const OWN: [&str; 2] = ["increase", "rate"];

/// A suggestion is at least this similar (Jaro-Winkler, 0…1).
const SIMILARITY_MIN: f64 = 0.88;

static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let scalar = datafusion::functions::all_default_functions().into_iter().chain(all_default_nested_functions());
    let scalar = scalar.map(|known| known.name().to_owned());
    let aggregate = all_default_aggregate_functions().into_iter().map(|known| known.name().to_owned());
    let window = all_default_window_functions().into_iter().map(|known| known.name().to_owned());
    scalar
        .chain(aggregate)
        .chain(window)
        .chain(OWN.map(str::to_owned))
        .chain(burst::names().map(str::to_owned))
        .collect()
});

/// The hint for a function that does not exist.
pub(super) fn unknown_function(name: &str) -> String {
    let name = shortened(name);
    let lower = name.to_lowercase();
    if let Some((_, instead)) = INSTEAD.iter().find(|(other, _)| *other == lower) {
        return format!("there is no function `{name}`: {instead}");
    }
    let similarity = |other: &&String| match strsim::damerau_levenshtein(&lower, other) {
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(&lower, other),
    };
    let closest = KNOWN.iter().max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    match closest.filter(|other| similarity(other) >= SIMILARITY_MIN) {
        Some(other) => format!("there is no function `{name}`; did you mean `{other}`?"),
        None => format!("there is no function `{name}`: SHOW FUNCTIONS lists those that there are"),
    }
}

/// The hint for a function that is called with arguments which it does not take.
pub(super) fn wrong_arguments(message: &str) -> String {
    // What the function itself says.
    if let Some((_, said)) = message.split_once("coercion failed with: ") {
        let said = said.split(" No function matches").next().unwrap_or(said);
        return first_line(said).trim_end_matches('.').to_owned();
    }
    if let Some(call) = between(message, "argument types '", "'") {
        let name = call.split('(').next().unwrap_or(call);
        return format!(
            "{name} does not take these arguments: {call}. SHOW FUNCTIONS LIKE '{name}' says what it takes"
        );
    }
    match between(message, "Function '", "'") {
        Some(name) => {
            let received = between(message, "but received ", " (").unwrap_or("this type");
            format!(
                "{name} does not take {received}: cast it, as in x::bigint; SHOW FUNCTIONS LIKE '{name}' says what it takes"
            )
        }
        None => "the function does not take these arguments: SHOW FUNCTIONS says what it takes".into(),
    }
}
