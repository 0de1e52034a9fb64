//! The alerts that are on, as bytes that outlive the daemon.
//!
//! One line says what this is. Each alert is a line of JSON. The last line has the number of alerts and the CRC-32C of all
//! lines before it, so that a file that was cut or changed is not believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::Transition;

/// The size of all alerts that are saved. Those beyond are left out: they are told again after a restart if they go on.
pub const SAVED_BYTES_MAX: usize = 8 << 20;

const FIRST_LINE: &str = "kymo alerts 1\n";

/// An alert that is on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedAlert {
    /// The rule's name.
    pub rule: String,
    /// The table that it watches.
    pub table: String,
    /// `firing` or `no data`.
    pub state: Transition,
    /// When it fired, µs since the epoch.
    pub since_us: i64,
    /// The worst value since then, if there was one.
    pub peak: Option<f64>,
    /// The labels of its series by name. Without those that may have any text.
    pub labels: BTreeMap<String, String>,
    /// Who was told.
    pub notify: Vec<String>,
}

/// The alerts as bytes, and how many were left out as they would take more than [`SAVED_BYTES_MAX`].
#[must_use]
pub fn encode(alerts: &[SavedAlert]) -> (Vec<u8>, usize) {
    let mut bytes = FIRST_LINE.as_bytes().to_vec();
    let mut kept = 0;
    for alert in alerts {
        // Maps with text keys, numbers and texts can all be written as JSON.
        let Ok(line) = serde_json::to_vec(alert) else { continue };
        if bytes.len() + line.len() + 1 > SAVED_BYTES_MAX {
            break;
        }
        bytes.extend(line);
        bytes.push(b'\n');
        kept += 1;
    }
    let last = format!("{kept} alerts, crc32c {:08x}\n", crc32c::crc32c(&bytes));
    bytes.extend(last.as_bytes());
    (bytes, alerts.len() - kept)
}

/// The alerts in `bytes`.
///
/// # Errors
/// What is wrong with the bytes, in words.
pub fn decode(bytes: &[u8]) -> Result<Vec<SavedAlert>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if !text.starts_with(FIRST_LINE) {
        return Err(format!("it does not begin with {:?}", FIRST_LINE.trim_end()));
    }
    let body = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).map_or("", |(body, _)| body);
    // With the newline that ends it.
    let (body, last) = text.split_at((body.len() + 1).min(text.len()));
    let alerts = body.lines().skip(1).map(serde_json::from_str).collect::<Result<Vec<SavedAlert>, _>>();
    let count = body.lines().count().saturating_sub(1);
    if last != format!("{count} alerts, crc32c {:08x}\n", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum is wrong, or its end is missing".into());
    }
    let alerts = alerts.map_err(|error| error.to_string())?;
    match alerts.iter().find(|alert| !alert.state.is_on()) {
        Some(alert) => Err(format!("an alert of {:?} is {}, which is over", alert.rule, alert.state.as_str())),
        None => Ok(alerts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(rule: &str, peak: f64) -> SavedAlert {
        SavedAlert {
            rule: rule.into(),
            table: "disk".into(),
            state: Transition::Firing,
            since_us: 1_700_000_000_000_000,
            peak: Some(peak).filter(|peak| peak.is_finite()),
            labels: BTreeMap::from([("device".into(), "a\n\"b".into())]),
            notify: vec!["log".into()],
        }
    }

    #[test]
    fn alerts_come_back_as_they_were() {
        for alerts in [vec![], vec![alert("one", 0.1 + 0.2)], vec![alert("two \u{1F980}", f64::NAN), alert("", -1e300)]]
        {
            let (bytes, left_out) = encode(&alerts);
            assert_eq!((decode(&bytes), left_out), (Ok(alerts), 0));
        }
    }

    #[test]
    fn any_damage_is_noticed() {
        let (bytes, _) = encode(&[alert("one", 1.5), alert("two", 2.5)]);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                assert!(decode(&damaged).is_err(), "bit {bit} of byte {position}");
            }
        }
        assert!(decode(&[bytes.clone(), bytes].concat()).is_err());
    }

    #[test]
    fn the_size_is_bounded() {
        let alerts = vec![alert(&"x".repeat(1 << 20), 1.0); 10];
        let (bytes, left_out) = encode(&alerts);
        assert!(bytes.len() <= SAVED_BYTES_MAX + 100);
        assert_eq!((decode(&bytes).map(|alerts| alerts.len()), left_out), (Ok(7), 3));
    }
}
