//! Session options: what a client sets once for all of its calls.
//!
//! They are kept by the client, in a cookie, and come with each call. So the server keeps nothing, and has nothing to expire.
//! arrow-flight has no messages for them, so they are declared here.

use std::collections::HashMap;
use std::time::Duration;

use prost::{Message, Oneof};
use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::query::request::Options;
use crate::query::{CATALOG, INFORMATION_SCHEMA, SCHEMA};
use crate::words;

/// The name of the cookie: the one by which Flight's own servers keep sessions without state.
const COOKIE: &str = "arrow_flight_session";
/// A header by which one call gets its times in another unit.
const TIMESTAMPS_HEADER: &str = "kymo-timestamps";
/// What stands in a cookie for an option that is not set.
const UNSET: &str = "-";

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl CloseSessionResult {
    pub(super) const CLOSED: CloseSessionResult = CloseSessionResult { status: 1 };
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    /// A [`Refusal`].
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Refusal {
    InvalidName = 1,
    InvalidValue = 2,
}

#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

/// The options of a call: those of its session, and what its headers add.
///
/// # Errors
/// When a header or the cookie has a value that no option takes.
pub(super) fn options(metadata: &MetadataMap) -> Result<Options, Status> {
    let mut options = match cookie(metadata) {
        Some(value) => read(value).ok_or_else(|| {
            Status::invalid_argument(format!(
                "the cookie {COOKIE} was not made by this version of kymo: close the session, or send no cookie"
            ))
        })?,
        None => Options::default(),
    };
    if let Some(value) = metadata.get(TIMESTAMPS_HEADER) {
        let unit = value.to_str().ok().and_then(in_nanoseconds);
        options.nanoseconds = unit
            .ok_or_else(|| Status::invalid_argument(format!("the header {TIMESTAMPS_HEADER} is neither us nor ns")))?;
    }
    Ok(options)
}

/// Changes the options of a session. Returns those that hold now, and which changes were refused.
pub(super) fn set(
    mut options: Options,
    request: SetSessionOptionsRequest,
    time_max: Duration,
) -> (Options, SetSessionOptionsResult) {
    let mut errors = HashMap::new();
    for (name, OptionValue { value }) in request.session_options {
        if let Err(refusal) = change(&mut options, &name, value.as_ref(), time_max) {
            errors.insert(name, OptionError { value: refusal as i32 });
        }
    }
    (options, SetSessionOptionsResult { errors })
}

fn change(options: &mut Options, name: &str, value: Option<&Value>, time_max: Duration) -> Result<(), Refusal> {
    let text = match value {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    match (name, value) {
        ("catalog", None) => {}
        ("catalog", _) if text == Some(CATALOG) => {}
        ("schema", None) => options.schema = None,
        ("schema", _) => options.schema = Some(text.and_then(schema).ok_or(Refusal::InvalidValue)?.to_owned()),
        ("timestamps", None) => options.nanoseconds = false,
        ("timestamps", _) => options.nanoseconds = text.and_then(in_nanoseconds).ok_or(Refusal::InvalidValue)?,
        ("time_max", None) => options.time_us_max = None,
        ("time_max", Some(value)) => {
            let limit = duration(value).filter(|limit| *limit <= time_max && !limit.is_zero());
            let us = limit.and_then(|limit| u64::try_from(limit.as_micros()).ok());
            options.time_us_max = Some(us.ok_or(Refusal::InvalidValue)?);
        }
        ("catalog", _) => return Err(Refusal::InvalidValue),
        _ => return Err(Refusal::InvalidName),
    }
    Ok(())
}

/// The name of a schema that there is.
fn schema(name: &str) -> Option<&'static str> {
    [SCHEMA, INFORMATION_SCHEMA].into_iter().find(|known| *known == name)
}

fn in_nanoseconds(unit: &str) -> Option<bool> {
    match unit {
        "us" => Some(false),
        "ns" => Some(true),
        _ => None,
    }
}

/// A duration such as `5s`, or a number of seconds.
fn duration(value: &Value) -> Option<Duration> {
    match value {
        Value::Text(text) => words::parse_duration(text),
        Value::Int(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::Double(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Value::Bool(_) | Value::Texts(_) => None,
    }
}

/// The options as clients read them.
pub(super) fn told(options: &Options, time_max: Duration) -> GetSessionOptionsResult {
    let unit = if options.nanoseconds { "ns" } else { "us" };
    let limit = words::duration(options.time_max(time_max));
    let told = [
        ("catalog", CATALOG.to_owned()),
        ("schema", options.schema_name().to_owned()),
        ("time_max", limit),
        ("timestamps", unit.to_owned()),
    ];
    let value = |text| OptionValue { value: Some(Value::Text(text)) };
    GetSessionOptionsResult { session_options: told.map(|(name, text)| (name.to_owned(), value(text))).into() }
}

/// The header that has a client keep these options, or forget its cookie.
pub(super) fn set_cookie(options: Option<&Options>) -> Result<MetadataValue<Ascii>, Status> {
    let cookie = match options {
        Some(options) => format!("{COOKIE}={}; Path=/", write(options)),
        None => format!("{COOKIE}={UNSET}; Path=/; Max-Age=0"),
    };
    cookie.parse::<MetadataValue<Ascii>>().map_err(|error| Status::internal(format!("writing the cookie: {error}")))
}

fn write(Options { schema, time_us_max, nanoseconds }: &Options) -> String {
    let limit = time_us_max.map_or_else(|| UNSET.to_owned(), |us| us.to_string());
    let unit = if *nanoseconds { "ns" } else { "us" };
    format!("{}.{limit}.{unit}", schema.as_deref().unwrap_or(UNSET))
}

fn read(cookie: &str) -> Option<Options> {
    let mut parts = cookie.split('.');
    let (named, limit, unit) = (parts.next()?, parts.next()?, parts.next()?);
    let schema = if named == UNSET { None } else { Some(schema(named)?.to_owned()) };
    let time_us_max = if limit == UNSET { None } else { Some(limit.parse().ok()?) };
    let options = Options { schema, time_us_max, nanoseconds: in_nanoseconds(unit)? };
    parts.next().is_none().then_some(options)
}

/// The value of the session's cookie.
fn cookie(metadata: &MetadataMap) -> Option<&str> {
    let headers = metadata.get_all("cookie").into_iter().filter_map(|header| header.to_str().ok());
    let pairs = headers.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value.trim_matches('"')).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn options_are_kept_in_the_cookie() {
        let all = Options { schema: Some(INFORMATION_SCHEMA.into()), time_us_max: Some(1_500_000), nanoseconds: true };
        for options in [all, Options::default()] {
            let set = set_cookie(Some(&options)).unwrap();
            let (cookie, _) = set.to_str().unwrap().split_once(';').unwrap();
            let mut metadata = MetadataMap::new();
            metadata.append("cookie", format!("other=1; {cookie}").parse().unwrap());
            assert_eq!(super::options(&metadata).unwrap(), options);
            // As some clients quote it.
            let (name, value) = cookie.split_once('=').unwrap();
            metadata.insert("cookie", format!("{name}=\"{value}\"").parse().unwrap());
            assert_eq!(super::options(&metadata).unwrap(), options);
        }
    }

    #[test]
    fn other_cookies_and_headers_are_refused() {
        for value in ["", "1", "-.-", "private.-.us", "-.x.us", "-.-.ms", "-.-.us.1"] {
            let mut metadata = MetadataMap::new();
            metadata.insert("cookie", format!("{COOKIE}={value}").parse().unwrap());
            assert!(options(&metadata).unwrap_err().message().contains(COOKIE), "{value}");
        }
        let mut metadata = MetadataMap::new();
        metadata.insert(TIMESTAMPS_HEADER, "ns".parse().unwrap());
        assert!(options(&metadata).unwrap().nanoseconds);
        metadata.insert(TIMESTAMPS_HEADER, "s".parse().unwrap());
        assert!(options(&metadata).unwrap_err().message().contains(TIMESTAMPS_HEADER));
    }

    #[test]
    fn only_known_options_take_values_and_only_some() {
        for (name, value, expected) in [
            ("catalog", Some(text("kymo")), Ok(())),
            ("catalog", Some(text("other")), Err(Refusal::InvalidValue)),
            ("schema", Some(text("public")), Ok(())),
            ("schema", Some(text("PUBLIC")), Err(Refusal::InvalidValue)),
            ("schema", Some(Value::Int(1)), Err(Refusal::InvalidValue)),
            ("timestamps", Some(text("ns")), Ok(())),
            ("timestamps", Some(text("ms")), Err(Refusal::InvalidValue)),
            ("time_max", Some(text("1.5s")), Ok(())),
            ("time_max", Some(Value::Int(60)), Ok(())),
            ("time_max", Some(Value::Double(0.25)), Ok(())),
            ("time_max", Some(Value::Int(61)), Err(Refusal::InvalidValue)),
            ("time_max", Some(Value::Int(0)), Err(Refusal::InvalidValue)),
            ("time_max", Some(Value::Double(f64::NAN)), Err(Refusal::InvalidValue)),
            ("time_max", Some(Value::Bool(true)), Err(Refusal::InvalidValue)),
            ("time_max", None, Ok(())),
            ("autocommit", Some(text("true")), Err(Refusal::InvalidName)),
        ] {
            assert_eq!(change(&mut Options::default(), name, value.as_ref(), MINUTE), expected, "{name} {value:?}");
        }
    }

    #[test]
    fn what_was_set_is_told() {
        let value = |value| OptionValue { value };
        let request = SetSessionOptionsRequest {
            session_options: [
                ("schema".to_owned(), value(Some(text("information_schema")))),
                ("time_max".to_owned(), value(Some(text("5s")))),
                ("color".to_owned(), value(Some(text("red")))),
            ]
            .into(),
        };
        let (options, result) = set(Options::default(), request, MINUTE);
        assert_eq!(result.errors.keys().collect::<Vec<_>>(), ["color"]);
        let told = told(&options, MINUTE).session_options;
        let of = |name: &str| told[name].value.clone().unwrap();
        assert_eq!((of("catalog"), of("schema")), (text("kymo"), text("information_schema")));
        assert_eq!((of("time_max"), of("timestamps")), (text("5s"), text("us")));
    }
}
